"""Scores of photos by a classifier that was learned without them.

Photos that are nearly the same are kept away together: else a wrong label would be confirmed by its photo's
twin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.checking.discriminant import discriminant
from qprompt_runtime.arrays import Array

FOLDS = 10
REPEATS = 3
LEAST_DISTINCT = 4
"""Distinct photos of a class, from which on its photos are judged."""


def deal(
    labels: NDArray[np.int64], groups: NDArray[np.int64], folds: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Deal photos out to folds, each class evenly: int64 [N], the fold of each photo.

    Args:
        labels: int64 [N].
        groups: int64 [N]; photos of a group come to the same fold, dealt out with the class of the group's
            first photo.
        folds: How many.
        rng: Decides the order.
    """
    names, first, group = np.unique(groups, return_index=True, return_inverse=True)
    fold = np.zeros(len(names), np.int64)
    start = 0
    for label in np.unique(labels[first]):
        members = rng.permutation(np.flatnonzero(labels[first] == label))
        fold[members] = (start + np.arange(len(members))) % folds
        start += len(members)  # so that small classes do not all lack in the last folds
    dealt: NDArray[np.int64] = fold[group]
    return dealt


@dataclass(frozen=True)
class HeldOut:
    """Scores of photos by classifiers that were learned without them and their twins.

    Attributes:
        scores: float32 [N,C]; see `discriminant`. Means over several ways to deal the photos out.
        judged: bool [N]; whether the photo's class had enough others to learn from.
    """

    scores: Array
    judged: NDArray[np.bool_]


def held_out_scores(
    features: Array, labels: NDArray[np.int64], groups: NDArray[np.int64], classes: int, seed: int = 1
) -> HeldOut:
    """Keep a tenth of the photos away in turn, learn from the others, and score what was kept away.

    Args:
        features: float32 [N,E].
        labels: int64 [N].
        groups: int64 [N]; photos that are nearly the same have the same number.
        classes: Number C of classes.
        seed: Of the order in which photos are dealt out.
    """
    rng = np.random.default_rng([seed, 6])
    total = np.zeros((len(labels), classes), np.float32)
    for _ in range(REPEATS):
        fold = deal(labels, groups, FOLDS, rng)
        for away in np.unique(fold):
            judged, known = fold == away, fold != away
            if not known.any():
                continue
            weight, bias = discriminant(features[known], labels[known], classes)
            total[judged] += features[judged] @ weight + bias
    distinct = np.array([len(np.unique(groups[labels == label])) for label in range(classes)])
    return HeldOut(total / np.float32(REPEATS), distinct[labels] >= LEAST_DISTINCT)
