"""How far a share that was measured on a few photos can be from the true one."""

from __future__ import annotations

import math

QUANTILE = 1.959964
"""Of the normal distribution, for 95%."""


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95% score interval of a share (Journal of the American Statistical Association 22, 1927).

    It stays within 0 and 1, and is not empty where all or none are right.

    Args:
        share: What was measured, from 0 to 1.
        count: On how many photos, at least 1.

    Returns:
        Lower and upper bound, from 0 to 1.
    """
    added = QUANTILE**2 / count
    middle = (share + added / 2) / (1 + added)
    half = QUANTILE * math.sqrt(share * (1 - share) / count + added / (4 * count)) / (1 + added)
    return max(0.0, middle - half), min(1.0, middle + half)
