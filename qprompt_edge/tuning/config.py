"""How a prompt is trained: for how long, how fast, in what order; warm-up and cosine are CoOp's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.tuning.quantizer import BIT_WIDTHS, UNQUANTIZED_BITS, Clustering
from qprompt_runtime.arrays import Array, distinct

_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How prompt weights are tuned.

    What suits one method and not another has no default here: see `methods.default_training`.

    Attributes:
        epochs: Passes over the photos.
        batch_size: Photos a step; batches of one epoch are within one photo of each other. None takes all
            photos at once, so that an epoch is a step: with cached image features photos cost next to
            nothing, classes do.
        relative_rate: What `resolve_learning_rate` goes by, in units of sigma^2 / s.
        warmup_epochs: Epochs at `warmup_lr` (at most `lr`) before the cosine starts at `lr`; CoOp has one.
        bits: Bits a weight, one of `quantizer.BIT_WIDTHS`; 32 tunes without a quantizer.
        lr: Peak learning rate; None lets `resolve_learning_rate` choose it for the weights and the backbone
            at hand.
        momentum: Of SGD; at 1 bit more than about 0.6 keeps the prompt from settling (`docs/defaults.md`).
        weight_decay: L2 pull on the latent weights.
        warmup_lr: Learning rate of the warm-up.
        seed: Of everything that is drawn.
        clustering: When a codebook is reclustered.
        noise: Standard deviation of Gaussian noise that the forward pass adds to the weights, drawn anew at
            each step; QPrompt's section 3 starts from it. Nothing of it is shipped.
        fade_in: Share of the steps in which the quantizer fades in: the forward pass sees a mean of quantized
            and latent weights, of which the quantized ones weigh from 0 to 1. 0 quantizes in full from the
            start. Groups of two values are always quantized in full.
    """

    epochs: int
    batch_size: int | None
    relative_rate: float
    warmup_epochs: int
    bits: float = 1
    lr: float | None = None
    momentum: float = 0.5
    weight_decay: float = 5e-4
    warmup_lr: float = 1e-5
    seed: int = 1
    clustering: Clustering = field(default_factory=Clustering)
    noise: float = 0.0
    fade_in: float = 0.0

    def __post_init__(self) -> None:
        if self.bits not in (*BIT_WIDTHS, UNQUANTIZED_BITS):
            raise ValueError(f"bits is {self.bits}, expected one of {BIT_WIDTHS} or {UNQUANTIZED_BITS}")
        if self.epochs < 1 or (self.batch_size is not None and self.batch_size < 1) or self.seed < 0:
            raise ValueError(
                f"epochs ({self.epochs}) and batch_size ({self.batch_size}) must be at least 1, seed "
                f"({self.seed}) at least 0"
            )
        if self.lr is not None and not 0 <= self.lr < math.inf:
            raise ValueError(f"lr is {self.lr}, expected a learning rate of at least 0")
        if self.noise < 0:
            raise ValueError(f"noise is {self.noise}, expected a standard deviation of at least 0")
        if not 0 <= self.fade_in <= 1:
            raise ValueError(f"fade_in is {self.fade_in}, expected a share from 0 to 1")


def resolve_learning_rate(
    config: TrainingConfig, weights: Mapping[str, Array], logit_scale: float
) -> TrainingConfig:
    """Choose the learning rate where the configuration leaves it open.

    The loss sees weights through a layer normalisation and times s = `logit_scale`: its gradient grows as
    s / sigma for initial weights of standard deviation sigma, and what a step changes is its size over sigma.
    So lr = relative_rate * sigma^2 / s moves the prompts of any backbone by the same share; it is why CoOp's
    0.002 (for CLIP: s = 100, sigma about 0.01 to 0.02) suits no backbone with other embeddings.

    Args:
        config: The configuration; returned as it is if it has a learning rate.
        weights: Initial weights by group name.
        logit_scale: s in softmax(s * cos).
    """
    if config.lr is not None:
        return config
    variance = float(np.concatenate([array.ravel() for array in weights.values()]).var(dtype=np.float64))
    return replace(config, lr=config.relative_rate * max(variance, _LEAST_VARIANCE) / logit_scale)


def class_members(labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The photos of each class that has some, for `epoch_batches`: int64 positions in `labels` [N]."""
    return [np.flatnonzero(labels == label) for label in distinct(labels)]


def epoch_batches(
    members: Sequence[NDArray[np.int64]], config: TrainingConfig, epoch: int
) -> list[NDArray[np.int64]]:
    """Shuffled batches of photo indices for one epoch, every class as often as the largest one.

    Args:
        members: The photos of each class, from `class_members`.
        config: Batch size and seed.
        epoch: From 0; each has an order of its own.

    Returns:
        Index arrays. With equal classes each photo comes exactly once.
    """
    rng = np.random.default_rng([config.seed, epoch])
    most = max(map(len, members))
    drawn = []
    for photos in members:
        left = most
        while left > 0:
            drawn.append(rng.permutation(photos)[:left])
            left -= len(photos)
    order = rng.permutation(np.concatenate(drawn))
    batches = max(1, round(len(order) / (config.batch_size or len(order))))
    return [order] if batches == 1 else np.array_split(order, batches)


def learning_rate(step: int, steps_per_epoch: int, config: TrainingConfig) -> float:
    """Constant warm-up, then a cosine from `lr` to zero over the remaining steps.

    Args:
        step: From 0.
        steps_per_epoch: Steps in an epoch.
        config: Schedule.

    Raises:
        ValueError: The schedule has no learning rate yet.
    """
    warmup = config.warmup_epochs * steps_per_epoch
    if config.lr is None:
        raise ValueError("the configuration has no learning rate yet; call resolve_learning_rate first")
    if step < warmup:
        return min(config.warmup_lr, config.lr)
    total = config.epochs * steps_per_epoch - warmup
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total)))
