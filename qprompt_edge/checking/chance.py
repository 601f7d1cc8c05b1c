"""The probability that what was found is an accident."""

from __future__ import annotations

import math


def tail(hits: int, count: int, chance: float) -> float:
    """The probability of at least so many hits in `count` cases, each with this chance (between 0 and 1)."""
    logs = [
        math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        + k * math.log(chance) + (count - k) * math.log1p(-chance)
        for k in range(hits, count + 1)
    ]  # fmt: skip
    return min(1.0, math.fsum(map(math.exp, logs)))
