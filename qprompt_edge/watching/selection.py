"""Which photo to label next: one that the prompt is unsure of, and that is unlike those it knows.

Photos are taken one by one. Each counts by how unsure the prompt is of it, times how far it is from all that is known and
from those taken before it. So a burst of one scene does not fill the first page.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qprompt_runtime.arrays import Array


def best_first(sureness: Array, features: Array, known: Array) -> NDArray[np.int64]:
    """The order in which photos are labelled best.

    Args:
        sureness: float32 [N], from 0 (undecided) to 1.
        features: float32 [N,E], rows of length 1.
        known: float32 [M,E], features of the photos that are labelled, rows of length 1; M may be 0.

    Returns:
        int64 [N], positions, the one worth most first.
    """
    nearest = (features @ known.T).max(axis=1, initial=-1.0)
    doubt = 1 - sureness
    order = np.zeros(len(features), np.int64)
    left = np.ones(len(features), bool)
    for place in range(len(features)):
        worth = np.where(left, doubt * (1 - nearest), -1.0)
        order[place] = taken = int(np.argmax(worth))
        left[taken] = False
        nearest = np.maximum(nearest, features @ features[taken])
    return order
