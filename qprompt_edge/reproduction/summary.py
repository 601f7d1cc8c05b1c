"""Means and standard deviations of outcomes, as tables, plots and JSON show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np

from qprompt_edge.reproduction.jobs import Outcome
from qprompt_edge.reproduction.measures import PROTOCOLS, Measure, Unit, metrics_of, runs
from qprompt_edge.reproduction.recipes import RECIPES


@dataclass(frozen=True)
class Statistic:
    """A mean over seeds, as a fraction from 0 to 1.

    Attributes:
        mean: The mean.
        standard_deviation: Sample standard deviation over seeds (n - 1); None of fewer than two.
        seeds: How many seeds the standard deviation is over.
    """

    mean: float
    standard_deviation: float | None
    seeds: int


@dataclass(frozen=True)
class Spread:
    """A metric of a method.

    Attributes:
        units: For each unit, over its seeds.
        overall: Mean of the units' means; the standard deviation is that of the mean over units, over the
            seeds that all of them have. Where a protocol is about transfer, the source itself does not count.
            None if nothing counts.
    """

    units: Mapping[Unit, Statistic]
    overall: Statistic | None


@dataclass(frozen=True)
class Summary:
    """A method in a protocol, with some number of shots.

    Attributes:
        protocol: As in `Job`.
        shots: Photos of each class.
        method: A name, mostly of `RECIPES`.
        metrics: `base`, `new` and `H`, or `top1`; one that the method has no answers for is absent.
        payload_bytes: What was learned, as it is stored; mean over sources (contexts of each class's own grow
            with the classes).
        file_bytes: The prompt file, in the same way; None if a run has none.
        seconds: Training and judging; mean over runs.
        runs: How many there were.
    """

    protocol: str
    shots: int
    method: str
    metrics: Mapping[str, Spread]
    payload_bytes: float
    file_bytes: float | None
    seconds: float
    runs: int

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        metrics = {
            name: {
                "overall": spread.overall and vars(spread.overall),
                "units": [
                    {"source": unit.source, "target": unit.target, **vars(statistic)}
                    for unit, statistic in spread.units.items()
                ],
            }
            for name, spread in self.metrics.items()
        }
        return {**vars(self), "metrics": metrics}


def summarise(outcomes: Iterable[Outcome]) -> list[Summary]:
    """Summaries by protocol, then shots, then methods in the order of `RECIPES`.

    Raises:
        ValueError: Two outcomes are of the same run.
    """
    groups: dict[tuple[str, int, str], list[Outcome]] = {}
    for outcome in outcomes:
        job = outcome.job
        groups.setdefault((job.protocol, job.shots, job.method), []).append(outcome)
    order = sorted(
        groups, key=lambda key: (_place(key[0], PROTOCOLS), key[1], _place(key[2], tuple(RECIPES)))
    )
    return [_summary(*key, groups[key]) for key in order]


def _place(name: str, known: Sequence[str]) -> tuple[int, str]:
    """For sorting: in the order of `known`, then all others by name."""
    return (known.index(name) if name in known else len(known)), name


def _summary(protocol: str, shots: int, method: str, outcomes: list[Outcome]) -> Summary:
    spreads = {name: spread(outcomes, method, Measure(name, protocol)) for name in metrics_of(protocol)}
    sizes = [outcome.file_bytes for outcome in outcomes]
    return Summary(
        protocol,
        shots,
        method,
        {name: found for name, found in spreads.items() if found.units},
        stored_bytes(outcomes),
        None if None in sizes else _over_sources(outcomes, [float(size or 0) for size in sizes]),
        fmean(outcome.seconds for outcome in outcomes),
        len(outcomes),
    )


def spread(outcomes: Iterable[Outcome], method: str, measure: Measure) -> Spread:
    """Mean and standard deviation of a figure, for each unit and over them.

    Raises:
        ValueError: Two outcomes are of the same run.
    """
    values = {
        unit: {
            seed: float(measure.value(np.array([bits.mean() for bits in parts])))
            for seed, parts in sorted(seeds.items())
        }
        for unit, seeds in sorted(runs(outcomes, method, measure).items())
    }
    units = {unit: _statistic(list(seeds.values())) for unit, seeds in values.items()}
    counted = [unit for unit in values if measure.counts(unit)]
    if not counted:
        return Spread(units, None)
    common = set.intersection(*(set(values[unit]) for unit in counted))
    means = [fmean(values[unit][seed] for unit in counted) for seed in sorted(common)]
    spread = stdev(means) if len(means) > 1 else None
    return Spread(units, Statistic(fmean(units[unit].mean for unit in counted), spread, len(means)))


def _statistic(values: Sequence[float]) -> Statistic:
    return Statistic(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


def stored_bytes(outcomes: Sequence[Outcome]) -> float:
    """Bytes of what was learned: mean over the runs of a source, then over sources."""
    return _over_sources(outcomes, [float(outcome.payload_bytes) for outcome in outcomes])


def _over_sources(outcomes: Sequence[Outcome], values: Sequence[float]) -> float:
    by_source: dict[str, list[float]] = {}
    for outcome, value in zip(outcomes, values, strict=True):
        by_source.setdefault(outcome.job.source, []).append(value)
    return fmean(fmean(found) for found in by_source.values())
