"""How far an accuracy that was measured on a few photos can be from the true one."""

from __future__ import annotations

import math

_QUANTILE = 1.959964  # of the normal distribution, for 95%


def wilson(right: int, count: int) -> tuple[float, float]:
    """Wilson's 95% score interval of a share (Journal of the American Statistical Association 22, 1927).

    It stays within 0 and 1, and is not empty where all or none are right.

    Args:
        right: Photos that are right, 0 to `count`.
        count: Photos, at least 1.

    Returns:
        Lower and upper bound, from 0 to 1.
    """
    share, square = right / count, _QUANTILE**2
    middle = share + square / (2 * count)
    half = _QUANTILE * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    low, high = ((middle + sign * half) / (1 + square / count) for sign in (-1, 1))
    return (0.0 if right == 0 else max(0.0, low), 1.0 if right == count else min(1.0, high))
