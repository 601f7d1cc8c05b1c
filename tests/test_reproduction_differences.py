"""Differences between methods and their intervals, from outcomes whose differences are known."""

import time

import numpy as np
import pytest
from outcomes import bits, found, halves, outcome

from qprompt_edge.reproduction.bootstrap import Resampling, compare
from qprompt_edge.reproduction.jobs import BASE, NEW, Outcome
from qprompt_edge.reproduction.measures import CROSS_DATASET, TOP1, Measure


def noisy(rng: np.random.Generator, ahead: float = 0.04, sets: int = 3, photos: int = 400) -> list[Outcome]:
    """`b` has two photos in three right; `a` has what `b` has, but for a few lost and more won."""
    outcomes = []
    for source in range(sets):
        for seed in (1, 2, 3):
            b = rng.random((2, photos)) < 2 / 3
            a = np.where(b, rng.random(b.shape) > 0.03, rng.random(b.shape) < 3 * ahead + 0.06)
            for name, own in (("a", a), ("b", b)):
                outcomes.append(halves(name, own[0], own[1], source=f"set{source}", seed=seed))
    return outcomes


def test_h_is_the_harmonic_mean_of_each_seed() -> None:
    outcomes = [
        halves("a", bits(8, 10), bits(2, 10), seed=1),  # 2 * 0.8 * 0.2 / 1.0 = 0.32
        halves("a", bits(6, 10), bits(6, 10), seed=2),  # 0.6
        halves("b", bits(0, 10), bits(0, 10), seed=1),  # 0, not undefined
        halves("b", bits(5, 10), bits(5, 10), seed=2),  # 0.5
    ]
    assert found(compare(outcomes, "a", "b", Measure())).value == pytest.approx((0.32 + 0.6) / 2 - 0.25)
    assert found(compare(outcomes, "a", "b", Measure(BASE))).value == pytest.approx(0.7 - 0.25)
    assert found(compare(outcomes, "a", "b", Measure(NEW))).value == pytest.approx(0.4 - 0.25)


def test_data_sets_weigh_the_same_whatever_their_seeds_and_photos() -> None:
    outcomes = [
        *(halves("a", bits(9, 10), bits(9, 10), seed=seed) for seed in (1, 2, 3)),
        *(halves("b", bits(5, 10), bits(5, 10), seed=seed) for seed in (1, 2, 3)),
        halves("a", bits(500, 1000), bits(500, 1000), source="cars"),
        halves("b", bits(500, 1000), bits(500, 1000), source="cars"),
    ]
    difference = found(compare(outcomes, "a", "b", Measure()))
    assert (difference.value, difference.runs) == (pytest.approx(0.2), 4)


def test_interval_agrees_with_photos_drawn_one_by_one() -> None:
    rng = np.random.default_rng(5)
    a = rng.random((3, 2, 60)) < 0.7
    b = np.where(rng.random(a.shape) < 0.8, a, ~a)
    outcomes = [halves(name, *of[seed], seed=seed) for name, of in (("a", a), ("b", b)) for seed in range(3)]
    draws = []
    for _ in range(2500):
        values = []
        for seed in rng.integers(3, size=3):
            photos = rng.integers(60, size=(2, 60))
            (p, q), (r, s) = (np.take_along_axis(of[seed], photos, axis=1).mean(axis=1) for of in (a, b))
            values.append(2 * p * q / (p + q) - 2 * r * s / (r + s))
        draws.append(np.mean(values))
    ours = found(compare(outcomes, "a", "b", Measure(), Resampling(4000)))
    low, high = np.percentile(draws, [2.5, 97.5])
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.006)


def test_interval_covers_a_known_difference() -> None:
    # base and new alike: H is ahead by what each is; b: 2/3, a: 2/3 * 0.97 + 1/3 * (3 * ahead + 0.06)
    covered = 0
    for trial in range(40):
        outcomes = noisy(np.random.default_rng(trial), ahead=0.04)
        difference = found(compare(outcomes, "a", "b", Measure(), Resampling(300)))
        covered += difference.low <= 0.04 <= difference.high
    assert covered >= 34


def test_pairing_narrows_the_interval() -> None:
    rng = np.random.default_rng(1)
    b = rng.random(500) < 0.6
    a = b | (rng.random(500) < 0.02)
    paired = [outcome(name, {BASE: own}) for name, own in (("a", a), ("b", b))]
    shuffled = [outcome(name, {BASE: own}) for name, own in (("a", rng.permutation(a)), ("b", b))]
    one, other = (found(compare(outcomes, "a", "b", Measure(BASE))) for outcomes in (paired, shuffled))
    assert one.value == pytest.approx(other.value)
    assert one.high - one.low < 0.4 * (other.high - other.low)


def test_joint_photos_do_not_count_twice() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.random((2, 400)) < 0.6
    one = [outcome(name, {BASE: own}) for name, own in (("a", a), ("b", b))]
    same = [outcome(name, {BASE: own}, seed=seed) for name, own in (("a", a), ("b", b)) for seed in range(4)]
    single = found(compare(one, "a", "b", Measure(BASE)))
    joint = found(compare(same, "a", "b", Measure(BASE), Resampling(joint_photos=True)))
    apart = found(compare(same, "a", "b", Measure(BASE)))
    assert joint.high - joint.low == pytest.approx(single.high - single.low, rel=0.1)
    assert apart.high - apart.low == pytest.approx((single.high - single.low) / 2, rel=0.1)
    fewer = [outcome(name, {BASE: own[:300]}, seed=9) for name, own in (("a", a), ("b", b))]
    assert found(compare(same + fewer, "a", "b", Measure(BASE), Resampling(joint_photos=True))).runs == 5


def test_only_common_runs_are_compared() -> None:
    outcomes = [
        halves("a", bits(9, 10), bits(9, 10), seed=1),
        halves("a", bits(0, 10), bits(0, 10), seed=2),
        halves("a", bits(0, 10), bits(0, 10), seed=1, shots=8),
        halves("a", bits(0, 10), bits(0, 10), source="cars"),
        halves("b", bits(8, 10), bits(8, 10), seed=1),
        outcome("probe", {BASE: bits(7, 10)}),  # says nothing about new classes
    ]
    difference = found(compare(outcomes, "a", "b", Measure()))
    assert (difference.value, difference.runs) == (pytest.approx(0.1), 1)
    assert compare(outcomes, "a", "probe", Measure()) is None
    assert found(compare(outcomes, "a", "probe", Measure(BASE))).value == pytest.approx(0.2)
    assert compare(outcomes, "a", "unknown", Measure()) is None


def test_different_numbers_of_photos_cannot_be_paired() -> None:
    outcomes = [outcome("a", {BASE: bits(9, 10)}), outcome("b", {BASE: bits(9, 12)})]
    with pytest.raises(ValueError, match="a and b were judged on 10 and 12 photos of pets"):
        compare(outcomes, "a", "b", Measure(BASE))


def test_a_run_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="pets, 16 shots, seed 1: two outcomes of base2new judge pets"):
        compare([outcome("a", {BASE: bits(9, 10)})] * 2, "a", "b", Measure(BASE))


def test_a_target_without_photos_is_refused() -> None:
    with pytest.raises(ValueError, match="a target has no photos"):
        compare([outcome("a", {BASE: bits(0, 0)})], "a", "b", Measure(BASE))


def test_intervals_are_repeatable_whatever_the_order() -> None:
    outcomes = noisy(np.random.default_rng(0))
    assert compare(outcomes, "a", "b", Measure()) == compare(outcomes[::-1], "a", "b", Measure())
    assert compare(outcomes, "a", "b", Measure()) != compare(
        outcomes, "a", "b", Measure(), Resampling(seed=1)
    )


def test_a_comparison_takes_less_than_two_seconds() -> None:
    outcomes = noisy(np.random.default_rng(0), photos=1600)
    began = time.process_time()
    compare(outcomes, "a", "b", Measure())
    assert time.process_time() - began < 2


def test_transfer_is_judged_on_other_sets_only() -> None:
    outcomes = [
        outcome(name, {"pets/all": bits(own, 10), "cars/all": bits(far, 10)}, protocol=CROSS_DATASET)
        for name, own, far in (("a", 9, 4), ("b", 2, 3))
    ]
    difference = found(compare(outcomes, "a", "b", Measure(TOP1, CROSS_DATASET)))
    assert (difference.value, difference.runs) == (pytest.approx(0.1), 1)
