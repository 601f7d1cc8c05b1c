"""What a few cases say about many: an interval of a share, and the probability of an accident."""

from __future__ import annotations

import math

QUANTILE = 1.959964
"""Of the normal distribution, for 95%."""


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95% interval (JASA 22, 1927) of a share that was found in `count` cases, at least 1."""
    added = QUANTILE**2 / count
    middle = (share + added / 2) / (1 + added)
    half = QUANTILE * math.sqrt(share * (1 - share) / count + added / (4 * count)) / (1 + added)
    return max(0.0, middle - half), min(1.0, middle + half)


def tail(hits: int, count: int, chance: float) -> float:
    """The probability of at least so many hits in `count` cases, each with this chance (between 0 and 1)."""
    logs = [
        math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        + k * math.log(chance) + (count - k) * math.log1p(-chance)
        for k in range(hits, count + 1)
    ]  # fmt: skip
    return min(1.0, math.fsum(map(math.exp, logs)))
