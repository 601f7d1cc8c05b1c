"""Whether one of two classifiers is better, from their answers on the same photos.

Only photos that exactly one of them gets right tell them apart. If both were as good, each such photo would
fall to either side like a fair coin: McNemar's test (Psychometrika 12, 1947), with the binomial distribution
itself in the place of its approximation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.evaluation.intervals import QUANTILE

SIGNIFICANT = 0.05
_ADDED = 0.5  # to each cell of the table of pairs


@dataclass(frozen=True)
class Comparison:
    """What a change did, on photos that were judged before it and after it.

    Attributes:
        difference: Accuracy after minus accuracy before, from -1 to 1.
        interval: 95% interval of the difference. The exact test is the stricter one: with few photos the
            interval may just leave zero out where the test does not.
        p: Two-sided p-value of the exact paired test (probability of a split this uneven if nothing had
            changed).
    """

    difference: float
    interval: tuple[float, float]
    p: float

    @property
    def helped(self) -> bool | None:
        """True: better; False: worse; None: too close to call (p is `SIGNIFICANT` or more)."""
        return None if self.p >= SIGNIFICANT else self.difference > 0


def compare(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Comparison:
    """Compare two classifiers on the same photos.

    The interval is that of Agresti and Min (Statistics in Medicine 24, 2005): Wald's for paired shares, after
    half a photo was added to each of the four kinds of pairs.

    Args:
        before: bool [N], N at least 1; which photos the first one gets right.
        after: bool [N]; the same for the second one.
    """
    count, gained, lost = len(before), int((after & ~before).sum()), int((before & ~after).sum())
    decided = gained + lost
    tail = ways = 1  # ways of k among `decided`, each from the one before
    for k in range(min(gained, lost)):
        ways = ways * (decided - k) // (k + 1)
        tail += ways
    total, more, fewer = count + 4 * _ADDED, gained + _ADDED, lost + _ADDED
    middle = (more - fewer) / total
    half = QUANTILE * math.sqrt(more + fewer - (more - fewer) ** 2 / total) / total
    return Comparison(
        difference=(gained - lost) / count,
        interval=(max(-1.0, middle - half), min(1.0, middle + half)),
        p=min(1.0, 2 * tail / 2**decided),
    )
