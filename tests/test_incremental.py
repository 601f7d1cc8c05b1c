"""Rows tuned without the old photos: what they learn, what they leave alone, and how a file takes them in."""

from dataclasses import replace

import numpy as np
import pytest
from test_calibration import NOUNS
from test_qtaskres import TEXT, accuracy, examples, tuned, unit

from qprompt_edge.tuning import incremental
from qprompt_edge.tuning.calibration import HeldOutScores, joined_accept_scores
from qprompt_edge.tuning.incremental import (
    KnownClasses,
    common_part,
    held_out_row_scores,
    pseudo_photos,
    tune_rows,
    usual_cosine,
)
from qprompt_edge.tuning.methods import default_training
from qprompt_edge.tuning.prompt_rows import known_classes, with_rows, without_classes
from qprompt_edge.tuning.qtaskres import OFFSETS, RESIDUALS
from qprompt_runtime.errors import PromptFileError
from qprompt_runtime.none_of_these import known_scores
from qprompt_runtime.prompt_file import ACCEPT_SHARES, Calibration, ClassName, PromptFile, PromptGroup

CONFIG = default_training("qtaskres")
NAMES = tuple(ClassName.from_label(name) for name in ("one", "two", "three"))
FOUR = ClassName.from_label("four")


def known_of_three(codebook: tuple[float, ...] = (-0.8, 0.8)) -> KnownClasses:
    """Three classes that were tuned on 16 photos each, and a fourth that is new."""
    weights, _ = tuned(examples([16, 16, 16, 0]))
    residuals, offsets = weights[RESIDUALS], weights[OFFSETS]
    residuals[3], offsets[3] = 0, 0
    return KnownClasses(TEXT, residuals, offsets, np.array([16, 16, 16, 0]), np.float32(codebook), 1)


def only(label: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of one class's photos."""
    photos = examples([16] * 4, seed=seed)
    return photos.plain[photos.labels == label], photos.labels[photos.labels == label]


def test_a_new_class_is_learned_and_the_old_ones_are_not_lost():
    known, others = known_of_three(), examples([50] * 4, seed=2)
    rows = tune_rows(known, *only(3), CONFIG)
    after = known.with_rows(rows)
    assert rows.classes.tolist() == [3]
    assert np.array_equal(after.residuals[:3], known.residuals[:3])
    assert accuracy({RESIDUALS: known.residuals, OFFSETS: known.offsets}, others) < 0.9
    assert accuracy({RESIDUALS: after.residuals, OFFSETS: after.offsets}, others) > 0.95


def test_pseudo_photos_hold_a_new_class_back(monkeypatch):
    known = known_of_three()
    held = tune_rows(known, *only(3), CONFIG)
    nobody = (np.zeros((0, 32), np.float32), np.zeros(0, np.int64))
    monkeypatch.setattr(incremental, "pseudo_photos", lambda *_: nobody)
    free = tune_rows(known, *only(3), CONFIG)
    others = examples([50] * 3, seed=2).plain
    taken = [known.with_rows(rows).head.scores(others)[:, 3].mean() for rows in (free, held)]
    assert taken[0] > taken[1] + 0.1


def test_the_level_of_a_prompt_changes_nothing_but_the_level_of_the_new_row():
    known = known_of_three()
    lower = replace(known, offsets=known.offsets - np.float32([0.25, 0.25, 0.25, 0]))
    assert known.level == pytest.approx(known.offsets[:3].mean())
    assert lower.level == pytest.approx(known.level - 0.25)
    rows, moved = (tune_rows(each, *only(3), CONFIG) for each in (known, lower))
    assert (moved.indices != rows.indices).mean() < 0.01
    assert moved.offsets - rows.offsets == pytest.approx([-0.25], abs=1e-3)


def test_values_are_those_of_the_prompts_codebook():
    known = known_of_three((-0.5, 1.5))
    rows = tune_rows(known, *only(3), CONFIG)
    assert rows.codebook.tolist() == [-0.5, 1.5]
    values = np.float32([-0.5, 1.5])[rows.indices] * rows.scales.astype(np.float32)[:, None]
    assert np.array_equal(values, rows.residuals)


def test_held_out_photos_are_judged_by_rows_without_them():
    known = known_of_three()
    features, labels = only(3)
    held_out = held_out_row_scores(known, features, labels, np.arange(16), CONFIG)
    assert held_out.scores.shape == (16, 4)
    assert (held_out.scores.argmax(axis=1) == 3).mean() > 0.9
    nobody = held_out_row_scores(known, features[:1], labels[:1], np.arange(1), CONFIG)
    assert nobody.scores.shape == (0, 4)


def test_pseudo_photos_are_as_far_from_their_class_as_was_asked():
    common = np.zeros(32, np.float32)
    photos, labels = pseudo_photos(TEXT, np.array([5, 0, 7, 300]), 0.3, common, 1)
    assert np.bincount(labels).tolist() == [5, 0, 7, 300]
    assert np.linalg.norm(photos, axis=1) == pytest.approx(1, abs=1e-5)
    assert (photos * TEXT[labels]).sum(axis=1) == pytest.approx(0.3, abs=1e-5)
    common[0] = 0.4
    shifted, labels = pseudo_photos(TEXT, np.full(4, 300), 0.3, common, 1)
    assert (shifted * TEXT[labels]).sum(axis=1).mean() == pytest.approx(0.3, abs=0.01)
    assert shifted[:, 0].mean() > photos[:, 0].mean() + 0.2


def test_what_new_photos_have_in_common_is_found_and_doubted():
    common = unit(np.random.default_rng(8).normal(size=(1, 32)))[0]
    labels = np.repeat(np.arange(4), 50)
    photos = unit(0.5 * TEXT[labels] + 0.5 * common)
    one = common_part(TEXT, photos[labels == 0], labels[labels == 0])
    four = common_part(TEXT, photos, labels)
    assert one @ common < four @ common < 0.7
    assert unit(four) @ common > 0.9
    assert usual_cosine(TEXT, TEXT[labels], labels) == pytest.approx(1)


# ---------------------------------------------------------------------- a file's rows


def prompt_of(codebook, indices, scales=None, rows=(), photos=(16, 16, 16)) -> PromptFile:
    indices = np.array(indices, np.uint8)
    count = len(indices)
    return PromptFile(
        method="qtaskres",
        groups=(
            PromptGroup.quantized(RESIDUALS, np.float16(codebook), indices, 1, scales, rows),
            PromptGroup.plain(OFFSETS, np.arange(count).astype(np.float16) / 8, rows),
        ),
        classes=NAMES,
        template=("a photo of a ", "."),
        backbone_name="tiny",
        fingerprint=bytes(16),
        calibration=Calibration(20.0),
        photos=photos,
    )


RANDOM = np.random.default_rng(4).integers(0, 2, (3, 32))
SCALES = np.array([0.25, 0.5, 1], np.float16)


@pytest.mark.parametrize(
    ("codebook", "scales", "owners"),
    [
        ((-0.8, 0.75), SCALES, (0, 1, 2)),
        ((0.75, -0.8), SCALES, (0, 1, 2)),  # in no order: another program's
        ((-0.8, 0.75), None, (0, 1, 2)),  # one scale for all rows, in the codebook
        ((-0.8, 0.75), SCALES[:2], (0, 2)),  # a class without a row
    ],
)
@pytest.mark.parametrize("grown", [1, 3])
def test_other_rows_keep_their_values(codebook, scales, owners, grown):
    before = prompt_of(codebook, RANDOM[: len(owners)], scales, owners)
    known = known_classes(before, TEXT, np.array([16, 16, 16, 0]))
    assert known.residuals[list(owners)] == pytest.approx(before.groups[0].values())
    rows = tune_rows(known, *only(grown), CONFIG)
    after = with_rows(before, [FOUR], rows, ())
    again = known_classes(after, TEXT, np.array([16, 16, 16, 0]))
    others = [place for place in range(4) if place != grown]
    assert np.array_equal(again.residuals[others], known.residuals[others])
    assert np.array_equal(again.offsets[others], known.offsets[others])
    assert np.array_equal(again.residuals[grown], rows.residuals[0])
    assert np.float16(again.offsets[grown]) == np.float16(rows.offsets[0])
    assert after.groups[0].codebook == before.groups[0].codebook
    assert PromptFile.from_bytes(after.to_bytes()) == after


@pytest.mark.parametrize("bits", [16, 32])
def test_rows_that_are_not_quantized(bits):
    weights = np.random.default_rng(1).normal(size=(3, 32)).astype(np.float16 if bits == 16 else np.float32)
    before = prompt_of((-1, 1), RANDOM)
    before = replace(before, groups=(PromptGroup.plain(RESIDUALS, weights), before.groups[1]))
    rows = tune_rows(known_classes(before, TEXT, np.array([16, 16, 16, 0])), *only(3), CONFIG)
    after = with_rows(before, [FOUR], rows, (16, 16, 16, 16))
    assert after.groups[0].bits == bits
    assert np.array_equal(after.groups[0].values()[:3], weights.astype(np.float32))
    assert after.groups[0].values()[3] == pytest.approx(rows.residuals[0], abs=1e-3)


def test_a_prompt_that_learned_nothing_gets_a_codebook():
    before = prompt_of((0, 0), RANDOM)
    rows = tune_rows(known_classes(before, TEXT, np.array([16, 16, 16, 0])), *only(3), CONFIG)
    after = with_rows(before, [FOUR], rows, ())
    assert not after.groups[0].values()[:3].any()
    assert after.groups[0].values()[3].any()


def test_a_codebook_of_one_value_is_refused():
    with pytest.raises(PromptFileError, match="one value for all weights"):
        known_classes(prompt_of((0.5, 0.5), RANDOM), TEXT, np.zeros(4, np.int64))


def test_classes_are_taken_out_with_their_rows():
    before = prompt_of((-0.8, 0.75), RANDOM[:2], SCALES[:2], (0, 2))
    after = without_classes(before, {"one"})
    assert [name.label for name in after.classes] == ["two", "three"]
    assert (after.groups[0].rows, after.photos) == ((1,), (16, 16))
    assert np.array_equal(after.groups[0].values()[0], before.groups[0].values()[1])
    with pytest.raises(PromptFileError, match="no class that would remain was tuned on photos"):
        without_classes(before, {"one", "three"})


# ---------------------------------------------------------------------- accept scores


def test_joined_accept_scores_are_those_of_all_photos():
    rng = np.random.default_rng(0)
    features, labels = unit(rng.normal(size=(900, 32))), np.zeros(900, np.int64)
    scores = rng.normal(0, 0.2, (900, 3)).astype(np.float32)
    known = known_scores(scores, features, NOUNS)
    least = np.quantile(known[:600], [1 - share for share in ACCEPT_SHARES]).astype(np.float16)
    before = Calibration(20.0, tuple(map(float, least)), 0.95)
    more = HeldOutScores(scores[600:] - 0.02, labels[600:], features[600:])
    joined = joined_accept_scores(before, 600, more, NOUNS)
    together = np.concatenate([known[:600], known_scores(more.scores, more.features, NOUNS)])
    for share, score in zip(ACCEPT_SHARES, joined.accept_scores, strict=True):
        assert (together >= score).mean() == pytest.approx(share, abs=0.01)
    assert (joined.logit_scale, joined.accept) == (20.0, 0.95)
