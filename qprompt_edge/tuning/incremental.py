"""A class more, or photos more, without the photos that a prompt was tuned on (class-incremental learning).

Rows of residuals are independent: a row that gets no photo stays as it is. What the other rows know is all
that is left of the photos they were tuned on, so pseudo-photos stand in for those (pseudo-rehearsal; Robins,
Connection Science 1995):

    x = (a - m w_c) w_c + m + g
        w_c: the class's feature; g: a random direction across it, so long that |x| = 1
    a = mean cos(x_new, t_new)
        the usual cosine of a photo to its class, from the new photos and their words
    m = K / (K + 2) mean_k (m_k - (m_k t_k) t_k)
        what photos have in common, whatever they show; m_k: the mean of the new photos of class k, for the
        K classes that have new photos

Without them a new class would take the old ones' photos: nothing would hold its offset down, nor keep it from
what one camera's photos have in common. The classes that stay are one column of the softmax, log sum exp of
their logits, since only its value counts for the rows that are tuned. All offsets count beside the mean of
those that were tuned before, the level of the prompt (`levels`), so that a new row starts at that level.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.tuning.calibration import HeldOutScores, folds
from qprompt_edge.tuning.config import TrainingConfig
from qprompt_edge.tuning.qtaskres import (
    OFFSETS,
    RESIDUALS,
    cross_entropy,
    importance,
    loss_scale,
    offset_unit,
    reparameterization,
)
from qprompt_edge.tuning.quantizer import Clustering, Codebook, cluster
from qprompt_edge.tuning.trainer import TrainingState, codes_of, forward_weights, run
from qprompt_runtime.arrays import Array
from qprompt_runtime.class_head import ClassHead
from qprompt_runtime.packing import MAX_BITS

PSEUDO_PHOTOS = 16
"""Of a class that gets no photos; one that gets some has as many as it was tuned on."""
_MOST_PSEUDO = 256
_DOUBT = 2  # classes' worth of doubt that what new photos have in common is common to all
_LEAST_ACROSS = 0.2
_LEAST_ALONG = np.float32(0.05)


@dataclass(frozen=True)
class KnownClasses:
    """What a prompt knows of its classes, new ones among them.

    Attributes:
        text: float32 [C,E], rows t_c of length 1.
        residuals: float32 [C,E]; zero for a class without a row.
        offsets: float32 [C].
        photos: int64 [C], how many each was tuned on; 0 for a new class.
        codebook: float32 [k], ascending, which rows take their values from; None where there is none yet.
        bits: Bits a weight; 16 and 32 for no quantizer.
    """

    text: Array
    residuals: Array
    offsets: Array
    photos: NDArray[np.int64]
    codebook: Array | None
    bits: float

    @property
    def level(self) -> float:
        """The mean of the offsets that were tuned: how high these classes score beside others (`levels`)."""
        tuned = self.residuals.any(axis=1)
        return float(self.offsets[tuned].mean()) if tuned.any() else 0.0

    @property
    def head(self) -> ClassHead:
        """What scores photos."""
        raw = self.text + self.residuals
        return ClassHead(raw / np.linalg.norm(raw, axis=1, keepdims=True), self.offsets, 1.0)

    def with_rows(self, rows: TunedRows) -> KnownClasses:
        """The classes with rows that were tuned."""
        residuals, offsets = self.residuals.copy(), self.offsets.copy()
        residuals[rows.classes], offsets[rows.classes] = rows.residuals, rows.offsets
        return replace(self, residuals=residuals, offsets=offsets)


@dataclass(frozen=True)
class TunedRows:
    """Rows that were tuned.

    Attributes:
        classes: int64 [K], whose they are.
        residuals: float32 [K,E], as a reader of the file gets them.
        offsets: float32 [K].
        indices: uint8 [K,E] into `codebook`, or None where nothing is quantized.
        scales: float16 [K], or None.
        codebook: float16 [k], or None; the prompt's own, unless that had no two values.
    """

    classes: NDArray[np.int64]
    residuals: Array
    offsets: Array
    indices: NDArray[np.uint8] | None
    scales: NDArray[np.float16] | None
    codebook: NDArray[np.float16] | None


@dataclass(frozen=True)
class RowObjective:
    """Cross-entropy of photos and pseudo-photos, for some rows among classes that stay as they are.

    Attributes:
        text: float32 [K,E] of the rows.
        features: float32 [N,E].
        columns: int64 [N]; the row of each photo's class, K if that class stays.
        others: float32 [N], log sum exp of the logits of those that stay.
        scale: s of the loss.
        share: float32 [N,1], m_c / n_c of each photo.
    """

    text: Array
    features: Array
    columns: NDArray[np.int64]
    others: Array
    scale: np.float32
    share: Array

    def __call__(
        self, weights: Mapping[str, Array], photos: NDArray[np.int64], epoch: int
    ) -> tuple[float, dict[str, Array]]:
        """The loss of all photos, which are the batch of every epoch; see `trainer.Objective`."""
        return cross_entropy(
            self.text,
            weights,
            lambda block: self.features[block],
            self.columns,
            self.scale,
            self.share,
            self.others,
        )


def usual_cosine(text: Array, features: Array, labels: NDArray[np.int64]) -> float:
    """Mean cosine of photos [N,E] to the words of their classes [C,E]."""
    return float((features * text[labels]).sum(axis=1).mean())


def common_part(text: Array, features: Array, labels: NDArray[np.int64]) -> Array:
    """What photos may have in common whatever they show: float32 [E], see the top of this module."""
    classes = np.unique(labels)
    means = np.stack([features[labels == label].mean(axis=0) for label in classes])
    beside = means - (means * text[classes]).sum(axis=1, keepdims=True) * text[classes]
    common: Array = beside.mean(axis=0) * np.float32(len(classes) / (len(classes) + _DOUBT))
    return common


def pseudo_photos(
    classes: Array, counts: NDArray[np.int64], cosine: float, common: Array, seed: int
) -> tuple[Array, NDArray[np.int64]]:
    """Features that are to a class as its photos may be.

    Args:
        classes: float32 [C,E], rows w_c of length 1.
        counts: int64 [C], how many of each.
        cosine: Of each to its class, above 0 or nearly so.
        common: float32 [E], a part of all.
        seed: Of the directions.

    Returns:
        float32 [N,E], rows of length 1, and int64 [N] labels.
    """
    labels = np.repeat(np.arange(len(classes)), counts)
    centre = classes[labels]
    along = np.maximum(np.float32(cosine) - centre @ common, _LEAST_ALONG)
    photos = along[:, None] * centre + common
    across = np.random.default_rng([seed, 5]).standard_normal(centre.shape, np.float32)
    across -= (across * centre).sum(axis=1, keepdims=True) * centre
    length = np.sqrt(np.maximum(1 - (photos**2).sum(axis=1, keepdims=True), _LEAST_ACROSS**2))
    photos = photos + across * (length / np.linalg.norm(across, axis=1, keepdims=True))
    made: Array = photos / np.linalg.norm(photos, axis=1, keepdims=True)
    return made, labels


def tune_rows(
    known: KnownClasses, features: Array, labels: NDArray[np.int64], config: TrainingConfig
) -> TunedRows:
    """Tune the rows of the classes that photos are given of.

    Args:
        known: The classes.
        features: float32 [N,E], new photos.
        labels: int64 [N], their classes.
        config: How residuals are tuned.
    """
    head, classes, level = known.head, np.unique(labels), np.float32(known.level)
    new = np.bincount(labels, minlength=len(known.text))
    stood_for = np.where(new > 0, known.photos, PSEUDO_PHOTOS)
    made, made_labels = pseudo_photos(
        head.features,
        np.minimum(stood_for, _MOST_PSEUDO),
        usual_cosine(known.text, features, labels),
        common_part(known.text, features, labels),
        config.seed,
    )
    features, labels = np.concatenate([features, made]), np.concatenate([labels, made_labels])
    columns = np.full(len(known.text), len(classes))
    columns[classes] = np.arange(len(classes))
    stay, scale = columns == len(classes), loss_scale(len(known.text))
    share = importance(known.photos + new) / np.maximum(np.bincount(labels, minlength=len(columns)), 1)
    objective = RowObjective(
        known.text[classes],
        features,
        columns[labels],
        _log_sum_exp(scale * (head.scores(features)[:, stay] - level)),
        scale,
        share[labels, None].astype(np.float32),
    )
    how, config = reparameterization(scale), replace(config, batch_size=None)
    if known.codebook is not None:
        config = replace(config, clustering=Clustering(interval=config.epochs + 1))  # never anew
    one_class = np.zeros(len(labels), np.int64)  # all photos in each step; their shares balance the classes
    state = _start(known, classes, scale)
    state = run(state, objective, one_class, config, reparameterization=how)
    weights, codes = forward_weights(state, how), codes_of(state, how).get(RESIDUALS)
    return TunedRows(
        classes,
        weights[RESIDUALS],
        weights[OFFSETS] + level,
        None if codes is None else codes.indices.reshape(weights[RESIDUALS].shape),
        None if codes is None else codes.scales,
        None if codes is None else codes.codebook,
    )


def held_out_row_scores(
    known: KnownClasses,
    features: Array,
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    config: TrainingConfig,
) -> HeldOutScores:
    """Tune the rows on parts of the new photos, and score the others; see `calibration.held_out_scores`.

    Args:
        known: The classes.
        features: float32 [N,E], new photos.
        labels: int64 [N], their classes.
        groups: int64 [N]; photos of one group stay on one side.
        config: How residuals are tuned.
    """
    scores, kept = [np.zeros((0, len(known.text)), np.float32)], [np.zeros(0, np.int64)]
    for used, away in folds(labels, groups, config.seed):
        rows = tune_rows(known, features[used], labels[used], config)
        scores.append(known.with_rows(rows).head.scores(features[away]))
        kept.append(away)
    order = np.concatenate(kept)
    return HeldOutScores(np.concatenate(scores), labels[order], features[order])


def _start(known: KnownClasses, classes: NDArray[np.int64], scale: np.float32) -> TrainingState:
    """Rows as the prompt has them, their offsets beside its level, and its codebook."""
    residuals = known.residuals[classes]
    offsets = known.offsets[classes] - np.float32(known.level)
    offsets[~residuals.any(axis=1)] = 0
    latent = {RESIDUALS: residuals, OFFSETS: offsets / offset_unit(scale)}
    books = {}
    if known.codebook is not None:
        counts = np.ones(len(known.codebook), np.int64)
        books[RESIDUALS] = Codebook(known.codebook, counts, 0, by_row=True)
    elif known.bits <= MAX_BITS:
        books[RESIDUALS] = cluster(latent[RESIDUALS], known.bits, 0, by_row=True)
    return TrainingState(0, latent, {name: np.zeros_like(array) for name, array in latent.items()}, books)


def _log_sum_exp(logits: Array) -> Array:
    """Of each row: float32 [N]; minus infinity where there are no columns."""
    if not logits.shape[1]:
        return np.full(len(logits), -np.inf, np.float32)
    most = logits.max(axis=1)
    total: Array = most + np.log(np.exp(logits - most[:, None]).sum(axis=1))
    return total
