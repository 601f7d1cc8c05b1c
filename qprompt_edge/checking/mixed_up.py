"""Pairs of classes that cannot be told apart.

The idea: each photo of two classes looks more like the one or the other, to a classifier that was learned
without it. A pair is listed if many photos look more like the other class (`SHARE`), and if that is no
accident: were at most `HARMLESS` of them alike, so many would hardly be found, even where the worst of all
pairs is looked at (Bonferroni's correction).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.checking.chance import tail
from qprompt_edge.checking.findings import MixedUp
from qprompt_edge.evaluation.intervals import wilson
from qprompt_runtime.arrays import Array

SHARE, HARMLESS = 1 / 3, 0.1
SIGNIFICANT = 0.05


def mixed_up(
    scores: Array,
    judged: NDArray[np.bool_],
    paths: Sequence[Path],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    classes: Sequence[str],
) -> tuple[MixedUp, ...]:
    """Pairs of classes that are mixed up, the worst first.

    Args:
        scores: float32 [N,C], of classifiers that were learned without the photo.
        judged: bool [N]; whether the photo's class could be learned without it.
        paths: The N photos.
        labels: int64 [N].
        groups: int64 [N]; of photos that are nearly the same only the first counts.
        classes: The C classes' labels.
    """
    first = np.zeros(len(labels), np.bool_)
    first[np.unique(groups, return_index=True)[1]] = True
    rows = np.flatnonzero(judged & first)
    beyond = (
        scores[rows] > scores[rows, labels[rows]][:, None]
    )  # [M,C]: looks more like that class than like its own
    count = np.bincount(labels[rows], minlength=len(classes))
    taken = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(taken, labels[rows], beyond)
    shares = taken / np.maximum(count, 1)[:, None]
    shares = np.triu((shares + shares.T) / 2) * ((count > 0)[:, None] & (count > 0))
    present = int((count > 0).sum())
    pairs = present * (present - 1) // 2
    found = []
    for a, b in np.argwhere(shares >= SHARE).tolist():
        photos, wrong = int(count[a] + count[b]), int(taken[a, b] + taken[b, a])
        if tail(wrong, photos, HARMLESS) * pairs >= SIGNIFICANT:
            continue
        places = rows[beyond[:, b] & (labels[rows] == a) | beyond[:, a] & (labels[rows] == b)]
        found.append(
            MixedUp(
                labels=(classes[a], classes[b]),
                photos=photos,
                wrong=wrong,
                share=float(shares[a, b]),
                interval=wilson(float(shares[a, b]), photos),
                chance=tail(photos - wrong, photos, 0.5) >= SIGNIFICANT,
                paths=tuple(paths[i] for i in places),
            )
        )
    return tuple(sorted(found, key=lambda it: -it.share))
