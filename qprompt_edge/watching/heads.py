"""Many prompts on one backbone: features of a picture are compared with the classes of all of them in one product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qprompt_runtime.arrays import Array
from qprompt_runtime.class_head import ClassHead, softmax
from qprompt_runtime.none_of_these import known_beside

MOST_PREDICTIONS = 5


@dataclass(frozen=True)
class Head:
    """A prompt, ready to answer.

    Attributes:
        name: The prompt's name.
        labels: Its C classes.
        classes: What image features are compared with.
        least_score: The score below which a picture shows none of the classes; None if it does not tell.
        nouns: Which of the common nouns compete with the classes, bool [1000].
    """

    name: str
    labels: tuple[str, ...]
    classes: ClassHead
    least_score: float | None
    nouns: NDArray[np.bool_]


@dataclass(frozen=True)
class Verdict:
    """What a prompt says about a picture: the likeliest classes, best first, and whether it shows none of them."""

    predictions: tuple[tuple[str, float], ...]
    none_of_these: bool | None


class Heads:
    """The heads of all prompts, side by side.

    Args:
        heads: One for each prompt, of the same backbone.
        nouns: float32 [1000,E], the common nouns' features; None if no head tells "none of these".
    """

    def __init__(self, heads: Sequence[Head], nouns: Array | None) -> None:
        self.heads = tuple(heads)
        self._nouns = nouns
        self._features = np.concatenate([head.classes.features for head in heads])
        self._offsets = np.concatenate([head.classes.offsets for head in heads])
        ends = np.cumsum([len(head.labels) for head in heads]).tolist()
        self._parts = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def judge(self, image_features: Array) -> list[list[Verdict]]:
        """Verdicts on pictures, from their unit features [B,E]: for each picture one for each prompt."""
        scores = image_features @ self._features.T + self._offsets
        nouns = None if self._nouns is None else image_features @ self._nouns.T
        columns = [
            self._verdicts(head, scores[:, part], nouns)
            for head, part in zip(self.heads, self._parts, strict=True)
        ]
        return [list(row) for row in zip(*columns, strict=True)]

    def _verdicts(self, head: Head, scores: Array, nouns: Array | None) -> list[Verdict]:
        """One prompt's, for each picture."""
        probabilities = softmax(np.float32(head.classes.logit_scale) * scores)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :MOST_PREDICTIONS]
        refused: list[bool | None] = [None] * len(scores)
        if head.least_score is not None and nouns is not None:
            refused = (known_beside(scores, nouns[:, head.nouns]) < head.least_score).tolist()
        return [
            Verdict(tuple((head.labels[i], float(row[i])) for i in best), none)
            for row, best, none in zip(probabilities, order.tolist(), refused, strict=True)
        ]
