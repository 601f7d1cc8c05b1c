"""QTaskRes: learn what to add to each class's text feature (TaskRes), quantized while it is learned.

    w_c = norm(t_c + r_c)            t_c: text feature of a hand-written prompt; r_c: the class's residual
    z_c = cos(x, w_c) + b_c          b_c: the class's offset; x: an image feature
    loss = sum_c m_c * mean over the photos of class c of the cross-entropy of softmax(s z)

(Yu et al., CVPR 2023, where the sum is not brought back to length 1 and there is no offset.) Residuals start
at zero, so tuning starts from zero-shot. Neither tower runs in a step: photos and text are features already.

What was measured (`docs/defaults.md`): s = 3 ln(C + 1) suits any number of classes; m_c = (n_c / 16)^(2/3)
lets a class of n_c photos go as far from its text as so few photos justify.

A step takes its photos in blocks, so that the logits of many photos over many classes are never in memory at
once. Where all photos would be more than four blocks, each step takes one block of them (`schedule`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.data.features import Examples
from qprompt_edge.tuning.config import TrainingConfig
from qprompt_edge.tuning.problem import Tuning
from qprompt_edge.tuning.trainer import Reparameterization
from qprompt_runtime.arrays import Array
from qprompt_runtime.class_head import softmax
from qprompt_runtime.prompt_file import RESIDUAL

RESIDUALS, OFFSETS = "class-residuals", "class-offsets"
_SCALE = 3.0
USUAL_SHOTS = 16
"""Photos of a class that weigh 1."""
_TRUST = 2 / 3
_LOGITS = 2**20
"""Logits of one block: an array of 4 MB."""
_BLOCKS = 4
"""All photos are a step's batch up to so many blocks."""


@dataclass(frozen=True)
class ResidualObjective:
    """Cross-entropy of cached image features against class features with residuals.

    Attributes:
        text: float32 [C,E], rows t_c of length 1.
        features: float32 [N,V,E]; V views of each training photo, the plain one first.
        labels: int64 [N].
        scale: s of the loss; that of predictions is fitted afterwards.
        importance: float32 [C], m_c; 0 for a class without a photo.
        seed: Of the choice among views.
    """

    text: Array
    features: Array
    labels: NDArray[np.int64]
    scale: np.float32
    importance: Array
    seed: int

    def __call__(
        self, weights: Mapping[str, Array], photos: NDArray[np.int64], epoch: int
    ) -> tuple[float, dict[str, Array]]:
        """The loss of a batch; see `trainer.Objective`."""
        views = self.features.shape[1]
        view = np.zeros(len(self.labels), np.int64)
        if views > 1:
            view = np.random.default_rng([self.seed, epoch, 1]).integers(views, size=len(self.labels))
        labels = self.labels[photos]
        counts = np.bincount(labels, minlength=len(self.text))
        share = (self.importance[labels] / counts[labels])[:, None].astype(np.float32)

        def images(block: slice) -> Array:
            chosen: Array = self.features[photos[block], view[photos[block]]]
            return chosen

        return cross_entropy(self.text, weights, images, labels, self.scale, share)


def cross_entropy(
    text: Array,
    weights: Mapping[str, Array],
    images: Callable[[slice], Array],
    columns: NDArray[np.int64],
    scale: np.float32,
    share: Array,
    others: Array | None = None,
) -> tuple[float, dict[str, Array]]:
    """Weighted cross-entropy of image features, and its gradient with respect to residuals and offsets.

    Args:
        text: float32 [C,E], rows t_c of length 1.
        weights: Residuals [C,E] and offsets [C].
        images: Gives the features float32 [b,E] of a block of the B photos.
        columns: int64 [B], the true class; C for one of the others.
        scale: s.
        share: float32 [B,1], weight of each photo.
        others: float32 [B], log sum exp(s z) over further classes, which stay as they are; None for no
            further classes.
    """
    raw = text + weights[RESIDUALS]
    lengths = np.linalg.norm(raw, axis=1, keepdims=True)
    classes = raw / lengths
    loss, pull, offsets = 0.0, np.zeros_like(classes), np.zeros_like(weights[OFFSETS])
    most = max(1, _LOGITS // len(text))
    for first in range(0, len(columns), most):
        block = slice(first, first + most)
        seen, true, share_of = images(block), columns[block], share[block]
        logits = seen @ classes.T
        logits += weights[OFFSETS]
        logits *= scale
        if others is not None:
            logits = np.column_stack([logits, others[block]])
        chances = softmax(logits, out=logits)
        rows = np.arange(len(true))
        loss -= float((share_of[:, 0] * np.log(np.maximum(chances[rows, true], 1e-30))).sum())
        chances[rows, true] -= 1
        slope = chances[:, : len(text)]
        slope *= scale * share_of
        pull += slope.T @ seen
        offsets += slope.sum(axis=0)
    along = (pull * classes).sum(axis=1, keepdims=True)
    return loss, {RESIDUALS: (pull - along * classes) / lengths, OFFSETS: offsets}


def schedule(config: TrainingConfig, labels: NDArray[np.int64], classes: int) -> TrainingConfig:
    """Batches for photos and classes that are too many for steps of all photos; about as many steps.

    Args:
        config: How residuals are tuned; it stays as it is if it has a batch size, or if the logits of all
            photos are at most four blocks.
        labels: int64 [N], classes of the photos.
        classes: Number C of classes.

    Returns:
        The configuration. A batch is one block of photos; it has at least one of each class in the mean, and
        every photo is in some batch.
    """
    counts = np.bincount(labels)
    most = int(counts.max())
    photos = most * np.count_nonzero(counts)  # of an epoch: every class comes as often as the largest
    logits = photos * classes
    if config.batch_size is not None or logits <= _BLOCKS * _LOGITS:
        return config
    parts = min(math.ceil(logits / _LOGITS), most, config.epochs)
    return replace(config, batch_size=math.ceil(photos / parts), epochs=math.ceil(config.epochs / parts))


def loss_scale(classes: int) -> np.float32:
    """s of the loss, for any number of classes."""
    return np.float32(_SCALE * np.log(classes + 1))


def importance(counts: NDArray[np.int64]) -> Array:
    """float32 [C], m_c of classes with n_c photos."""
    weight: Array = ((counts / USUAL_SHOTS) ** _TRUST).astype(np.float32)
    return weight


def offset_unit(scale: np.float32) -> np.float32:
    """Size of the constant feature whose weight is the learned offset.

    It is about as large as a feature's own numbers.
    """
    return np.float32(1 / np.sqrt(scale))


def reparameterization(scale: np.float32) -> Reparameterization:
    """Residuals are quantized by row.

    Offsets are learned in units of `offset_unit`, and stored in half precision.
    """
    unit = offset_unit(scale)
    return Reparameterization(
        forward=lambda learned: {
            RESIDUALS: learned[RESIDUALS],
            OFFSETS: (learned[OFFSETS] * unit).astype(np.float16).astype(np.float32),
        },
        backward=lambda _learned, gradient: {
            RESIDUALS: gradient[RESIDUALS],
            OFFSETS: gradient[OFFSETS] * unit,
        },
        by_row=frozenset({RESIDUALS}),
        plain=frozenset({OFFSETS}),
    )


def tuning(text: Array, photos: Examples, template: tuple[str, str], *, seed: int = 1) -> Tuning:
    """QTaskRes on a task.

    Args:
        text: float32 [C,E], text features of the classes by the hand-written prompt, rows of length 1.
        photos: What is tuned on; classes without a photo keep their text feature.
        template: The hand-written prompt: the text before and after a class's words.
        seed: Of the choice among views.
    """
    counts = np.bincount(photos.labels, minlength=len(text))
    scale = loss_scale(len(text))
    return Tuning(
        method=RESIDUAL,
        weights={RESIDUALS: np.zeros_like(text), OFFSETS: np.zeros(len(text), np.float32)},
        leading=RESIDUALS,
        reparameterization=reparameterization(scale),
        objective=ResidualObjective(text, photos.features, photos.labels, scale, importance(counts), seed),
        template=template,
    )
