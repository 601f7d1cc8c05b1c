"""Are there enough photos? What fewer of them would give says what more are likely to bring.

The idea: a quick classifier learns from nearly all photos, from half of them, from a quarter and so on, and
is judged by photos that it never saw. So the gain of the last doubling is known, with an interval. On the
sets that were measured, the next doubling brings a little more than half of that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.checking.cross_validation import deal
from qprompt_edge.checking.discriminant import discriminant
from qprompt_edge.checking.findings import CurvePoint, Interval, LearningCurve
from qprompt_edge.evaluation.intervals import QUANTILE, wilson
from qprompt_runtime.arrays import Array

WORTH_IT = 0.01
"""A doubling that adds less than this to the accuracy is not worth the work."""
NEXT = (0.45, 0.57, 0.7)
"""What the next doubling brings, by what the last one did: least, likely, most (`docs/check.md`)."""
_FOLDS = 5
_JUDGED = 2000  # times that a photo is judged, all photos together, roughly
_MOST_REPEATS = 10
_HALVINGS = 4
_FEWEST = 2.0  # photos of a class, on average, at the left end
_ADDED = 1.0  # squared differences that are added to those found: no photo that changed is no proof


def learning_curve(
    features: Array, labels: NDArray[np.int64], groups: NDArray[np.int64], classes: int, seed: int = 1
) -> LearningCurve | None:
    """Accuracy by number of photos, and what twice as many would likely bring.

    Args:
        features: float32 [N,E].
        labels: int64 [N].
        groups: int64 [N]; photos that are nearly the same have the same number, and count as one.
        classes: Number of classes.
        seed: Of the splits.

    Returns:
        None where there are fewer than two classes, or too few photos for two points.
    """
    counts = np.bincount(labels, minlength=classes)
    used = float(counts[counts > 0].mean()) * (1 - 1 / _FOLDS) if len(labels) else 0.0
    halvings = min(_HALVINGS, math.floor(math.log2(used / _FEWEST)) if used > 0 else 0)
    if (counts > 0).sum() < 2 or halvings < 1:
        return None
    shares = [0.5**halving for halving in range(halvings, -1, -1)]
    repeats = max(1, min(_MOST_REPEATS, round(_JUDGED / len(labels))))
    right, learned = accuracies(features, labels, groups, classes, shares, repeats, seed)
    units = _group_means(right, groups)
    points = tuple(
        CurvePoint(float(photos), float(hits.mean()), wilson(float(units[place].mean()), units.shape[1]))
        for place, (photos, hits) in enumerate(zip(learned, right, strict=True))
    )
    gain, (low, high) = _next_gain(units[-1] - units[-2])
    room = 1 - points[-1].top1  # no accuracy is above 1
    gain, interval = min(gain, room), (min(low, room), min(high, room))
    enough = True if interval[1] < WORTH_IT else False if interval[0] > WORTH_IT else None
    return LearningCurve(points, gain, interval, enough)


def accuracies(
    features: Array,
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    classes: int,
    shares: Sequence[float],
    repeats: int,
    seed: int = 1,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Learn from shares of four fifths of the photos, judge by the last fifth, and so on in turn.

    Args:
        features: float32 [N,E].
        labels: int64 [N].
        groups: int64 [N]; photos of a group stay on one side.
        classes: Number of classes.
        shares: S shares, more than 0 to 1.
        repeats: How many times all is done, each with other parts.
        seed: Of the parts.

    Returns:
        How often each photo was right [S,N], and how many photos of a class were learned from [S].
    """
    rng = np.random.default_rng([seed, 5])
    right = np.zeros((len(shares), len(labels)))
    learned = np.zeros(len(shares))
    for _ in range(repeats):
        fold = deal(labels, groups, _FOLDS, rng)
        order = rng.permutation(int(groups.max()) + 1)[groups]  # twins side by side
        for away in range(_FOLDS):
            judged = np.flatnonzero(fold == away)
            known = np.flatnonzero(fold != away)
            known = known[np.argsort(order[known], kind="stable")]
            for place, share in enumerate(shares):
                part = known[_first_share(labels[known], share)]
                weight, bias = discriminant(features[part], labels[part], classes)
                predicted = (features[judged] @ weight + bias).argmax(axis=1)
                right[place, judged] += predicted == labels[judged]
                learned[place] += len(part) / len(np.unique(labels))
    return right / repeats, learned / (repeats * _FOLDS)


def _first_share(labels: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """Positions of the first photos of each class, at least one, in this share."""
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        chosen.append(members[: max(1, round(share * len(members)))])
    return np.concatenate(chosen)


def _group_means(figures: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """[S,N] figures of photos to [S,G] means over groups."""
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    total = np.zeros((len(figures), len(sizes)))
    np.add.at(total.T, group, figures.T)
    return total / sizes


def _next_gain(differences: NDArray[np.float64]) -> tuple[float, Interval]:
    """The likely gain of the next doubling, and its interval, from what the last one changed by group."""
    count, last = len(differences), float(differences.mean())
    spread = float(((differences - last) ** 2).sum()) + _ADDED
    half = QUANTILE * math.sqrt(spread) / (count + 2 * _ADDED)
    least, likely, most = NEXT
    low, high = last - half, last + half
    return likely * max(last, 0.0), (low * (least if low > 0 else most), max(high, 0.0) * most)
