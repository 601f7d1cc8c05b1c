"""The paired test: by hand, by brute force, and by simulation."""

import itertools

import numpy as np
import pytest

from qprompt_edge.evaluation.paired import Comparison, compare


def photos(both: int, gained: int, lost: int, neither: int) -> Comparison:
    counts = (both, gained, lost, neither)
    return compare(
        np.repeat([True, False, True, False], counts), np.repeat([True, True, False, False], counts)
    )


def test_numbers_by_hand() -> None:
    """6 and 0 of 40: p = 2 / 2^6; middle 6 / 42, half 1.96 sqrt(7 - 36 / 42) / 42."""
    found = photos(12, 6, 0, 22)
    assert found.difference == pytest.approx(0.15)
    assert found.p == 2 / 64
    assert found.interval == pytest.approx((6 / 42 - 0.115664, 6 / 42 + 0.115664), abs=1e-5)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (3, 3), (2, 7), (9, 1), (5, 4)])
def test_p_counts_every_split_that_is_as_uneven(gained: int, lost: int) -> None:
    fair = [sum(coins) for coins in itertools.product((0, 1), repeat=gained + lost)]
    uneven = abs(gained - lost)
    expected = np.mean([abs(2 * heads - gained - lost) >= uneven for heads in fair])
    assert photos(4, gained, lost, 4).p == pytest.approx(expected)


@pytest.mark.parametrize(
    ("gained", "lost", "helped"), [(6, 0, True), (0, 6, False), (5, 0, None), (0, 5, None), (0, 0, None)]
)
def test_what_is_said(gained: int, lost: int, helped: bool | None) -> None:
    assert photos(10, gained, lost, 14).helped is helped


def test_one_photo_more_of_thirty_says_nothing() -> None:
    assert photos(14, 1, 0, 15).helped is None


def test_many_photos() -> None:
    found = photos(1000, 3000, 2000, 4000)
    assert found.helped
    assert found.difference == pytest.approx(0.1)
    assert 0 < found.p < 1e-40


def test_the_interval_stays_within_what_is_possible() -> None:
    low, high = photos(0, 1, 0, 0).interval
    assert (low > -1, high) == (True, 1.0)


def test_the_interval_covers_the_true_difference() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(40, [0.5, 0.2, 0.05, 0.25], size=2000)
    hits = [found.interval[0] <= 0.15 <= found.interval[1] for found in (photos(*row) for row in drawn)]
    assert 0.93 < np.mean(hits) < 0.98
