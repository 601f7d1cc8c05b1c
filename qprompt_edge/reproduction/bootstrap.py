"""Confidence intervals of the difference between two methods: a paired bootstrap over seeds and photos.

Both methods were trained on the same draws and judged on the same photos, so what both find easy or hard
cancels in their difference. The bootstrap (Efron & Tibshirani, An Introduction to the Bootstrap, 1993,
chapters 8 and 13) draws such experiments anew: data sets are fixed, the seeds of a data set are drawn with
replacement, and so are the photos of each run, every time the same for both methods.

A photo is one of four: right by both, by one, by the other, by neither. A mean depends on their counts alone,
and the counts of N photos drawn with replacement are multinomial with the shares found. So photos are never
drawn one by one, and still this is the bootstrap of photos, not an approximation of it.

What it cannot know: a unit with few seeds shows little of how seeds differ, and one with a single seed
nothing. The interval speaks of these data sets, not of others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.reproduction.jobs import Outcome
from qprompt_edge.reproduction.measures import Bits, Measure, Unit, Values, runs

_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Resampling:
    """How experiments are drawn anew.

    Attributes:
        resamples: How many.
        seed: Of the draws; the same one gives the same intervals.
        joint_photos: Whether the photos of a unit are drawn once for all its seeds, where these were judged
            on equally many; right for a fixed test split, since seeds add no photos to it. Otherwise those of
            each run are drawn for themselves, which takes the runs' photos for different ones and gives
            narrower intervals.
    """

    resamples: int = 2000
    seed: int = 0
    joint_photos: bool = False


@dataclass(frozen=True)
class Difference:
    """What one method is ahead of another, as fractions from -1 to 1.

    Attributes:
        value: First minus second.
        low: Start of the 95% interval (percentiles of the resamples).
        high: Its end.
        runs: Pairs of runs compared.
    """

    value: float
    low: float
    high: float
    runs: int


def compare(
    outcomes: Iterable[Outcome],
    first: str,
    second: str,
    measure: Measure,
    resampling: Resampling | None = None,
) -> Difference | None:
    """The difference of two methods, with its interval.

    Args:
        outcomes: Of any protocols and methods.
        first: A method.
        second: The method it is compared with.
        measure: The figure.
        resampling: How the interval is found; None takes the defaults.

    Returns:
        The difference over those runs (source, target, shots, seed) that both methods have; None if there are
        none.

    Raises:
        ValueError: Two runs that belong together were judged on different numbers of photos.
    """
    resampling = resampling or Resampling()
    outcomes = list(outcomes)
    one, other = runs(outcomes, first, measure), runs(outcomes, second, measure)
    rng = np.random.default_rng(resampling.seed)
    observed, drawn, count = [], [], 0
    for unit in sorted(unit for unit in one.keys() & other.keys() if measure.counts(unit)):
        seeds = sorted(one[unit].keys() & other[unit].keys())
        if not seeds:
            continue
        pairs = [_pair(one[unit][seed], other[unit][seed], unit, f"{first} and {second}") for seed in seeds]
        accuracies = np.array([[part.mean(axis=0) for part in run] for run in pairs])
        observed.append(_mean_values(accuracies, measure))
        drawn.append(_mean_values(_resample(pairs, resampling, rng), measure))
        count += len(seeds)
    if count == 0:
        return None
    low, high = np.percentile(np.mean(drawn, axis=0), _PERCENTILES)
    return Difference(float(np.mean(observed)), float(low), float(high), count)


def _mean_values(accuracies: Values, measure: Measure) -> Values:
    """Differences of the seeds' means, [...].

    From the accuracies [..., S, T, 2] of S seeds on T parts by two methods.
    """
    values = measure.value(np.moveaxis(accuracies, -1, -2)).mean(axis=-2)
    difference: Values = values[..., 0] - values[..., 1]
    return difference


def _pair(one: Sequence[Bits], other: Sequence[Bits], unit: Unit, methods: str) -> list[Bits]:
    """The bits of two methods side by side, [N, 2] for each part."""
    for a, b in zip(one, other, strict=True):
        if len(a) != len(b):
            raise ValueError(
                f"{methods} were judged on {len(a)} and {len(b)} photos of {unit.target}; they are compared "
                "photo by photo: judge both on the same ones"
            )
    return [np.stack(pair, axis=1) for pair in zip(one, other, strict=True)]


def _resample(pairs: list[list[Bits]], resampling: Resampling, rng: np.random.Generator) -> Values:
    """Draw a unit's runs anew.

    Args:
        pairs: For each of S seeds, for each of T parts, [N, 2].
        resampling: How many resamples R, and whether seeds share photos.
        rng: Where chance comes from.

    Returns:
        [R, S, T, 2] accuracies.
    """
    seeds = rng.integers(len(pairs), size=(resampling.resamples, len(pairs)))
    parts = []
    for part in zip(*pairs, strict=True):
        if resampling.joint_photos and len({len(bits) for bits in part}) == 1:
            joint = _accuracies([np.concatenate(part, axis=1)], np.zeros((len(seeds), 1), np.int64), rng)
            by_seed = joint.reshape(len(seeds), len(pairs), 2)
            parts.append(np.take_along_axis(by_seed, seeds[..., None], axis=1))
        else:
            parts.append(_accuracies(part, seeds, rng))
    return np.stack(parts, axis=2)


def _accuracies(tables: Sequence[Bits], chosen: NDArray[np.int64], rng: np.random.Generator) -> Values:
    """Draw the photos of tables anew.

    Args:
        tables: [N, K] bits; N may differ.
        chosen: [R, S] which table to draw from.
        rng: Where chance comes from.

    Returns:
        [R, S, K] shares of set bits in as many photos, drawn with replacement, as the table has.
    """
    weights = 1 << np.arange(tables[0].shape[1])
    photos = np.array([len(table) for table in tables])
    patterns, places = np.unique(np.concatenate([table @ weights for table in tables]), return_inverse=True)
    counts = np.array(
        [np.bincount(own, minlength=len(patterns)) for own in np.split(places, photos.cumsum()[:-1])]
    )
    drawn = rng.multinomial(photos[chosen], (counts / photos[:, None])[chosen])
    bits = (patterns[:, None] & weights) > 0
    shares: Values = drawn @ bits.astype(np.float64) / photos[chosen][..., None]
    return shares
