"""Cross-validated scores: who is kept away, what the temperature and the accept scores promise."""

import numpy as np
import pytest
from test_qtaskres import TEXT, examples, unit

from qprompt_edge.tuning.calibration import _SCALES, HeldOutScores, calibrate, folds, held_out_scores
from qprompt_edge.tuning.methods import default_training
from qprompt_runtime.class_head import softmax
from qprompt_runtime.none_of_these import known_scores, least_score
from qprompt_runtime.prompt_file import ACCEPT_SHARES

NOUNS = unit(np.random.default_rng(5).normal(size=(20, 32)))


def test_each_photo_is_kept_away_once_and_bursts_stay_together() -> None:
    labels = np.repeat([0, 1], 12)
    groups = np.arange(24) // 3  # bursts of three
    away = np.concatenate([positions for _, positions in folds(labels, groups, seed=1)])
    assert sorted(away) == list(range(24))
    for used, kept in folds(labels, groups, seed=1):
        assert not set(groups[used]) & set(groups[kept])
        assert not set(used) & set(kept)


def test_a_class_of_one_burst_is_always_tuned_on() -> None:
    labels = np.array([0] * 6 + [1] * 3)
    groups = np.array([0, 1, 2, 3, 4, 5, 6, 6, 6])
    for used, kept in folds(labels, groups, seed=1):
        assert {6, 7, 8} <= set(used)
        assert set(kept) <= set(range(6))


def test_enough_photos_are_enough() -> None:
    labels = np.repeat(np.arange(4), 1000)
    assert sum(len(kept) for _, kept in folds(labels, np.arange(4000), seed=1)) == 800


def test_the_temperature_is_the_likeliest() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 0.1, (4000, 5)).astype(np.float32)
    chances = softmax(np.float32(30) * scores)
    labels = (chances.cumsum(axis=1) > rng.random((4000, 1))).argmax(axis=1)
    features = unit(rng.normal(size=(4000, 32)))
    found = calibrate(HeldOutScores(scores, labels, features), NOUNS, 100.0)
    assert found.logit_scale == pytest.approx(30, rel=0.1)
    assert found.accept is None


@pytest.mark.parametrize("sharpness", [1.0, 30.0, 1000.0])
def test_halving_finds_what_trying_all_scales_does(sharpness: float) -> None:
    """The last case is told apart without an error: the larger the scale, the better."""
    rng = np.random.default_rng(1)
    scores = rng.normal(0, 0.1, (500, 5)).astype(np.float32)
    chances = softmax(np.float32(sharpness) * scores)
    labels = (chances.cumsum(axis=1) > rng.random((500, 1))).argmax(axis=1)
    losses = [
        -np.log(np.maximum(softmax(np.float32(scale) * scores)[np.arange(500), labels], 1e-30)).mean()
        for scale in _SCALES
    ]
    features = unit(rng.normal(size=(500, 32)))
    found = calibrate(HeldOutScores(scores, labels, features), NOUNS, 100.0)
    assert found.logit_scale == np.float16(_SCALES[np.argmin(losses)])


def test_progress_ends_with_all_folds_done() -> None:
    seen: list[tuple[int, int]] = []
    config = default_training("qtaskres")
    held_out_scores(TEXT, examples([10] * 4), np.arange(40), config, lambda *step: seen.append(step))
    assert seen[0] == (0, 5)
    assert seen[-1] == (5, 5)


def test_a_share_of_known_photos_reaches_its_score() -> None:
    photos = examples([40] * 4)
    held_out = held_out_scores(TEXT, photos, np.arange(160), default_training("qtaskres"))
    assert len(held_out.labels) == 160
    found = calibrate(held_out, NOUNS, 100.0, accept=0.95)
    scores = known_scores(held_out.scores, held_out.features, NOUNS)
    for share in ACCEPT_SHARES:
        assert (scores >= least_score(found, share)).mean() == pytest.approx(share, abs=0.02)
    assert least_score(found, 0.80) > least_score(found, 0.85) > least_score(found, 0.90)
    assert found.accept == 0.95


@pytest.mark.parametrize("share", [0.5, 0.795, 0.995, float("nan")])
def test_no_score_is_known_beyond_what_was_stored(share: float) -> None:
    held_out = held_out_scores(TEXT, examples([10] * 4), np.arange(40), default_training("qtaskres"))
    with pytest.raises(ValueError, match=r"expected a share from 0\.8 to 0\.99"):
        least_score(calibrate(held_out, NOUNS, 100.0), share)


def test_too_few_photos_promise_nothing() -> None:
    held_out = held_out_scores(TEXT, examples([4] * 4), np.arange(16), default_training("qtaskres"))
    found = calibrate(held_out, NOUNS, 100.0)
    assert (found.logit_scale, found.accept_scores) == (100.0, ())
