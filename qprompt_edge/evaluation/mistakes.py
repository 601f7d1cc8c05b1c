"""The photos that a prompt gets wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qprompt_edge.evaluation.metrics import Labels
from qprompt_runtime.arrays import Array


@dataclass(frozen=True)
class Mistake:
    """A photo that the prompt got wrong.

    Attributes:
        path: Where it lies.
        label: Its class.
        predicted: The class that it was taken for.
        probability: Of that class, from 0 to 1.
    """

    path: Path
    label: str
    predicted: str
    probability: float

    def to_json(self) -> dict[str, str | float]:
        """As JSON can hold it."""
        return {
            "path": str(self.path),
            "label": self.label,
            "predicted": self.predicted,
            "probability": self.probability,
        }


def find_mistakes(
    paths: Sequence[Path], truth: Labels, probabilities: Array, labels: Sequence[str]
) -> tuple[Mistake, ...]:
    """The photos whose likeliest class is not the true one, the most confident first.

    Args:
        paths: N photos.
        truth: int64 [N], positions in `labels`.
        probabilities: float32 [N,C].
        labels: The C classes.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != truth)
    return tuple(
        Mistake(paths[i], labels[truth[i]], labels[predicted[i]], float(confidence[i]))
        for i in wrong[np.argsort(-confidence[wrong], kind="stable")]
    )
