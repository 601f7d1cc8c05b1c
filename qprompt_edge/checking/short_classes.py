"""Classes that are short of photos, by themselves or beside the others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.checking.findings import ShortClass

FEWEST = 8
"""Distinct photos that a class should have: six to learn from and two to judge by."""
_SHARE = 0.25
"""And at least this share of what the median class has: a rarer class is seldom the answer."""


def short_classes(
    labels: NDArray[np.int64], groups: NDArray[np.int64], classes: Sequence[str]
) -> tuple[ShortClass, ...]:
    """Classes with too few distinct photos, the shortest first.

    Args:
        labels: int64 [N], positions in `classes`; a class may have no photo.
        groups: int64 [N]; photos that are nearly the same have the same number.
        classes: The classes' labels.
    """
    photos = np.bincount(labels, minlength=len(classes))
    distinct = np.array([len(np.unique(groups[labels == place])) for place in range(len(classes))])
    wanted = max(FEWEST, math.ceil(_SHARE * float(np.median(distinct))))
    return tuple(
        ShortClass(classes[place], int(photos[place]), int(distinct[place]), wanted)
        for place in np.argsort(distinct, kind="stable")
        if distinct[place] < wanted
    )
