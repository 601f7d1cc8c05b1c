"""Tuning prompt weights: SGD on latent weights, with their quantized values in the forward pass.

One step (QPrompt, section 3; schedule and optimizer as in CoOp):

    S         = coupling.forward(W)           what is shipped; W itself unless a method says otherwise
    S_q       = quantize(S)                   codebook renewed by CAC when due; S itself at 32 bits
    loss, g   = objective(S_q, batch)         g is the gradient at S_q, which passes straight through to S
    v         = momentum * v + coupling.backward(W, g) + decay * W
    W         = W - lr(step) * v

The state is a value: the same state, data and configuration give the same next state, bit for bit, so a run
that was interrupted and resumed ends like one that was not. What is tuned, and on what, is the objective's
business: a state holds any number of named groups of weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.coupling import UNCOUPLED, Coupling
from qprompt_edge.quantizer import (
    BIT_WIDTHS,
    UNQUANTIZED_BITS,
    Array,
    Clustering,
    Codebook,
    Quantized,
    cluster,
    quantize,
    renew,
)

_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True)
class TrainingConfig:
    """How prompt weights are tuned.

    Attributes:
        bits: Bits a weight, 1 to 8; 32 tunes without a quantizer.
        epochs: Passes over the photos.
        batch_size: Photos a step; batches of one epoch are within one photo of each other.
        lr: Peak learning rate; None lets `settle` choose it for the weights and the backbone at hand.
        momentum: Of SGD; at 1 bit more than about 0.6 keeps the prompt from settling (`docs/defaults.md`).
        weight_decay: L2 pull on the latent weights.
        warmup_epochs: Epochs at `warmup_lr` (at most `lr`) before the cosine starts at `lr`.
        warmup_lr: Learning rate of the warm-up.
        seed: Of everything that is drawn.
        clustering: When a codebook is renewed.
    """

    bits: int = 1
    epochs: int = 50
    batch_size: int = 32
    lr: float | None = None
    momentum: float = 0.5
    weight_decay: float = 5e-4
    warmup_epochs: int = 1
    warmup_lr: float = 1e-5
    seed: int = 1
    clustering: Clustering = field(default_factory=Clustering)

    def __post_init__(self) -> None:
        if self.bits not in (*BIT_WIDTHS, UNQUANTIZED_BITS):
            raise ValueError(f"bits is {self.bits}, expected one of {BIT_WIDTHS} or {UNQUANTIZED_BITS}")
        if min(self.epochs, self.batch_size) < 1 or self.seed < 0:
            raise ValueError("epochs and batch_size must be at least 1, the seed at least 0")


@dataclass(frozen=True)
class TrainingState:
    """Everything that the next step depends on; arrays by group name.

    Attributes:
        step: Steps done.
        latent: float32 weights that are learned, before quantization.
        velocity: float32, SGD's running sum of gradients.
        codebooks: Codebook of each shipped group; empty at 32 bits.
    """

    step: int
    latent: dict[str, Array]
    velocity: dict[str, Array]
    codebooks: dict[str, Codebook]


class Objective(Protocol):
    """Loss of a batch and its gradient, for weights by group name."""

    def __call__(
        self, weights: Mapping[str, Array], photos: NDArray[np.int64], epoch: int
    ) -> tuple[float, dict[str, Array]]:
        """Evaluate a batch.

        Args:
            weights: What the forward pass sees, float32 by group name.
            photos: Indices of the batch's photos.
            epoch: The present epoch, from 0; it may choose among a photo's augmented views.

        Returns:
            The loss, and the gradient by group name.
        """


RELATIVE_RATE = 650.0
"""The default learning rate in units of sigma^2 / s; chosen by measurement (`docs/defaults.md`)."""


def settle(config: TrainingConfig, weights: Mapping[str, Array], logit_scale: float) -> TrainingConfig:
    """Choose the learning rate where the configuration leaves it open.

    The loss sees weights through a layer normalisation and times s = `logit_scale`: its gradient grows as
    s / sigma for initial weights of deviation sigma, and what a step changes is its size over sigma. So
    lr = RELATIVE_RATE * sigma^2 / s moves the prompts of any backbone by the same share; it is why CoOp's
    0.002 (for CLIP: s = 100, sigma about 0.01 to 0.02) suits no backbone with other embeddings.

    Args:
        config: The configuration; returned as it is if it has a learning rate.
        weights: Initial weights by group name.
        logit_scale: s in softmax(s * cos).
    """
    if config.lr is not None:
        return config
    variance = float(np.concatenate([array.ravel() for array in weights.values()]).var(dtype=np.float64))
    return replace(config, lr=RELATIVE_RATE * max(variance, _LEAST_VARIANCE) / logit_scale)


def start(
    weights: Mapping[str, Array], config: TrainingConfig, coupling: Coupling = UNCOUPLED
) -> TrainingState:
    """The state before the first step.

    Args:
        weights: Initial weights by group name; they become float32.
        config: How they will be tuned.
        coupling: How shipped weights follow from them.
    """
    latent = {name: np.array(array, np.float32) for name, array in weights.items()}
    quantized = config.bits < UNQUANTIZED_BITS
    shipped = coupling.forward(latent) if quantized else {}
    books = {name: cluster(array, config.bits, 0) for name, array in shipped.items()}
    return TrainingState(0, latent, {name: np.zeros_like(array) for name, array in latent.items()}, books)


def forward_weights(state: TrainingState, coupling: Coupling = UNCOUPLED) -> dict[str, Array]:
    """What the forward pass sees: quantized values, or the shipped weights where there is no codebook."""
    shipped = coupling.forward(state.latent)
    return {
        name: quantize(array, state.codebooks[name]).values if name in state.codebooks else array
        for name, array in shipped.items()
    }


def codes_of(state: TrainingState, coupling: Coupling = UNCOUPLED) -> dict[str, Quantized]:
    """The quantized groups as a prompt file stores them; empty at 32 bits."""
    shipped = coupling.forward(state.latent) if state.codebooks else {}
    return {name: quantize(shipped[name], book) for name, book in state.codebooks.items()}


def advance(
    state: TrainingState,
    gradients: Mapping[str, Array],
    lr: float,
    config: TrainingConfig,
    coupling: Coupling = UNCOUPLED,
) -> TrainingState:
    """One step of SGD, then a renewal of the codebooks that are due.

    Args:
        state: The present state.
        gradients: Gradient at the forward weights, by group name.
        lr: Learning rate of this step.
        config: Momentum, decay and clustering.
        coupling: How shipped weights follow from the learned ones.
    """
    gradients = coupling.backward(state.latent, gradients)
    decay, momentum, rate = np.float32(config.weight_decay), np.float32(config.momentum), np.float32(lr)
    velocity: dict[str, Array] = {
        name: momentum * state.velocity[name] + gradients[name] + decay * array
        for name, array in state.latent.items()
    }
    latent: dict[str, Array] = {name: array - rate * velocity[name] for name, array in state.latent.items()}
    step = state.step + 1
    shipped = coupling.forward(latent) if state.codebooks else {}
    books = {
        name: renew(shipped[name], book, step, config.clustering) for name, book in state.codebooks.items()
    }
    return TrainingState(step, latent, velocity, books)


def epoch_batches(labels: NDArray[np.int64], config: TrainingConfig, epoch: int) -> list[NDArray[np.int64]]:
    """Shuffled batches of photo indices for one epoch, every class as often as the largest one.

    Args:
        labels: int64 [N], classes from 0.
        config: Batch size and seed.
        epoch: From 0; each has an order of its own.

    Returns:
        Index arrays. With equal classes each photo comes exactly once.
    """
    rng = np.random.default_rng([config.seed, epoch])
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    most = max(map(len, members))
    drawn = [
        np.concatenate([rng.permutation(photos) for _ in range(math.ceil(most / len(photos)))])[:most]
        for photos in members
    ]
    order = rng.permutation(np.concatenate(drawn))
    return np.array_split(order, max(1, round(len(order) / config.batch_size)))


def learning_rate(step: int, steps_per_epoch: int, config: TrainingConfig) -> float:
    """Constant warm-up, then a cosine from `lr` to zero over the remaining steps.

    Args:
        step: From 0.
        steps_per_epoch: Steps in an epoch.
        config: Schedule.
    """
    warmup = config.warmup_epochs * steps_per_epoch
    if config.lr is None:
        raise ValueError("the configuration has no learning rate yet; settle it first")
    if step < warmup:
        return min(config.warmup_lr, config.lr)
    total = config.epochs * steps_per_epoch - warmup
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total)))


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a step.

    Attributes:
        state: The state after the step.
        steps: Steps in the whole run.
        loss: Of the step's batch, before the step.
    """

    state: TrainingState
    steps: int
    loss: float


def train(
    state: TrainingState,
    objective: Objective,
    labels: NDArray[np.int64],
    config: TrainingConfig,
    coupling: Coupling = UNCOUPLED,
) -> Iterator[Progress]:
    """Run from a state to the end of the schedule, yielding after every step.

    Args:
        state: `start(...)`, or a checkpoint.
        objective: What to minimise.
        labels: int64 [N], classes of the photos.
        config: How.
        coupling: How shipped weights follow from the learned ones.
    """
    per_epoch = len(epoch_batches(labels, config, 0))
    steps = per_epoch * config.epochs
    while state.step < steps:
        epoch, first = divmod(state.step, per_epoch)
        for photos in epoch_batches(labels, config, epoch)[first:]:
            loss, gradients = objective(forward_weights(state, coupling), photos, epoch)
            rate = learning_rate(state.step, per_epoch, config)
            state = advance(state, gradients, rate, config, coupling)
            yield Progress(state, steps, loss)


def run(
    state: TrainingState,
    objective: Objective,
    labels: NDArray[np.int64],
    config: TrainingConfig,
    after_step: Callable[[Progress], None] = lambda _progress: None,
    coupling: Coupling = UNCOUPLED,
) -> TrainingState:
    """`train` to the end; the final state."""
    for progress in train(state, objective, labels, config, coupling):
        after_step(progress)
        state = progress.state
    return state
