"""Class residuals: the loss against finite differences, and what tuning must and must not move."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qprompt_edge.data.features import Examples
from qprompt_edge.tuning import calibration, qtaskres
from qprompt_edge.tuning.config import class_members, epoch_batches
from qprompt_edge.tuning.methods import default_training, tune
from qprompt_edge.tuning.qtaskres import OFFSETS, RESIDUALS
from qprompt_edge.tuning.trainer import TrainingState, forward_weights, run, start
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.prompt_file import ClassName

RNG = np.random.default_rng(0)
TEMPLATE = ("a photo of a ", ".")


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


TEXT = unit(RNG.normal(size=(4, 32)))
CENTRES = unit(RNG.normal(size=(4, 32)))


def examples(counts: list[int], spread: float = 0.5, seed: int = 1) -> Examples:
    """Photos around a centre for each class that is not where its text is."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    features = unit(CENTRES[labels] + spread * rng.normal(size=(len(labels), 32)) / np.sqrt(32))
    names = tuple(ClassName.from_label(f"class {i}") for i in range(len(counts)))
    return Examples(names, tuple(Path(f"{i}.jpg") for i in range(len(labels))), labels, features[:, None])


def tuned(photos: Examples, **settings: object) -> tuple[dict[str, np.ndarray], TrainingState]:
    config = default_training("qtaskres", **settings)
    tuning = qtaskres.tuning(TEXT, photos, TEMPLATE)
    state = start(tuning.weights, config, tuning.reparameterization)
    state = run(state, tuning.objective, photos.labels, config, reparameterization=tuning.reparameterization)
    return forward_weights(state, tuning.reparameterization), state


def accuracy(weights: dict[str, np.ndarray], photos: Examples) -> float:
    classes = unit(TEXT + weights[RESIDUALS])
    scores = photos.plain @ classes.T + weights[OFFSETS]
    return float((scores.argmax(axis=1) == photos.labels).mean())


@pytest.mark.parametrize("name", [RESIDUALS, OFFSETS])
def test_the_gradient_is_that_of_the_loss(name: str) -> None:
    photos = examples([3, 1, 4, 2])
    objective = qtaskres.tuning(TEXT, photos, TEMPLATE).objective
    rng = np.random.default_rng(3)
    weights = {
        RESIDUALS: rng.normal(0, 0.2, TEXT.shape).astype(np.float32),
        OFFSETS: rng.normal(0, 0.1, len(TEXT)).astype(np.float32),
    }
    batch = np.arange(len(photos.labels))
    _, gradient = objective(weights, batch, 0)
    for _ in range(8):
        place = tuple(rng.integers(size) for size in weights[name].shape)
        losses = []
        for step in (-1e-2, 1e-2):
            moved = {key: array.copy() for key, array in weights.items()}
            moved[name][place] += step
            losses.append(objective(moved, batch, 0)[0])
        assert gradient[name][place] == pytest.approx((losses[1] - losses[0]) / 2e-2, rel=0.02, abs=2e-4)


def test_blocks_of_photos_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    photos = examples([3, 1, 4, 2])
    objective = qtaskres.tuning(TEXT, photos, TEMPLATE).objective
    weights = {
        RESIDUALS: RNG.normal(0, 0.2, TEXT.shape).astype(np.float32),
        OFFSETS: RNG.normal(0, 0.1, len(TEXT)).astype(np.float32),
    }
    batch = np.random.default_rng(4).permutation(len(photos.labels))
    loss, gradient = objective(weights, batch, 0)
    for logits in (1, 12, 17):  # one photo, three and four at a time
        monkeypatch.setattr(qtaskres, "_LOGITS", logits)
        in_blocks, parts = objective(weights, batch, 0)
        assert in_blocks == pytest.approx(loss, rel=1e-6)
        for name, array in gradient.items():
            assert parts[name] == pytest.approx(array, abs=1e-5)


@pytest.mark.parametrize("bits", [1, 1.6, 2, 32])
def test_tuning_starts_at_zero_shot(bits: float) -> None:
    photos = examples([4, 4, 4, 4])
    tuning = qtaskres.tuning(TEXT, photos, TEMPLATE)
    state = start(tuning.weights, default_training("qtaskres", bits=bits), tuning.reparameterization)
    weights = forward_weights(state, tuning.reparameterization)
    assert not weights[RESIDUALS].any()
    assert not weights[OFFSETS].any()


@pytest.mark.parametrize("bits", [1, 1.6, 2, 32])
def test_residuals_learn_what_text_does_not_say(bits: float) -> None:
    photos, others = examples([16] * 4), examples([50] * 4, seed=2)
    weights, _ = tuned(photos, bits=bits)
    nothing = {RESIDUALS: np.zeros_like(TEXT), OFFSETS: np.zeros(4, np.float32)}
    assert accuracy(nothing, others) < 0.5
    assert accuracy(weights, others) > 0.9


@pytest.mark.parametrize(("settings", "values"), [({"bits": 1}, 2), ({}, 3)])
def test_a_row_has_few_values_and_a_scale_of_its_own(settings: dict[str, Any], values: int) -> None:
    weights, state = tuned(examples([16, 16, 16, 2]), **settings)
    sizes = []
    for row in weights[RESIDUALS]:
        assert len(np.unique(row)) == values
        sizes.append(np.abs(row).mean())
    assert len(set(sizes)) == 4
    assert set(state.codebooks) == {RESIDUALS}


def test_few_photos_move_a_class_less_than_many() -> None:
    weights, _ = tuned(examples([16, 16, 16, 1]), bits=32)
    lengths = np.linalg.norm(weights[RESIDUALS], axis=1)
    assert lengths[3] < 0.8 * lengths[:3].min()


def test_a_class_without_a_photo_is_pushed_by_the_others_alone() -> None:
    photos = examples([8, 8, 8, 0])
    weights, _ = tuned(photos)
    assert np.isfinite(weights[RESIDUALS]).all()
    assert accuracy(weights, photos) == 1.0


@pytest.mark.parametrize("bits", [1.6, 2])
def test_a_group_as_the_file_holds_it_is_what_was_judged(bits: float) -> None:
    photos = examples([8] * 4)
    config = default_training("qtaskres", bits=bits)
    tuning = qtaskres.tuning(TEXT, photos, TEMPLATE)
    state = start(tuning.weights, config, tuning.reparameterization)
    state = run(state, tuning.objective, photos.labels, config, reparameterization=tuning.reparameterization)
    weights = forward_weights(state, tuning.reparameterization)
    residuals, offsets = tuning.groups(state, config.bits)
    assert (residuals.role, residuals.bits, len(residuals.scales)) == (RESIDUALS, bits, 4)
    assert (offsets.role, offsets.bits) == (OFFSETS, 16)
    assert np.array_equal(residuals.values(), weights[RESIDUALS])
    assert np.array_equal(offsets.values(), weights[OFFSETS])


def test_few_photos_and_classes_are_one_batch() -> None:
    config = default_training("qtaskres")
    labels = np.repeat(np.arange(100), 400)  # 4 million logits
    assert qtaskres.schedule(config, labels, 100) is config


def test_many_photos_of_many_classes_come_in_batches_of_one_block() -> None:
    config = default_training("qtaskres")
    labels = np.repeat(np.arange(1000), 16)
    found = qtaskres.schedule(config, labels, 1000)
    assert (found.batch_size, found.epochs) == (1000, 7)
    batches = epoch_batches(class_members(labels), found, 0)
    assert [len(batch) for batch in batches] == [1000] * 16  # 112 steps
    assert sorted(np.concatenate(batches)) == list(range(16000))


def test_a_batch_has_one_photo_of_each_class_at_least() -> None:
    config = default_training("qtaskres")
    labels = np.repeat(np.arange(10000), 4)
    found = qtaskres.schedule(config, labels, 10000)
    assert (found.batch_size, found.epochs) == (10000, 25)


def test_who_names_a_batch_gets_it() -> None:
    config = default_training("qtaskres", batch_size=12345)
    assert qtaskres.schedule(config, np.repeat(np.arange(1000), 16), 1000) is config


def test_batches_learn_what_all_photos_at_once_do(monkeypatch: pytest.MonkeyPatch) -> None:
    photos, others = examples([16] * 4), examples([50] * 4, seed=2)
    at_once, _ = tuned(photos)
    monkeypatch.setattr(qtaskres, "_LOGITS", 32)  # eight photos
    config = qtaskres.schedule(default_training("qtaskres"), photos.labels, 4)
    assert (config.batch_size, config.epochs) == (8, 13)
    in_batches, state = tuned(photos, batch_size=config.batch_size, epochs=config.epochs)
    assert state.step == 104
    assert accuracy(in_batches, others) == pytest.approx(accuracy(at_once, others), abs=0.02)


def test_tuning_and_cross_validation_take_batches(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = examples([20] * 4)
    monkeypatch.setattr(qtaskres, "_LOGITS", 32)  # eight photos
    config = default_training("qtaskres", epochs=20)
    _, state = tune("qtaskres", tiny, photos, config, text=TEXT)
    assert state.step == 20  # two epochs of ten batches
    taken: list[int | None] = []

    def noted(state: TrainingState, *args: Any, **options: Any) -> TrainingState:
        taken.append(args[2].batch_size)
        return run(state, *args, **options)

    monkeypatch.setattr(calibration, "run", noted)
    calibration.held_out_scores(TEXT, photos, np.arange(80), config)
    assert taken == [8] * 5
