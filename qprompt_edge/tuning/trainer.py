"""Tuning prompt weights: SGD on latent weights, with their quantized values in the forward pass.

One step (QPrompt, section 3; schedule and optimizer as in CoOp):

    S         = forward(W)                    what is shipped; W itself unless a method reparameterizes it
    S_q       = quantize(S) + noise           reclustered by CAC when due; S itself at 32 bits; noise if set;
                                              a mean of both, while a quantizer fades in
    loss, g   = objective(S_q, batch)         g is the gradient at S_q, which passes straight through to S
    v         = momentum * v + backward(W, g) + decay * W
    W         = W - lr(step) * v

The state is a value: the same state, data and configuration give the same next state, bit for bit. So a run
that was interrupted and resumed ends like one that was not. The objective decides what is tuned, and on what;
a state holds any number of named groups of weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.tuning.config import TrainingConfig, class_members, epoch_batches, learning_rate
from qprompt_edge.tuning.quantizer import (
    UNQUANTIZED_BITS,
    Codebook,
    Quantized,
    cluster,
    quantize,
    recluster,
)
from qprompt_runtime.arrays import Array


@dataclass(frozen=True)
class Reparameterization:
    """How the weights that are shipped follow from those that are learned; by default they are the same.

    Attributes:
        forward: From learned weights to shipped ones, by group name.
        backward: From learned weights, and the gradient at the shipped ones, to the gradient at the learned
            ones.
        by_row: Groups that are quantized with a scale for each row.
        plain: Groups that are not quantized.
    """

    forward: Callable[[Mapping[str, Array]], dict[str, Array]] = dict
    backward: Callable[[Mapping[str, Array], Mapping[str, Array]], dict[str, Array]] = (
        lambda _weights, gradients: dict(gradients)
    )
    by_row: frozenset[str] = frozenset()
    plain: frozenset[str] = frozenset()


AS_LEARNED = Reparameterization()
"""For methods that ship what they learn."""


@dataclass(frozen=True)
class TrainingState:
    """Everything that the next step depends on; arrays by group name.

    Attributes:
        step: Steps done.
        latent: float32 weights that are learned, before quantization.
        velocity: float32, SGD's running sum of gradients.
        codebooks: Codebook of each quantized group; empty at 32 bits.
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


def start(
    weights: Mapping[str, Array], config: TrainingConfig, reparameterization: Reparameterization = AS_LEARNED
) -> TrainingState:
    """The state before the first step.

    Args:
        weights: Initial weights by group name; they become float32.
        config: How they will be tuned.
        reparameterization: How shipped weights follow from them.
    """
    latent = {name: np.array(array, np.float32) for name, array in weights.items()}
    quantized = config.bits < UNQUANTIZED_BITS
    shipped = reparameterization.forward(latent) if quantized else {}
    books = {
        name: cluster(
            array,
            config.bits,
            0,
            normalised=config.clustering.normalised,
            by_row=name in reparameterization.by_row,
        )
        for name, array in shipped.items()
        if name not in reparameterization.plain
    }
    return TrainingState(0, latent, {name: np.zeros_like(array) for name, array in latent.items()}, books)


def forward_weights(
    state: TrainingState, reparameterization: Reparameterization = AS_LEARNED, share: float = 1.0
) -> dict[str, Array]:
    """What the forward pass sees: quantized values, or the shipped weights where there is no codebook.

    Args:
        state: The present state.
        reparameterization: How shipped weights follow from the learned ones.
        share: What quantized values of more than two weigh, from 0 to 1, beside the weights as they are.
    """
    shipped = reparameterization.forward(state.latent)
    for name, book in state.codebooks.items():
        array, part = shipped[name], np.float32(share)
        values = quantize(array, book).values
        faded = share < 1 and len(book.centroids) > 2
        shipped[name] = part * values + (1 - part) * array if faded else values
    return shipped


def _quantized_share(step: int, steps: int, config: TrainingConfig) -> float:
    """What quantized values weigh in a step."""
    return min(1.0, step / (config.fade_in * steps)) if config.fade_in else 1.0


def _disturbed(weights: dict[str, Array], step: int, config: TrainingConfig) -> dict[str, Array]:
    """The weights with the noise that a step adds to them."""
    if not config.noise:
        return weights
    rng = np.random.default_rng([config.seed, step, 3])
    noise = np.float32(config.noise)
    return {
        name: array + noise * rng.standard_normal(array.shape, np.float32) for name, array in weights.items()
    }


def codes_of(
    state: TrainingState, reparameterization: Reparameterization = AS_LEARNED
) -> dict[str, Quantized]:
    """The quantized groups as a prompt file stores them; empty at 32 bits."""
    shipped = reparameterization.forward(state.latent) if state.codebooks else {}
    return {name: quantize(shipped[name], book) for name, book in state.codebooks.items()}


def advance(
    state: TrainingState,
    gradients: Mapping[str, Array],
    lr: float,
    config: TrainingConfig,
    reparameterization: Reparameterization = AS_LEARNED,
) -> TrainingState:
    """One step of SGD, then a reclustering of the groups that are due.

    Args:
        state: The present state.
        gradients: Gradient at the forward weights, by group name.
        lr: Learning rate of this step.
        config: Momentum, decay and clustering.
        reparameterization: How shipped weights follow from the learned ones.
    """
    gradients = reparameterization.backward(state.latent, gradients)
    decay, momentum, rate = np.float32(config.weight_decay), np.float32(config.momentum), np.float32(lr)
    velocity: dict[str, Array] = {
        name: momentum * state.velocity[name] + gradients[name] + decay * array
        for name, array in state.latent.items()
    }
    latent: dict[str, Array] = {name: array - rate * velocity[name] for name, array in state.latent.items()}
    step = state.step + 1
    shipped = reparameterization.forward(latent) if state.codebooks else {}
    books = {
        name: recluster(shipped[name], book, step, config.clustering)
        for name, book in state.codebooks.items()
    }
    return TrainingState(step, latent, velocity, books)


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
    reparameterization: Reparameterization = AS_LEARNED,
) -> Iterator[Progress]:
    """Run from a state to the end of the schedule, yielding after every step.

    Args:
        state: `start(...)`, or a checkpoint.
        objective: What to minimise.
        labels: int64 [N], classes of the photos.
        config: How.
        reparameterization: How shipped weights follow from the learned ones.
    """
    members = class_members(labels)
    per_epoch = len(epoch_batches(members, config, 0))
    steps = per_epoch * config.epochs
    while state.step < steps:
        epoch, first = divmod(state.step, per_epoch)
        for photos in epoch_batches(members, config, epoch)[first:]:
            share = _quantized_share(state.step, steps, config)
            weights = _disturbed(forward_weights(state, reparameterization, share), state.step, config)
            loss, gradients = objective(weights, photos, epoch)
            rate = learning_rate(state.step, per_epoch, config)
            state = advance(state, gradients, rate, config, reparameterization)
            yield Progress(state, steps, loss)


def run(
    state: TrainingState,
    objective: Objective,
    labels: NDArray[np.int64],
    config: TrainingConfig,
    after_step: Callable[[Progress], None] = lambda _progress: None,
    reparameterization: Reparameterization = AS_LEARNED,
) -> TrainingState:
    """`train` to the end; the final state."""
    for progress in train(state, objective, labels, config, reparameterization):
        after_step(progress)
        state = progress.state
    return state
