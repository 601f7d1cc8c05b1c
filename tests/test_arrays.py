"""What numpy does in too costly a way."""

import numpy as np

from qprompt_runtime.arrays import distinct


def test_distinct_numbers_are_those_of_unique() -> None:
    rng = np.random.default_rng(0)
    for size in (0, 1, 2, 40):
        numbers = rng.integers(-9, 9, size)
        found = distinct(numbers)
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, np.unique(numbers))
