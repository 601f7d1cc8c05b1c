"""The array type that is used everywhere here, and what numpy does in too costly a way."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
"""Single precision, of any shape; a docstring says which."""


def distinct(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The different ones of whole numbers, ascending; int64 [N] to int64 [n].

    `np.unique` gives the same, but imports masked arrays before.
    """
    return np.array(sorted(set(numbers.tolist())), np.int64)
