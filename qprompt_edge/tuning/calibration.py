"""Calibration by cross-validation within the training photos: probabilities, and "none of these".

Residuals fit the photos that they learned from, so their scores for those photos are too high. Here parts of
the training photos are kept away in turn, and residuals are tuned without them. The scores of the photos that
were kept away give two things: the temperature at which "80%" is right four times in five (Guo et al., ICML
2017), and the scores that 80 to 99% of known photos reach. Photos that are nearly the same stay on one side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.data.features import Examples
from qprompt_edge.tuning import qtaskres
from qprompt_edge.tuning.config import TrainingConfig
from qprompt_edge.tuning.trainer import forward_weights, run, start
from qprompt_runtime.arrays import Array, distinct
from qprompt_runtime.class_head import ClassHead
from qprompt_runtime.none_of_these import known_scores
from qprompt_runtime.prompt_file import ACCEPT_SHARES, Calibration

_FOLDS = 5
_ENOUGH = 500
FEWEST = 20
"""Photos that could be held out, below which nothing is calibrated."""
_QUANTILES = 1000
_SCALES = np.geomspace(1.0, 200.0, 107)  # 5% apart


@dataclass(frozen=True)
class HeldOutScores:
    """Scores of training photos by residuals that were tuned without them.

    Attributes:
        scores: float32 [M,C], z.
        labels: int64 [M].
        features: float32 [M,E].
    """

    scores: Array
    labels: NDArray[np.int64]
    features: Array


def folds(
    labels: NDArray[np.int64], groups: NDArray[np.int64], seed: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Positions to tune on and to keep away, at most five times, until 500 photos were kept away.

    Args:
        labels: int64 [N].
        groups: int64 [N]; photos of one group stay on one side.
        seed: Of the order in which groups are dealt out.
    """
    rng = np.random.default_rng([seed, 4])
    part = np.zeros(len(labels), np.int64)
    for label in distinct(labels):
        members = np.flatnonzero(labels == label)
        names = rng.permutation(distinct(groups[members]))
        if len(names) < 2:
            part[members] = -1  # always tuned on
            continue
        place = {name: index % min(_FOLDS, len(names)) for index, name in enumerate(names.tolist())}
        part[members] = [place[name] for name in groups[members].tolist()]
    judged = 0
    for fold in range(_FOLDS):
        away = np.flatnonzero(part == fold)
        if not len(away) or judged >= _ENOUGH:
            return
        judged += len(away)
        yield np.flatnonzero(part != fold), away


def held_out_scores(
    text: Array,
    photos: Examples,
    groups: NDArray[np.int64],
    config: TrainingConfig,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> HeldOutScores:
    """Tune residuals on parts of the photos, and score the others.

    Args:
        text: float32 [C,E], text features of the classes.
        photos: The training photos.
        groups: int64 [N]; photos of one group stay on one side.
        config: How residuals are tuned.
        progress: Called with folds done and their number.
    """
    scores, kept = [], []
    parts = list(folds(photos.labels, groups, config.seed))
    for done, (used, away) in enumerate(parts):
        progress(done, len(parts))
        some = photos.select(used)
        tuning = qtaskres.tuning(text, some, ("", ""), seed=config.seed)
        how = qtaskres.schedule(config, some.labels, len(text))
        state = start(tuning.weights, how, tuning.reparameterization)
        state = run(state, tuning.objective, some.labels, how, reparameterization=tuning.reparameterization)
        weights = forward_weights(state, tuning.reparameterization)
        raw = text + weights[qtaskres.RESIDUALS]
        classes = raw / np.linalg.norm(raw, axis=1, keepdims=True)
        scores.append(ClassHead(classes, weights[qtaskres.OFFSETS], 1.0).scores(photos.plain[away]))
        kept.append(away)
        progress(done + 1, len(parts))
    rows = np.concatenate(kept) if kept else np.zeros(0, np.int64)
    found = np.concatenate(scores) if scores else np.zeros((0, len(text)), np.float32)
    return HeldOutScores(found, photos.labels[rows], photos.plain[rows])


def calibrate(
    held_out: HeldOutScores, nouns: Array, logit_scale: float, accept: float | None = None
) -> Calibration:
    """Calibrate on held-out scores.

    Gives the logit scale of least cross-entropy, and the scores that shares of the held-out photos reach.

    Args:
        held_out: From `held_out_scores`.
        nouns: float32 [G,E], from `none_of_these.noun_features`.
        logit_scale: The backbone's, which stays if fewer than 20 photos could be held out.
        accept: The share that is in force unless something else is asked for; None leaves "none of these"
            off.
    """
    if len(held_out.labels) < FEWEST:
        return Calibration(logit_scale)
    known = known_scores(held_out.scores, held_out.features, nouns)
    least = np.quantile(known, [1 - share for share in ACCEPT_SHARES]).astype(np.float16)
    best = float(np.float16(_best_scale(held_out.scores, held_out.labels)))
    return Calibration(best, tuple(map(float, least)), accept)


def _best_scale(scores: Array, labels: NDArray[np.int64]) -> float:
    """The scale s of least mean cross-entropy of softmax(s z).

    It is convex in s, so halving the range of scales finds what trying all of them would.
    """
    below = scores - scores.max(axis=1, keepdims=True)
    true = below[np.arange(len(labels)), labels]

    def loss(place: int) -> float:
        logits = np.float32(_SCALES[place]) * below
        sums = np.exp(logits, out=logits).sum(axis=1)
        return float((np.log(sums) - np.float32(_SCALES[place]) * true).mean(dtype=np.float64))

    first, last = 0, len(_SCALES) - 1
    while first < last:
        middle = (first + last) // 2
        if loss(middle) <= loss(middle + 1):
            last = middle
        else:
            first = middle + 1
    return float(_SCALES[first])


def joined_accept_scores(
    calibration: Calibration, photos: int, held_out: HeldOutScores, nouns: Array
) -> Calibration:
    """A calibration with the accept scores of its photos and further ones together; the rest stays.

    Of the first photos only the scores that 80 to 99% reach are known: what lies beyond counts as the nearest
    of these.

    Args:
        calibration: Of a prompt, with accept scores.
        photos: How many photos they are of.
        held_out: Scores of the further photos.
        nouns: float32 [G,E], from `none_of_these.noun_features`.
    """
    shares = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    before = np.interp(shares, ACCEPT_SHARES, calibration.accept_scores)
    added = known_scores(held_out.scores, held_out.features, nouns)
    scores = np.concatenate([before, added])
    weight = np.concatenate([np.full(_QUANTILES, photos / _QUANTILES), np.ones(len(added))])
    order = np.argsort(-scores, kind="stable")
    reached = (np.cumsum(weight[order]) - weight[order] / 2) / weight.sum()
    least = np.interp(ACCEPT_SHARES, reached, scores[order]).astype(np.float16)
    return replace(calibration, accept_scores=tuple(map(float, least)))
