"""Photos that probably have the wrong label.

The idea: a classifier that was learned without a photo says which class it looks like.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.checking.cross_validation import HeldOut
from qprompt_edge.checking.findings import Mislabelled


def mislabelled(
    held_out: HeldOut,
    paths: Sequence[Path],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    alike: Sequence[tuple[str, str]] = (),
) -> tuple[Mislabelled, ...]:
    """Photos that look like another class than their own, the most doubtful first.

    Args:
        held_out: Of the N photos.
        paths: The photos.
        labels: int64 [N].
        classes: The C classes' labels.
        alike: Pairs of classes that cannot be told apart; a photo of the one is not suggested for the other.
    """
    rows = np.arange(len(labels))
    own = held_out.scores[rows, labels]
    others = held_out.scores.copy()
    others[rows, labels] = -np.inf
    best = others.argmax(axis=1)
    margin = others[rows, best] - own
    return tuple(
        Mislabelled(paths[i], classes[labels[i]], classes[best[i]], float(margin[i]))
        for i in np.argsort(-margin, kind="stable")
        if margin[i] > 0.2 and held_out.judged[i]
    )
