"""What the paper's comparisons switch off or add.

Noise, normalisation of the codebook, constrained reclustering.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from qprompt_edge.adaptation.resume import WorkDir
from qprompt_edge.tuning.config import TrainingConfig
from qprompt_edge.tuning.methods import default_training
from qprompt_edge.tuning.quantizer import Clustering, cluster, normalise, quantize, recluster
from qprompt_edge.tuning.trainer import TrainingState, forward_weights, run, start, train

LABELS = np.repeat(np.arange(2), 8)
WEIGHTS = {"text-context": np.random.default_rng(1).normal(0.3, 0.02, 400).astype(np.float32)}
RAW = Clustering(interval=1, divergence=-1.0, normalised=False)


class Pull:
    """Pulls the weights towards targets of its own; keeps what it saw."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        rng = np.random.default_rng(2)
        self.targets = {name: rng.normal(0, 1, array.shape) for name, array in weights.items()}
        self.seen: list[dict[str, np.ndarray]] = []

    def __call__(
        self, weights: Mapping[str, np.ndarray], _photos: np.ndarray, _epoch: int
    ) -> tuple[float, dict[str, np.ndarray]]:
        self.seen.append(dict(weights))
        return 0.0, {name: (array - self.targets[name]).astype(np.float32) for name, array in weights.items()}


def states_of(config: TrainingConfig, weights: Mapping[str, np.ndarray] = WEIGHTS) -> list[TrainingState]:
    first = start(weights, config)
    return [first, *(step.state for step in train(first, Pull(weights), LABELS, config))]


# ---------------------------------------------------------------------- noise


def noise_of(config: TrainingConfig) -> list[dict[str, np.ndarray]]:
    """What each step added to two groups of weights that stay where they are."""
    weights = {"a": np.zeros((50, 400), np.float32), "b": np.ones((3, 100, 50), np.float32)}
    still = replace(config, lr=0.0, warmup_lr=0.0, weight_decay=0.0)
    pull = Pull(weights)
    run(start(weights, still), pull, LABELS, still)
    return [{name: seen[name] - weights[name] for name in weights} for seen in pull.seen]


def test_noise_has_the_deviation_that_was_asked_for_and_is_new_at_each_step_and_in_each_group() -> None:
    config = default_training("qcoop", bits=32, epochs=3, batch_size=8, noise=0.25)
    steps = noise_of(config)
    assert len(steps) == 6
    for noise in steps:
        for array in noise.values():
            assert array.dtype == np.float32
            assert array.std() == pytest.approx(0.25, rel=0.03)
            assert array.mean() == pytest.approx(0, abs=0.01)
            # two thirds within one standard deviation, as a normal distribution has it
            assert (np.abs(array) < 0.25).mean() == pytest.approx(0.683, abs=0.015)
    arrays = [noise["a"].ravel() for noise in steps]
    arrays.append(np.resize(steps[0]["b"], arrays[0].shape))
    together = np.corrcoef(arrays) - np.eye(len(arrays))
    assert np.abs(together).max() < 0.04


def test_noise_follows_the_seed_and_the_step_alone() -> None:
    config = default_training("qcoop", bits=32, epochs=2, noise=0.25)
    first, again, other = (noise_of(replace(config, seed=seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(one["a"], two["a"]) for one, two in zip(first, again, strict=True))
    assert not np.array_equal(first[0]["a"], other[0]["a"])


def test_noise_goes_on_top_of_quantized_values_and_is_not_kept() -> None:
    config = default_training("qcoop", bits=2, epochs=2, lr=0.01, noise=0.5)
    noisy, plain = Pull(WEIGHTS), Pull(WEIGHTS)
    state = start(WEIGHTS, config)
    final = run(state, noisy, LABELS, config)
    run(state, plain, LABELS, replace(config, noise=0.0))
    (name,) = WEIGHTS
    added = noisy.seen[0][name] - plain.seen[0][name]
    assert added.std() == pytest.approx(0.5, rel=0.15)
    assert np.array_equal(plain.seen[0][name], forward_weights(state)[name])
    assert len(np.unique(forward_weights(final)[name])) <= 4
    assert np.array_equal(state.latent[name], WEIGHTS[name])


def test_a_negative_noise_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^noise is -1, expected a standard deviation of at least 0$"):
        default_training("qcoop", noise=-1)


# ---------------------------------------------------------------------- a quantizer that fades in


@pytest.mark.parametrize("bits", [1.6, 2])
def test_quantized_weights_take_over_step_by_step(bits: float) -> None:
    config = default_training("qcoop", bits=bits, epochs=5, batch_size=None, lr=0.01, fade_in=0.4)
    pull, (name,) = Pull(WEIGHTS), WEIGHTS
    state, latent = start(WEIGHTS, config), WEIGHTS[name]
    for share in (0, 0.5, 1, 1, 1):
        values = forward_weights(state)[name]
        state = next(train(state, pull, LABELS, config)).state
        assert pull.seen[-1][name] == pytest.approx(share * values + (1 - share) * latent, abs=1e-7)
        latent = state.latent[name]
    assert len(np.unique(forward_weights(state)[name])) == 2 + (bits > 1) + (bits > 1.6)


def test_two_values_do_not_fade_in() -> None:
    config = default_training("qcoop", bits=1, epochs=3, batch_size=None, lr=0.01)
    states = [
        run(start(WEIGHTS, each), Pull(WEIGHTS), LABELS, each)
        for each in (config, replace(config, fade_in=1))
    ]
    for name in WEIGHTS:
        assert np.array_equal(states[0].latent[name], states[1].latent[name])


def test_a_share_of_more_than_all_steps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^fade_in is 2, expected a share from 0 to 1$"):
        default_training("qcoop", fade_in=2)


# ---------------------------------------------------------------------- codebooks of bare weights


def best_two(values: np.ndarray) -> list[float]:
    """The two centroids with the least squares, by trying every cut."""
    ordered = np.sort(values.astype(np.float64))
    cuts = [(ordered[:i], ordered[i:]) for i in range(1, len(ordered))]
    low, high = min(cuts, key=lambda cut: sum(((part - part.mean()) ** 2).sum() for part in cut))
    return [float(low.mean()), float(high.mean())]


def test_a_codebook_without_normalisation_has_the_centroids_of_the_weights_themselves() -> None:
    weights = WEIGHTS["text-context"]
    book = cluster(weights, 1, 0, normalised=False)
    assert not book.normalised
    assert book.centroids == pytest.approx(best_two(weights), rel=1e-5)
    assert book.counts.sum() == len(weights)
    assert quantize(weights, book).codebook == pytest.approx(book.centroids, rel=1e-3)  # half precision
    values, mean, sigma = normalise(weights, apply=False)
    assert np.array_equal(values, weights)
    assert (mean, sigma) == (0, 1)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_only_a_normalised_codebook_follows_weights_that_move_and_spread(bits: int) -> None:
    weights = WEIGHTS["text-context"]
    moved = (2 * weights + 1).astype(np.float32)
    raw, normal = (cluster(weights, bits, 0, normalised=choice) for choice in (False, True))
    assert quantize(weights, raw).values == pytest.approx(quantize(weights, normal).values, abs=5e-4)
    assert quantize(moved, normal).values == pytest.approx(2 * quantize(weights, normal).values + 1, abs=2e-3)
    assert np.array_equal(np.unique(quantize(moved, raw).values), [quantize(weights, raw).values.max()])


def test_reclustering_keeps_whether_the_codebook_is_normalised() -> None:
    weights = WEIGHTS["text-context"]
    for normalised in (True, False):
        book = cluster(weights, 2, 0, normalised=normalised)
        fresh = recluster(weights * 3, book, 5, Clustering(interval=1, divergence=-1.0))
        assert (fresh.normalised, fresh.step) == (normalised, 5)


# ---------------------------------------------------------------------- k-means at every step


@pytest.mark.parametrize("normalised", [True, False])
def test_a_negative_divergence_reclusters_at_every_step(normalised: bool) -> None:
    config = default_training(
        "qcoop", bits=2, epochs=4, batch_size=8, lr=0.05, clustering=replace(RAW, normalised=normalised)
    )
    states = states_of(config)
    assert len(states) == 9
    for state in states:
        for name, book in state.codebooks.items():
            fresh = cluster(state.latent[name], 2, state.step, normalised=normalised)
            assert (book.step, book.normalised) == (state.step, normalised)
            assert np.array_equal(book.centroids, fresh.centroids)
            assert np.array_equal(book.counts, fresh.counts)
    (name,) = WEIGHTS
    assert any(
        not np.array_equal(a.codebooks[name].centroids, b.codebooks[name].centroids)
        for a, b in pairwise(states)
    )


def test_a_negative_divergence_still_waits_for_the_interval() -> None:
    config = default_training(
        "qcoop", bits=1, epochs=4, batch_size=8, lr=0.05, clustering=Clustering(3, -1.0)
    )
    assert [state.codebooks["text-context"].step for state in states_of(config)] == [
        0,
        0,
        0,
        3,
        3,
        3,
        6,
        6,
        6,
    ]


# ---------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("normalised", [True, False])
def test_a_checkpoint_keeps_whether_the_codebook_is_normalised(tmp_path: Path, normalised: bool) -> None:
    clustering = Clustering(interval=2, divergence=0.0, normalised=normalised)
    config = default_training(
        "qcoop", bits=2, epochs=4, batch_size=8, lr=0.05, clustering=clustering, noise=0.01
    )
    work = WorkDir.open(tmp_path / "work", "task", {})
    states = states_of(config)
    work.save(states[3])
    loaded = work.load()
    assert loaded is not None
    assert loaded.codebooks["text-context"].normalised is normalised
    resumed = run(loaded, Pull(WEIGHTS), LABELS, config)
    assert np.array_equal(resumed.latent["text-context"], states[-1].latent["text-context"])
    books = [state.codebooks["text-context"] for state in (resumed, states[-1])]
    assert np.array_equal(books[0].centroids, books[1].centroids)
    assert (books[0].step, books[0].normalised) == (books[1].step, normalised)
