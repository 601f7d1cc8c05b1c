"""The numbers of several prompts as one, so that no single file can move the result far.

    direction: the majority of the signs at 1 bit, else the mean of the rows
    length:    the median of the files' lengths, times n^0.1

A mean is shorter than what it is of, and n files' worth of photos deserve more trust than one file's, so the
length is set apart (what was measured: `docs/fleet.md`). Weights follow the photos. Nobody checks how many a
file claims, so no weight is more than a few times the usual one. Rows that are longer than the usual one are
shortened (clipping; Karimireddy, He and Jaggi, ICML 2021), and single numbers are weighted medians. So one
file of ten moves the result about as far as an honest one may, whatever it says.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qprompt_runtime.arrays import Array

MOST_WEIGHT = 3.0
"""A file's weight is at most so many times the median of the files' photos."""
_GROWTH = 0.1
_EVEN = 1e-9
"""Sums of shares are not exact: what differs by less is even."""


def weights_of(photos: NDArray[np.int64]) -> NDArray[np.float64]:
    """Shares of files by their photos: float64 [F], above 0, sum 1.

    Args:
        photos: int64 [F], photos that each file says it was tuned on; 0 counts as 1.
    """
    counted = np.maximum(photos, 1).astype(np.float64)
    capped = np.minimum(counted, MOST_WEIGHT * lower_median(counted))
    shares: NDArray[np.float64] = capped / capped.sum()
    return shares


def merged_length(rows: Array, weights: NDArray[np.float64]) -> float:
    """Length of a row that is merged of rows [F,N]."""
    files = 1 / lower_median(weights)  # how many usual files' worth of photos there are
    return float(lower_median(np.linalg.norm(rows.astype(np.float64), axis=1)) * files**_GROWTH)


def clipped_mean(rows: Array, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted mean of rows [F,N], the longer ones shortened to the median length: float64 [N]."""
    mean: NDArray[np.float64] = weights @ _shortened(rows.astype(np.float64))
    return mean


def majority(rows: Array, middles: NDArray[np.floating], weights: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Majority vote over weights of 1 bit: bool [N], whether the upper value won.

    Args:
        rows: float32 [F,N], the files' weights.
        middles: [F]; a weight above its file's middle votes for the upper value, any other for the lower one.
        weights: float64 [F], their shares. Where the votes are even, the mean decides, at best that of rows
            that were shortened.
    """
    above = rows.astype(np.float64) - middles[:, None]
    votes = weights @ np.where(above > 0, 1.0, -1.0)
    for mean in (clipped_mean(above, weights), weights @ above):
        votes = np.where(np.abs(votes) < _EVEN, mean, votes)
    won: NDArray[np.bool_] = votes > 0
    return won


def weighted_median(values: NDArray[np.floating], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted median over the files of values [F,N]: float64 [N]; the middle of two where they tie."""
    order = np.argsort(values, axis=0, kind="stable")
    ordered = np.take_along_axis(values.astype(np.float64), order, axis=0)
    reached = np.cumsum(weights[order], axis=0)
    lower = (reached < 0.5 - _EVEN).sum(axis=0)
    upper = np.minimum((reached <= 0.5 + _EVEN).sum(axis=0), len(values) - 1)
    middle: NDArray[np.float64] = (
        np.take_along_axis(ordered, lower[None], 0)[0] + np.take_along_axis(ordered, upper[None], 0)[0]
    ) / 2
    return middle


def lower_median(values: NDArray[np.float64]) -> float:
    """The median; of an even number of values the lower of the middle two."""
    return float(np.sort(values)[(len(values) - 1) // 2])


def _shortened(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows [F,N], those that are longer than the median length brought back to it."""
    lengths = np.linalg.norm(rows, axis=1)
    longest = lower_median(lengths)
    shrink = np.divide(longest, lengths, out=np.ones_like(lengths), where=lengths > longest)
    shortened: NDArray[np.float64] = rows * shrink[:, None]
    return shortened
