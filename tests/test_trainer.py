"""The trainer against loops written by hand."""

import math
from collections.abc import Mapping

import numpy as np
import pytest

from qprompt_edge.tuning.config import class_members, epoch_batches, learning_rate, resolve_learning_rate
from qprompt_edge.tuning.methods import default_training
from qprompt_edge.tuning.quantizer import Clustering, quantize
from qprompt_edge.tuning.trainer import TrainingState, advance, forward_weights, run, start, train

LABELS = np.repeat(np.arange(3), 8)
TARGETS = np.random.default_rng(0).normal(size=(len(LABELS), 4, 6)).astype(np.float32)


def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {"a": rng.normal(size=(4, 6)).astype(np.float32), "b": rng.normal(size=(2, 3)).astype(np.float32)}


def quadratic(
    current: Mapping[str, np.ndarray], photos: np.ndarray, _epoch: int
) -> tuple[float, dict[str, np.ndarray]]:
    """Distance of `a` to the batch's mean target, and of `b` to zero."""
    away = current["a"] - TARGETS[photos].mean(axis=0)
    loss = 0.5 * float((away**2).sum()) + 0.5 * float((current["b"] ** 2).sum())
    return loss, {"a": away, "b": current["b"].copy()}


# ---------------------------------------------------------------------- schedule


def test_learning_rate_warms_up_then_follows_a_cosine_to_zero() -> None:
    config = default_training("qcoop", epochs=5, lr=0.1, warmup_epochs=1, warmup_lr=1e-5)
    rates = [learning_rate(step, 4, config) for step in range(20)]
    assert rates[:4] == [1e-5] * 4
    assert rates[4:] == pytest.approx([0.05 * (1 + math.cos(math.pi * k / 16)) for k in range(16)])
    assert rates[12] == pytest.approx(0.05)
    assert 0 < rates[-1] < 0.001


def test_a_run_of_nothing_but_warm_up() -> None:
    config = default_training("qcoop", epochs=1, lr=0.1, warmup_epochs=1)
    assert [learning_rate(step, 3, config) for step in range(3)] == [config.warmup_lr] * 3


def test_without_warm_up_the_first_step_has_the_peak() -> None:
    assert learning_rate(0, 3, default_training("qcoop", warmup_epochs=0, lr=0.02)) == 0.02


def test_a_rate_that_is_given_is_kept() -> None:
    config = default_training("qcoop", lr=0.02)
    assert resolve_learning_rate(config, weights(), 100.0) is config


def test_the_default_rate_moves_the_prompts_of_every_backbone_alike() -> None:
    """Embeddings k times as large and a logit scale c times as large: the same path, k times as large."""
    large, sharp = np.float32(8), np.float32(4)  # powers of two: float32 gives exactly the same path

    def tuned(size: np.float32, scale: np.float32) -> np.ndarray:
        def normalised(seen: Mapping[str, np.ndarray], photos: np.ndarray, epoch: int) -> tuple[float, dict]:
            _, gradients = quadratic({name: array / size for name, array in seen.items()}, photos, epoch)
            return 0.0, {name: scale * gradient / size for name, gradient in gradients.items()}

        first = {name: size * array for name, array in weights().items()}
        config = resolve_learning_rate(
            default_training("qcoop", bits=32, epochs=3, weight_decay=0, warmup_epochs=0), first, 100 * scale
        )
        return run(start(first, config), normalised, LABELS, config).latent["a"] / size

    plain = tuned(np.float32(1), np.float32(1))
    assert np.abs(plain - weights()["a"]).max() > 0
    assert tuned(large, sharp) == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize("wrong", [{"bits": 5}, {"bits": 0}, {"epochs": 0}, {"batch_size": 0}, {"seed": -1}])
def test_a_configuration_that_cannot_run(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        default_training("qcoop", **wrong)


def test_without_a_rate_there_is_no_schedule() -> None:
    with pytest.raises(ValueError, match="resolve_learning_rate"):
        learning_rate(0, 3, default_training("qcoop"))


# ---------------------------------------------------------------------- batches


def test_equal_classes_give_each_photo_once() -> None:
    batches = epoch_batches(class_members(LABELS), default_training("qcoop", batch_size=5), 0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(24))


def test_unequal_classes_come_equally_often() -> None:
    labels = np.repeat([0, 1, 2], [1, 7, 10])
    drawn = np.concatenate(epoch_batches(class_members(labels), default_training("qcoop", batch_size=4), 0))
    assert np.bincount(labels[drawn]).tolist() == [10, 10, 10]
    assert set(drawn.tolist()) == set(range(18)), "every photo is used"
    repeats = np.bincount(drawn)[labels == 1]
    assert repeats.max() - repeats.min() <= 1, "photos of a small class take turns"


@pytest.mark.parametrize("batch_size", [1, 5, 7, 24, 100])
def test_batches_of_an_epoch_are_about_equally_large(batch_size: int) -> None:
    sizes = [
        len(batch)
        for batch in epoch_batches(class_members(LABELS), default_training("qcoop", batch_size=batch_size), 0)
    ]
    assert sum(sizes) == 24
    assert max(sizes) - min(sizes) <= 1


def test_order_depends_on_seed_and_epoch_only() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(
            epoch_batches(class_members(LABELS), default_training("qcoop", seed=seed), epoch)
        ).tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


# ---------------------------------------------------------------------- steps


def test_unquantized_steps_equal_a_loop_by_hand() -> None:
    config = default_training(
        "qcoop", bits=32, epochs=4, batch_size=6, lr=0.1, momentum=0.9, weight_decay=0.01, warmup_epochs=1
    )
    result = run(start(weights(), config), quadratic, LABELS, config)

    current = {name: array.astype(np.float64) for name, array in weights().items()}
    velocity = {name: np.zeros_like(array) for name, array in current.items()}
    step = 0
    for epoch in range(4):
        for batch in epoch_batches(class_members(LABELS), config, epoch):
            _, gradient = quadratic(current, batch, epoch)
            rate = 1e-5 if step < 4 else 0.1 * 0.5 * (1 + math.cos(math.pi * (step - 4) / 12))
            for name in current:
                velocity[name] = 0.9 * velocity[name] + gradient[name] + 0.01 * current[name]
                current[name] = current[name] - rate * velocity[name]
            step += 1
    assert result.step == step == 16
    for name, expected in current.items():
        assert result.latent[name].dtype == np.float32
        gap = np.abs(result.latent[name] - expected).max()
        assert gap <= 1e-5, f"{name}: {gap:.2e}"


@pytest.mark.export
def test_sgd_equals_torch() -> None:
    torch = pytest.importorskip("torch")
    config = default_training("qcoop", bits=32, momentum=0.9, weight_decay=5e-4)
    state = start({"a": weights()["a"]}, config)
    parameter = torch.tensor(weights()["a"], requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=1.0, momentum=0.9, weight_decay=5e-4)
    for step in range(20):
        gradient = np.random.default_rng(step).normal(size=(4, 6)).astype(np.float32)
        rate = 0.1 / (step + 1)
        state = advance(state, {"a": gradient}, rate, config)
        optimizer.param_groups[0]["lr"] = rate
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
    gap = np.abs(state.latent["a"] - parameter.detach().numpy()).max()
    assert gap <= 1e-6, f"{gap:.2e}"


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_the_forward_pass_sees_quantized_values(bits: int) -> None:
    config = default_training("qcoop", bits=bits)
    state = start(weights(), config)
    for name, seen in forward_weights(state).items():
        assert seen.shape == weights()[name].shape
        assert len(np.unique(seen)) <= 2**bits
        assert np.array_equal(seen, quantize(weights()[name], state.codebooks[name]).values)


def test_without_a_quantizer_the_forward_pass_sees_the_weights() -> None:
    state = start(weights(), default_training("qcoop", bits=32))
    assert not state.codebooks
    for name, seen in forward_weights(state).items():
        assert np.array_equal(seen, weights()[name])


def test_the_gradient_passes_straight_through() -> None:
    """One step moves the latent weights by the gradient at their quantized values."""
    config = default_training("qcoop", bits=1, momentum=0.9, weight_decay=0.0)
    before = start(weights(), config)
    batch = np.arange(4)
    _, gradient = quadratic(forward_weights(before), batch, 0)
    after = advance(before, gradient, 0.5, config)
    assert np.array_equal(after.latent["a"], before.latent["a"] - np.float32(0.5) * gradient["a"])


def test_advancing_leaves_the_old_state_alone() -> None:
    config = default_training("qcoop", bits=2)
    state = start(weights(), config)
    advance(state, {name: np.ones_like(array) for name, array in weights().items()}, 0.1, config)
    assert state.step == 0
    assert all(np.array_equal(state.latent[name], array) for name, array in weights().items())


def test_training_lowers_the_loss() -> None:
    config = default_training("qcoop", bits=32, epochs=10, lr=0.05)
    losses = [progress.loss for progress in train(start(weights(), config), quadratic, LABELS, config)]
    assert losses[-1] < 0.7 * losses[0], losses


# ---------------------------------------------------------------------- resuming


def assert_same(one: TrainingState, other: TrainingState) -> None:
    assert one.step == other.step
    for name in one.latent:
        assert one.latent[name].tobytes() == other.latent[name].tobytes()
        assert one.velocity[name].tobytes() == other.velocity[name].tobytes()
    assert one.codebooks.keys() == other.codebooks.keys()
    for name, book in one.codebooks.items():
        assert book.centroids.tobytes() == other.codebooks[name].centroids.tobytes()
        assert book.counts.tolist() == other.codebooks[name].counts.tolist()
        assert book.step == other.codebooks[name].step


@pytest.mark.parametrize("bits", [1, 32])
def test_resuming_from_any_state_ends_in_the_same_bytes(bits: int) -> None:
    often = Clustering(interval=3, divergence=0.001)
    config = default_training("qcoop", bits=bits, epochs=3, batch_size=6, lr=0.3, clustering=often)
    first = start(weights(), config)
    states = [first, *(progress.state for progress in train(first, quadratic, LABELS, config))]
    assert len(states) == 13
    for state in states:
        assert_same(run(state, quadratic, LABELS, config), states[-1])


def test_a_finished_run_takes_no_more_steps() -> None:
    config = default_training("qcoop", bits=1, epochs=2, lr=0.1)
    done = run(start(weights(), config), quadratic, LABELS, config)
    assert list(train(done, quadratic, LABELS, config)) == []
