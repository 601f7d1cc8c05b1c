"""The parts of `check` on made-up figures: each finds what was planted, and nothing by accident."""

import math
from pathlib import Path

import numpy as np
import pytest

from qprompt_edge.checking.chance import tail
from qprompt_edge.checking.cross_validation import deal, held_out_scores
from qprompt_edge.checking.discriminant import discriminant
from qprompt_edge.checking.duplicates import duplicate_groups, duplicates
from qprompt_edge.checking.learning_curve import learning_curve
from qprompt_edge.checking.mislabelled import mislabelled
from qprompt_edge.checking.mixed_up import mixed_up
from qprompt_edge.checking.poor_photos import poor_photos
from qprompt_edge.checking.short_classes import short_classes
from qprompt_edge.data.photo_quality import Quality
from qprompt_edge.evaluation.intervals import wilson

CLASSES = ("ant", "bee", "cat")


def paths(count: int) -> list[Path]:
    return [Path(f"{number:04}") for number in range(count)]


def clouds(each: int, apart: float, classes: int = 3, width: int = 20, seed: int = 0):
    """Unit features around a centre for each class, their labels, and each photo as a group of its own."""
    rng = np.random.default_rng(seed)
    centres = apart * np.eye(classes, width)
    labels = np.repeat(np.arange(classes), each)
    features = centres[labels] + rng.normal(0, 1 / math.sqrt(width), (len(labels), width))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features.astype(np.float32), labels, np.arange(len(labels))


def one_class_in_two():
    """Forty cats, and eighty photos of one kind of which every other is called an ant, the rest bees."""
    features, labels, groups = clouds(80, 1.5)
    return features[80:200], np.where(labels[80:200] == 2, 2, np.arange(120) % 2), groups[:120]


def planted(labels: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    given = labels.copy()
    given[wrong] = (labels[wrong] + 1) % 3
    return given


# ---------------------------------------------------------------------- the classifier


@pytest.mark.parametrize("each", [3, 40])  # fewer photos than features, and more
def test_scores_are_log_likelihoods(each: int) -> None:
    features, labels, _ = clouds(each, 1.0)
    features, labels = features[2:].astype(np.float64), labels[2:]  # classes of several sizes
    weight, bias = discriminant(features.astype(np.float32), labels, 4, penalty=0.5)
    means = np.array([features[labels == label].mean(axis=0) for label in range(3)])
    apart = features - means[labels]
    spread = apart.T @ apart / (len(labels) - 3)
    spread += 0.5 * np.trace(spread) / 20 * np.eye(20)
    distance = features[:, None] - means
    expected = -0.5 * np.einsum("nce,ef,ncf->nc", distance, np.linalg.inv(spread), distance)
    found = features @ weight + bias
    assert found[:, :3] - found[:, :1] == pytest.approx(expected - expected[:, :1], rel=1e-3, abs=1e-3)
    assert (found.argmax(axis=1) != 3).all()


def test_folds_are_even_and_keep_twins_together() -> None:
    labels = np.repeat([0, 1, 2], [20, 10, 3])
    groups = np.arange(33)
    groups[[5, 25, 32]] = 5  # one picture in three classes
    dealt = deal(labels, groups, 5, np.random.default_rng(1))
    assert set(dealt.tolist()) == set(range(5))
    assert len(set(dealt[[5, 25, 32]].tolist())) == 1
    assert np.bincount(dealt[:20]).tolist() == [4] * 5
    assert max(np.bincount(dealt[20:30])) <= 3
    assert np.array_equal(dealt, deal(labels, groups, 5, np.random.default_rng(1)))


def test_a_photo_is_scored_without_its_twins() -> None:
    features, labels, groups = clouds(12, 1.0)
    given = labels.copy()
    given[:3] = 1
    features[1:3], groups[1:3] = features[0], 0  # three wrong labels that would confirm each other
    held_out = held_out_scores(features, given, groups, 3)
    assert (held_out.scores[:3].argmax(axis=1) == 0).all()
    assert np.ptp(held_out.scores[:3], axis=0) == pytest.approx(0, abs=1e-5)


def test_classes_of_few_pictures_are_not_judged() -> None:
    features, labels, groups = clouds(6, 1.0)
    groups[12:] = 12
    assert held_out_scores(features, labels, groups, 3).judged.tolist() == [True] * 12 + [False] * 6


# ---------------------------------------------------------------------- labels


@pytest.mark.parametrize("each", [12, 100])
def test_wrong_labels_are_found_and_right_ones_left(each: int) -> None:
    features, labels, groups = clouds(each, 1.5)
    wrong = np.random.default_rng(3).choice(len(labels), max(2, len(labels) // 20), replace=False)
    given = planted(labels, wrong)
    names = paths(len(labels))
    found = mislabelled(held_out_scores(features, given, groups, 3), names, given, CLASSES)
    assert {int(str(it.path)) for it in found} == set(wrong.tolist())
    for it in found:
        place = int(str(it.path))
        assert (it.label, it.looks_like) == (CLASSES[given[place]], CLASSES[labels[place]])
    assert [it.doubt for it in found] == sorted((it.doubt for it in found), reverse=True)
    assert mislabelled(held_out_scores(features, labels, groups, 3), names, labels, CLASSES) == ()


def test_classes_that_cannot_be_told_apart_are_not_suggested_for_each_other() -> None:
    features, given, groups = one_class_in_two()
    given[-1] = 0
    held_out, names = held_out_scores(features, given, groups, 3), paths(120)
    (found,) = mislabelled(held_out, names, given, CLASSES, [("ant", "bee")])
    assert (found.path, found.label, found.looks_like) == (names[-1], "ant", "cat")
    pairs = mixed_up(held_out.scores, held_out.judged, names, given, groups, CLASSES)
    assert [pair.labels for pair in pairs] == [("ant", "bee")]


def test_few_are_listed_where_all_is_unclear() -> None:
    features, labels, groups = clouds(100, 0.3)
    given = labels.copy()
    given[::3] = np.random.default_rng(1).integers(0, 3, 100)
    found = mislabelled(held_out_scores(features, given, groups, 3), paths(300), given, CLASSES)
    assert len(found) <= 30


# ---------------------------------------------------------------------- classes


def test_pairs_by_chance_alone_are_found_and_clear_ones_left() -> None:
    features, given, groups = one_class_in_two()
    held_out = held_out_scores(features, given, groups, 3)
    (pair,) = mixed_up(held_out.scores, held_out.judged, paths(120), given, groups, CLASSES)
    assert (pair.labels, pair.photos, pair.chance) == (("ant", "bee"), 80, True)
    assert pair.wrong == len(pair.paths)
    assert pair.interval[0] < pair.share < pair.interval[1]
    features, labels, groups = clouds(40, 1.5)
    held_out = held_out_scores(features, labels, groups, 3)
    assert mixed_up(held_out.scores, held_out.judged, paths(120), labels, groups, CLASSES) == ()


def test_a_few_accidents_are_no_pair() -> None:
    labels, groups = np.repeat([0, 1], 5), np.arange(10)
    scores = np.where(np.arange(2) == labels[:, None], 1.0, 0.0).astype(np.float32)
    scores[[0, 5]] = scores[[5, 0]]  # one in five of each
    judged = np.ones(10, bool)
    assert mixed_up(scores, judged, paths(10), labels, groups, CLASSES[:2]) == ()
    scores[:] = 1 - scores
    (pair,) = mixed_up(scores, judged, paths(10), labels, groups, CLASSES[:2])
    assert (pair.wrong, pair.photos, pair.share) == (8, 10, 0.8)
    groups[:] = np.repeat([0, 5], 5)  # ten pictures of two things
    assert mixed_up(scores, judged, paths(10), labels, groups, CLASSES[:2]) == ()


def test_short_classes_by_hand() -> None:
    labels = np.repeat([0, 1, 3], [40, 9, 30])
    groups = np.arange(79)
    groups[41:44] = 41
    found = short_classes(labels, groups, ("a", "b", "c", "d"))
    assert [(it.label, it.photos, it.distinct, it.wanted) for it in found] == [("c", 0, 0, 8), ("b", 9, 7, 8)]
    labels = np.repeat([0, 1, 2], [400, 400, 60])
    (rare,) = short_classes(labels, np.arange(860), CLASSES)
    assert (rare.label, rare.distinct, rare.wanted) == ("cat", 60, 100)
    assert short_classes(np.repeat([0, 1], 8), np.arange(16), CLASSES[:2]) == ()


def test_more_photos_help_where_they_do() -> None:
    features, labels, groups = clouds(8, 0.5)
    poor = learning_curve(features, labels, groups, 3)
    assert poor is not None
    assert poor.gain > 0.01
    assert poor.enough is not True
    features, labels, groups = clouds(400, 1.5)
    rich = learning_curve(features, labels, groups, 3)
    assert rich is not None
    assert rich.enough is True
    assert rich.interval[0] <= rich.gain <= rich.interval[1] < 0.01
    assert [point.photos for point in rich.points] == sorted(point.photos for point in rich.points)
    assert rich.points[-1].photos == pytest.approx(320)
    for point in rich.points:
        assert point.interval[0] <= point.top1 <= point.interval[1]
    assert rich == learning_curve(features, labels, groups, 3)


def test_no_curve_from_too_little() -> None:
    features, labels, groups = clouds(4, 1.0)
    assert learning_curve(features, labels, groups, 3) is None
    assert learning_curve(features[:0], labels[:0], groups[:0], 3) is None
    features, labels, groups = clouds(40, 1.0, classes=1)
    assert learning_curve(features, labels, groups, 1) is None


# ---------------------------------------------------------------------- photos


def test_duplicates_need_hash_and_features() -> None:
    features = np.eye(6, dtype=np.float32)
    features[1], features[4] = features[0], features[0]
    hashes = np.array([0xFF00, 0xFF01, 0xFF03, 0xFFFF << 32, 0xFF07, 0xAAAA << 16], np.uint64)
    groups = duplicate_groups(features, hashes)
    assert groups.tolist() == [0, 0, 2, 3, 0, 5]  # the third has the hash, and looks different
    keys = np.arange(6 * 16, dtype=np.uint8).reshape(6, 16)
    keys[1] = keys[0]
    labels = np.array([0, 0, 0, 1, 1, 1])
    (found,) = duplicates(groups, keys, paths(6), labels, CLASSES)
    assert [str(path) for path in found.paths] == ["0000", "0001", "0004"]
    assert (found.labels, found.identical, found.across_classes) == (("ant", "ant", "bee"), False, True)
    (same,) = duplicates(groups[:4], keys[:4], paths(4), labels[:4], CLASSES)
    assert (same.identical, same.across_classes) == (True, False)


def test_poor_photos_stand_out() -> None:
    usual = [Quality(1.0 + 0.01 * number, 0.1, 0.9) for number in range(20)]
    odd = [Quality(0.2, 0.1, 0.9), Quality(0.9, 0.01, 0.05), Quality(0.1, 0.9, 1.0)]
    quality = [*usual, *odd]
    labels = np.array([0] * 20 + [1] * 3)
    blurred, dark, blown_out = poor_photos(quality, paths(23), labels, CLASSES)
    assert [str(it.path) for it in blurred] == ["0020"]
    assert [str(it.path) for it in dark] == ["0021"]
    assert [str(it.path) for it in blown_out] == ["0022"]
    assert blurred[0].value == pytest.approx(0.2)
    assert blurred[0].value < blurred[0].limit < 0.5
    assert blown_out[0].value > blown_out[0].limit > 0.5
    assert (blurred[0].label, dark[0].label) == ("bee", "bee")
    assert poor_photos(usual, paths(20), labels[:20], CLASSES) == ((), (), ())
    assert poor_photos([], [], labels[:0], CLASSES) == ((), (), ())


def test_what_all_photos_have_in_common_is_no_fault() -> None:
    labels = np.repeat([0, 1], 20)
    night = [Quality(0.2, 0.0, 0.1 + 0.001 * number) for number in range(20)]
    white = [Quality(2.0, 0.95, 1.0 - 0.001 * number) for number in range(20)]
    for quality in (night * 2, white * 2, night + white):
        assert poor_photos(quality, paths(40), labels, CLASSES) == ((), (), ())


# ---------------------------------------------------------------------- figures


def test_tail_and_interval_by_hand() -> None:
    for hits, count, chance in ((0, 5, 0.1), (3, 10, 0.1), (10, 10, 0.5), (7, 10, 0.5)):
        terms = (
            math.comb(count, k) * chance**k * (1 - chance) ** (count - k) for k in range(hits, count + 1)
        )
        assert tail(hits, count, chance) == pytest.approx(sum(terms))
    assert wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(1.0, 20) == pytest.approx((0.8389, 1.0), abs=1e-4)
