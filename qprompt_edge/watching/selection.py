"""Which photo to label next.

Photos are taken one by one, the one with the largest

    doubt * need * sqrt(1 - likeness)

doubt: 1 less the margin between the two likeliest classes. need: what a label is worth, 1/(n_c + 1) of a
class c with n_c labelled photos, by the classes that the photo may be of. likeness: the largest cosine to a
photo that is labelled, or was taken before it. So the first page is neither ten frames of one scene, nor ten
of the class that passes all day. `benchmarks/review_labels.py` measures what it saves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qprompt_runtime.arrays import Array


def best_first(
    margins: Array, chances: Array, features: Array, known: Array, counts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The order in which photos are labelled best.

    Args:
        margins: float32 [N], probability of the likeliest class less that of the next, 0 to 1.
        chances: float32 [N,C], probabilities of the classes; of those that are not known, 0.
        features: float32 [N,E], rows of length 1.
        known: float32 [M,E], features of the photos that are labelled, rows of length 1; M may be 0.
        counts: int64 [C], photos that each class has.

    Returns:
        int64 [N], positions, the one worth most first.
    """
    likeness = (features @ known.T).max(axis=1, initial=-1.0)
    doubt = np.maximum(1 - margins, 1e-6)  # of those it is sure of, the rarest and most unlike come first
    expected = counts.astype(np.float64)
    order = np.zeros(len(features), np.int64)
    left = np.ones(len(features), bool)
    for place in range(len(features)):
        need = chances @ (1 / (expected + 1))
        worth = doubt * need * np.sqrt(np.maximum(1 - likeness, 0))
        order[place] = taken = int(np.argmax(np.where(left, worth, -1.0)))
        left[taken] = False
        expected += chances[taken]
        likeness = np.maximum(likeness, features @ features[taken])
    return order
