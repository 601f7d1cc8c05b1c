"""The benchmark of "none of these": which classes are known, and what its rates say."""

import numpy as np
import pytest

pytest.importorskip(
    "benchmarks.open_set"
)  # the checkout itself, as the session with the exporters installs it

from benchmarks.open_set import known_classes, rates

pytestmark = pytest.mark.export


def test_half_of_the_classes_are_known() -> None:
    assert known_classes(7, None).tolist() == [0, 1, 2, 3]
    drawn = known_classes(7, 3)
    assert len(set(drawn.tolist())) == 4
    assert drawn.tolist() == sorted(drawn.tolist())
    assert np.array_equal(drawn, known_classes(7, 3))


def test_rates_of_scores() -> None:
    known = np.arange(1, 101, dtype=float)
    found = rates(known, np.array([0.0, 3.0, 50.5, 200.0]), least=11.0)
    assert found["area"] == pytest.approx((100 + 97.5 + 50 + 0) / 400)
    assert found["false positives"] == 0.5  # 95% of the known reach about 6
    assert found["known pass"] == 0.9
    assert found["unknown pass"] == 0.5
