"""The quantizer of QPrompt: prompt weights take one of 2^b values (at 1.6 bits, of 3) while they are learned.

For the array W of a group's weights (QPrompt, ECCV 2024, section 3):

    W_hat = (W - mu) / sigma          normalise; the shape of the distribution hardly changes in training
    c     = k-means of W_hat          scalar, 2^b or 3 centroids; safe because there are almost no outliers
    W_q   = sigma * Q(W_hat) + mu     Q takes the nearest centroid; this is what the forward pass sees

The gradient passes straight through: dL/dW = dL/dW_q, so the latent W keeps moving by steps smaller than the
distance between two centroids. mu and sigma follow W at every step, the codebook c does not: constrained
adaptive clustering (CAC) reclusters only when enough steps have passed and the share of weights in its cells
has moved by more than a Kullback-Leibler threshold. A file folds mu and sigma into the codebook.

One-dimensional k-means needs no general library: a cell of the sorted weights is a run of neighbours, so
dynamic programming finds the best cells (Bellman 1973; Wang & Song 2011), here over at most 512 runs of equal
size, and Lloyd's sweeps, a look-up each, then move the cuts to the very weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qprompt_runtime.arrays import Array
from qprompt_runtime.packing import TERNARY, levels

UNQUANTIZED_BITS = 32
BIT_WIDTHS = (1, TERNARY, 2, 3, 4, 8)
_SWEEPS = 200
_RUNS = 512
_FEW = 7  # comparisons of all values, which are faster than to search for each
_LEAST_SIGMA = 1e-12
_SMOOTHING = 0.5  # added to each cell's count, so that an empty cell has a finite divergence


@dataclass(frozen=True)
class Clustering:
    """When the codebook is reclustered.

    Attributes:
        interval: Fewest steps t between two reclusterings.
        divergence: T_KL, in nats; KL(now || cached) of the cells' shares above it calls for one. Below zero
            every step that `interval` allows reclusters: k-means without CAC, for comparison.
        normalised: Whether centroids are those of normalised weights; not, for comparison only.
    """

    interval: int = 10
    divergence: float = 0.01
    normalised: bool = True


@dataclass(frozen=True)
class Codebook:
    """A codebook for normalised weights, with what CAC compares against.

    Attributes:
        centroids: float32 [k], ascending, of normalised weights.
        counts: int64 [k]; how many weights each cell held when it was made.
        step: The training step at which it was made.
        normalised: False if the centroids are those of the weights as they are.
        by_row: True if each row (first dimension) is normalised by a scale of its own.
    """

    centroids: Array
    counts: NDArray[np.int64]
    step: int
    normalised: bool = True
    by_row: bool = False


@dataclass(frozen=True)
class Quantized:
    """One quantization of a group.

    Attributes:
        values: float32, of the group's shape; every one is an entry of `codebook`, times its row's scale if
            there is one.
        indices: uint8 [N]; which entry each weight takes.
        codebook: float16 [k]; the centroids with mu and sigma folded in, as the file stores them.
        scales: float16 [rows], or None where sigma is folded into the codebook.
    """

    values: Array
    indices: NDArray[np.uint8]
    codebook: NDArray[np.float16]
    scales: NDArray[np.float16] | None = None


def row_scales(weights: Array) -> Array:
    """Root mean square of each row, its sigma about zero: float32 [rows, 1, ...], as float16 holds it."""
    axes = tuple(range(1, weights.ndim))
    squares = np.square(weights, dtype=np.float64).mean(axis=axes, keepdims=True)
    scales: Array = np.sqrt(squares).astype(np.float16).astype(np.float32)
    return scales


def normalise(
    weights: Array, *, apply: bool = True, by_row: bool = False
) -> tuple[Array, np.float32, np.float32 | Array]:
    """(W - mu) / sigma, flattened, with mu and sigma.

    Args:
        weights: float32 of any shape, N numbers.
        apply: Without it the weights stay as they are, with mu 0 and sigma 1.
        by_row: A sigma for each row, and mu 0: a row that another one does not change when it is quantized.
            Rows that are zero stay zero.

    Returns:
        float32 [N], mean and standard deviation of `weights`; by row, 0 and `row_scales`.
    """
    if by_row:
        scales = row_scales(weights)
        ratios = np.divide(weights, scales, out=np.zeros_like(weights), where=scales > 0)
        return ratios.ravel().astype(np.float32), np.float32(0), scales
    if not apply:
        return weights.ravel().astype(np.float32), np.float32(0), np.float32(1)
    mean = np.float32(weights.mean(dtype=np.float64))
    sigma = np.float32(max(weights.std(dtype=np.float64), _LEAST_SIGMA))
    return ((weights - mean) / sigma).ravel().astype(np.float32), mean, sigma


def kmeans(values: Array, clusters: int) -> Array:
    """Centroids of scalar k-means: the best cells of up to 512 runs of neighbours, then Lloyd's sweeps.

    Args:
        values: float32 [N]. With N up to 512 the result is the optimum.
        clusters: Number k of centroids, at least 1.

    Returns:
        float32 [k], ascending. With fewer than k different values some centroids are equal.
    """
    if not values.any():  # as before the first step
        return np.zeros(clusters, np.float32)
    ordered = np.sort(values.astype(np.float64))
    total = np.concatenate([[0.0], np.cumsum(ordered)])
    bounds = _best_bounds(ordered, total, clusters)
    centroids = ordered[np.minimum(bounds[:-1], len(ordered) - 1)]  # for cells without a weight
    for _ in range(_SWEEPS):
        sizes = np.diff(bounds)
        means = np.diff(total[bounds]) / np.maximum(sizes, 1)
        centroids = np.sort(np.where(sizes > 0, means, centroids))
        cuts = np.searchsorted(ordered, (centroids[1:] + centroids[:-1]) / 2)
        if np.array_equal(cuts, bounds[1:-1]):
            break
        bounds = np.concatenate([[0], cuts, [len(ordered)]])
    return centroids.astype(np.float32)


def _best_bounds(
    ordered: NDArray[np.float64], total: NDArray[np.float64], clusters: int
) -> NDArray[np.int64]:
    """Bounds [k + 1] of the cells with the least sum of squares, among those that cut no run in two.

    `best[j]` is the least sum of squares of the first j runs in the cells so far; one more cell from i to j
    costs `cost[i, j]`, so the next `best[j]` is the least `best[i] + cost[i, j]`.
    """
    places = np.linspace(0, len(ordered), min(len(ordered), _RUNS) + 1).round().astype(np.int64)
    squares, totals = np.concatenate([[0.0], np.cumsum(ordered**2)])[places], total[places]
    numbers = places.astype(np.float64)

    def cost(begins: slice, ends: slice) -> NDArray[np.float64]:
        sizes = numbers[ends] - numbers[begins, None]
        sums = totals[ends] - totals[begins, None]
        sums *= sums  # in place: each of these tables is 2 MB
        spread: NDArray[np.float64] = squares[ends] - squares[begins, None]
        spread[sizes < 0] = np.inf
        spread -= np.divide(sums, np.maximum(sizes, 1, out=sizes), out=sums)
        return spread

    everywhere, starts = slice(None), []
    best = cost(slice(1), everywhere)[0]
    for cell in range(2, clusters + 1):
        ends = slice(-1, None) if cell == clusters else everywhere  # the last cell ends at the end
        through = cost(everywhere, ends)
        through += best[:, None]
        starts.append(through.argmin(axis=0))
        best = through.min(axis=0)
    bounds = [len(places) - 1]
    for start in reversed(starts):
        bounds.append(int(start[min(bounds[-1], len(start) - 1)]))
    return places[[0, *reversed(bounds)]]


def nearest(values: Array, centroids: Array) -> NDArray[np.uint8]:
    """Index of the nearest of ascending centroids, for each value.

    Args:
        values: float32 [N].
        centroids: float32 [k], ascending, k at most 256.

    Returns:
        uint8 [N]; on a tie the upper centroid.
    """
    middles = (centroids[1:] + centroids[:-1]) / 2
    if len(middles) > _FEW:
        return np.searchsorted(middles, values, side="right").astype(np.uint8)
    below = np.zeros(len(values), np.uint8)
    for middle in middles:
        below += values >= middle
    return below


def cluster(
    weights: Array, bits: float, step: int, *, normalised: bool = True, by_row: bool = False
) -> Codebook:
    """A fresh codebook for the present weights: `normalised` (as a whole or `by_row`), or as they are."""
    return _clustered(weights, levels(bits), step, normalised, by_row)


def _clustered(weights: Array, clusters: int, step: int, normalised: bool, by_row: bool) -> Codebook:
    values, _, _ = normalise(weights, apply=normalised, by_row=by_row)
    centroids = kmeans(values, clusters)
    return Codebook(centroids, _counts(values, centroids), step, normalised, by_row)


def _counts(normalised: Array, centroids: Array) -> NDArray[np.int64]:
    return np.bincount(nearest(normalised, centroids), minlength=len(centroids))


def divergence(weights: Array, codebook: Codebook) -> float:
    """KL(p_now || p_cached) in nats over the cells of a codebook.

    Args:
        weights: The present weights.
        codebook: The cached codebook; its counts are p_cached.

    Returns:
        At least 0. Counts are smoothed by half a weight a cell.
    """
    normalised, _, _ = normalise(weights, apply=codebook.normalised, by_row=codebook.by_row)
    now = _counts(normalised, codebook.centroids) + _SMOOTHING
    cached = codebook.counts + _SMOOTHING
    now, cached = now / now.sum(), cached / cached.sum()
    return float((now * np.log(now / cached)).sum())


def recluster(weights: Array, codebook: Codebook, step: int, when: Clustering) -> Codebook:
    """Constrained adaptive clustering: the cached codebook, or a fresh one if both conditions hold.

    A codebook of one value, which weights that all start at zero have, has no cells to compare: it is
    replaced at once.

    Args:
        weights: The present weights.
        codebook: The cached codebook.
        step: The present training step.
        when: The conditions.
    """
    has_cells = codebook.centroids[0] < codebook.centroids[-1]
    if has_cells and (
        step - codebook.step < when.interval or divergence(weights, codebook) <= when.divergence
    ):
        return codebook
    return _clustered(weights, len(codebook.centroids), step, codebook.normalised, codebook.by_row)


def quantize(weights: Array, codebook: Codebook) -> Quantized:
    """Quantize a group as its file will store it, float16 codebook included.

    Args:
        weights: float32 of any shape.
        codebook: The codebook for its normalised values.

    Returns:
        Values, indices and folded codebook; the values are exactly what a reader of the file gets.
    """
    normalised, mean, sigma = normalise(weights, apply=codebook.normalised, by_row=codebook.by_row)
    indices = nearest(normalised, codebook.centroids)
    if isinstance(sigma, np.ndarray):
        stored = codebook.centroids.astype(np.float16)
        values: Array = stored.astype(np.float32)[indices].reshape(weights.shape) * sigma
        return Quantized(values, indices, stored, sigma.ravel().astype(np.float16))
    folded = (sigma * codebook.centroids + mean).astype(np.float16)
    return Quantized(folded.astype(np.float32)[indices].reshape(weights.shape), indices, folded)
