"""Photos that probably have the wrong label.

The idea: a classifier that was learned without a photo says which class the photo looks like. If that is
clearly another class than its own, the label is doubted. Log-likelihoods are first scaled so that they are as
confident as they are right. Where classes are hard to tell apart, many photos would be doubted, so only the
most doubtful are listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.checking.cross_validation import HeldOut
from qprompt_edge.checking.findings import Mislabelled
from qprompt_runtime.arrays import Array
from qprompt_runtime.class_head import softmax

LEAST_DOUBT = 0.8
"""Probability of the other class, of the two, from which on a photo is listed."""
MOST_LISTED = 0.1
"""Share of the photos that is listed at most."""
_WRONG = 0.05  # the share of labels that may be wrong
_SCALES = np.geomspace(0.01, 10, 61)


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
        alike: Pairs of classes that cannot be told apart: a photo of the one is not suggested for the other.
    """
    judged = np.flatnonzero(held_out.judged)
    if not len(judged) or len(classes) < 2:
        return ()
    own = labels[judged]
    scores = _scale(held_out.scores[judged], own) * held_out.scores[judged]
    rows = np.arange(len(judged))
    same = np.eye(len(classes), dtype=np.bool_)
    for pair in alike:
        a, b = map(classes.index, pair)
        same[a, b] = same[b, a] = True
    others = np.where(same[own], -np.inf, scores)
    best = others.argmax(axis=1)
    margin = others[rows, best] - np.where(same[own], scores, -np.inf).max(axis=1)
    doubt = 1 / (1 + np.exp(-np.clip(margin, -50, 50)))
    order = np.argsort(-margin, kind="stable")[: int(MOST_LISTED * len(labels))]
    return tuple(
        Mislabelled(paths[judged[i]], classes[own[i]], classes[best[i]], float(doubt[i]))
        for i in order
        if doubt[i] >= LEAST_DOUBT
    )


def _scale(scores: Array, labels: NDArray[np.int64]) -> np.float32:
    """The factor of log-likelihoods that explains the labels best, if some of them are wrong.

    Args:
        scores: float32 [M,C].
        labels: int64 [M].
    """
    rows, chance = np.arange(len(labels)), _WRONG / scores.shape[1]
    losses = [
        -np.log((1 - _WRONG) * softmax(np.float32(scale) * scores)[rows, labels] + chance).mean()
        for scale in _SCALES
    ]
    return np.float32(_SCALES[int(np.argmin(losses))])
