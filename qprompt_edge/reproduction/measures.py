"""Measures of outcomes: accuracies of single runs, and how they are grouped.

A run is a method, trained once. Runs that differ only in their seed form a unit: a data set in base-to-new, a
pair of source and target elsewhere. Figures are means over the seeds of a unit, then over units.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.reproduction.jobs import BASE, BASE_OF_ALL, NEW, NEW_OF_ALL, Outcome, Target

BASE_TO_NEW, GENERALISED, FEW_SHOT = "base2new", "generalised", "few-shot"
CROSS_DATASET, DOMAIN = "cross-dataset", "domain"
PROTOCOLS = (BASE_TO_NEW, GENERALISED, FEW_SHOT, CROSS_DATASET, DOMAIN)
"""In the order of reports."""
BY_HALVES = (BASE_TO_NEW, GENERALISED)
"""Protocols that tune on one half of the classes and judge both."""

H, TOP1 = "H", "top1"

Bits = NDArray[np.bool_]
Values = NDArray[np.float64]

_HALVES = {BASE_TO_NEW: (BASE, NEW), GENERALISED: (BASE_OF_ALL, NEW_OF_ALL)}


class Unit(NamedTuple):
    """Runs that differ only in their seed.

    Attributes:
        source: What was trained on.
        target: The data set of the photos that were judged; the source's name where halves of classes are
            judged.
        shots: Photos of each class.
    """

    source: str
    target: str
    shots: int


@dataclass(frozen=True)
class Measure:
    """A figure.

    Attributes:
        metric: `base`, `new` or `H`, the harmonic mean of the accuracies on base and on new classes; or
            `top1`, the accuracy on each target.
        protocol: Whose outcomes count.
        shots: Outcomes of that many shots only; None takes all.
    """

    metric: str = H
    protocol: str = BASE_TO_NEW
    shots: int | None = None

    def counts(self, unit: Unit) -> bool:
        """Whether a unit is part of the mean.

        It is not if the protocol is about transfer and the target is the source.
        """
        return self.protocol not in (CROSS_DATASET, DOMAIN) or unit.source != unit.target

    def value(self, accuracies: Values) -> Values:
        """Values [...] of the metric.

        From the accuracies [..., T] on the T parts that it needs (H: 2, others: 1).
        """
        total = accuracies.sum(axis=-1)
        if self.metric != H:
            return np.asarray(total, np.float64)  # T is 1
        values: Values = 2 * accuracies.prod(axis=-1) / np.where(total > 0, total, 1)  # 0 where both are 0
        return values


def metrics_of(protocol: str) -> tuple[str, ...]:
    """What is reported about a protocol."""
    return (BASE, NEW, H) if protocol in BY_HALVES else (TOP1,)


def runs(
    outcomes: Iterable[Outcome], method: str, measure: Measure
) -> dict[Unit, dict[int, tuple[Bits, ...]]]:
    """Which photos a method had right.

    Args:
        outcomes: Of any protocols and methods.
        method: Whose runs are wanted.
        measure: What they are wanted for.

    Returns:
        For each unit, by seed, the bits [N] of the T parts that the metric needs. Where a run says nothing
        about one of them (a linear probe about new classes), it is left out.

    Raises:
        ValueError: Two outcomes are of the same run, or a target has no photos.
    """
    found: dict[Unit, dict[int, tuple[Bits, ...]]] = {}
    for outcome in outcomes:
        job = outcome.job
        if (job.method, job.protocol) != (method, measure.protocol) or measure.shots not in (None, job.shots):
            continue
        for target, parts in _targets(outcome, measure.metric):
            if not all(target in outcome.right for target in parts):
                continue
            seeds = found.setdefault(Unit(job.source, target, job.shots), {})
            if job.seed in seeds:
                raise ValueError(
                    f"{method} on {job.source}, {job.shots} shots, seed {job.seed}: two outcomes of "
                    f"{job.protocol} judge {target}; give each run once"
                )
            seeds[job.seed] = tuple(outcome.right[target] for target in parts)
            if not all(len(bits) for bits in seeds[job.seed]):
                raise ValueError(f"{job.id}: a target has no photos; leave it out of the job")
    return found


def _targets(outcome: Outcome, metric: str) -> list[tuple[str, list[Target]]]:
    """The targets of an outcome that a metric takes together, with the name of their data set."""
    if metric == TOP1:
        return [
            (str(target) if target.part in (BASE, NEW) else target.dataset, [target])
            for target in outcome.right
        ]
    source, (base, new) = outcome.job.source, _HALVES[outcome.job.protocol]
    parts = {BASE: (base,), NEW: (new,), H: (base, new)}[metric]
    return [(source, [Target(source, part) for part in parts])]
