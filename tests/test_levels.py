"""How high tuned classes score beside other names: what is set, and what stays as it is."""

from dataclasses import replace

import numpy as np
import pytest
from prompts import FULL
from test_qtaskres import TEMPLATE, TEXT, examples, tuned, unit

from qprompt_edge.data.features import Examples
from qprompt_edge.reproduction.jobs import Job
from qprompt_edge.reproduction.recipes import RECIPES
from qprompt_edge.reproduction.workbench import PromptJudge, Workbench
from qprompt_edge.tuning.calibration import HeldOutScores, held_out_scores
from qprompt_edge.tuning.levels import level, levelled
from qprompt_edge.tuning.methods import default_training
from qprompt_edge.tuning.qtaskres import OFFSETS, RESIDUALS
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.none_of_these import energy
from qprompt_runtime.prompt_file import Calibration, PromptFile, PromptGroup

SCALE = 20.0
PHOTOS = examples([16] * 4)


@pytest.fixture(scope="module")
def held_out() -> HeldOutScores:
    return held_out_scores(TEXT, PHOTOS, np.arange(64), default_training("qtaskres"))


@pytest.fixture(scope="module")
def prompt() -> PromptFile:
    weights, _ = tuned(PHOTOS)
    groups = (
        PromptGroup.plain(RESIDUALS, weights[RESIDUALS]),
        PromptGroup.plain(OFFSETS, weights[OFFSETS].astype(np.float16)),
    )
    return replace(
        FULL,
        groups=groups,
        classes=PHOTOS.classes,
        template=TEMPLATE,
        calibration=Calibration(SCALE),
        photos=(),
    )


def test_the_energy_is_1_over_k_log_sum_exp() -> None:
    two = np.array([[0.25, 0.5], [1.0, 1.0]], np.float32)
    expected = np.log(np.exp(10 * two.astype(float)).sum(axis=1)) / 10
    assert energy(two, np.float32(10)) == pytest.approx(expected, rel=1e-6)


def test_classes_score_as_high_as_by_their_words(prompt: PromptFile, held_out: HeldOutScores) -> None:
    after, scores = levelled(prompt, held_out, TEXT)
    by_words = energy(held_out.features @ TEXT.T, np.float32(SCALE / 2)).mean()
    assert abs(energy(held_out.scores, np.float32(SCALE / 2)).mean() - by_words) > 0.1
    assert energy(scores.scores, np.float32(SCALE / 2)).mean() == pytest.approx(by_words, abs=1e-5)
    moved = after.groups[1].values() - prompt.groups[1].values()
    assert moved == pytest.approx(np.full(4, -level(held_out, TEXT, SCALE)), abs=2e-4)


def test_nothing_else_is_changed(prompt: PromptFile, held_out: HeldOutScores) -> None:
    after, scores = levelled(prompt, held_out, TEXT)
    assert after.groups[0] == prompt.groups[0]
    assert replace(after, groups=prompt.groups) == prompt
    assert len(after.to_bytes()) == len(prompt.to_bytes())
    photos = unit(np.random.default_rng(3).normal(size=(500, 32)))
    cosines = photos @ unit(TEXT + prompt.groups[0].values()).T
    answers = [(cosines + each.groups[1].values()).argmax(axis=1) for each in (prompt, after)]
    assert (answers[0] != answers[1]).mean() <= 0.002  # offsets are rounded to half precision
    assert np.array_equal(scores.scores.argmax(axis=1), held_out.scores.argmax(axis=1))


def test_offsets_keep_their_rows(prompt: PromptFile, held_out: HeldOutScores) -> None:
    some = tuple(PromptGroup.plain(group.role, group.values()[:2], (1, 3)) for group in prompt.groups)
    some = some[0], replace(some[1], bits=16, data=some[1].values().astype("<f2").tobytes())
    after, _ = levelled(replace(prompt, groups=some), held_out, TEXT)
    assert after.groups[1].rows == (1, 3)


def test_too_few_photos_set_no_level(prompt: PromptFile) -> None:
    few = held_out_scores(TEXT, examples([4] * 4), np.arange(16), default_training("qtaskres"))
    assert len(few.labels) == 16
    assert level(few, TEXT, SCALE) == 0
    assert levelled(prompt, few, TEXT)[0] == prompt


@pytest.mark.parametrize(("shots", "is_set"), [(12, True), (3, False)])
def test_what_reproduce_compares_has_the_level(tiny: Backbone, shots: int, is_set: bool) -> None:
    """Learned offsets have the mean 0."""
    few = examples([shots] * 3)
    wide = np.pad(few.plain, ((0, 0), (0, tiny.manifest.embed_dim - 32)))[:, None]
    job = Job("generalised", "qtaskres-1", "set", "base", shots, 1, ())
    workbench = Workbench(tiny, {}, {"epochs": 20})
    judge = workbench._learn(
        RECIPES["qtaskres-1"], Examples(few.classes, few.paths, few.labels, wide), job
    ).judge
    assert isinstance(judge, PromptJudge)
    assert (abs(judge.prompt.groups[1].values().mean()) > 1e-3) == is_set
