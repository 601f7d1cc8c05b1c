"""Outcomes of jobs that nobody ran, for tests of what is made of them."""

from collections.abc import Mapping

import numpy as np

from qprompt_edge.reproduction.bootstrap import Difference
from qprompt_edge.reproduction.jobs import BASE, NEW, Job, Outcome, Target

Bits = np.ndarray


def bits(right: int, of: int) -> Bits:
    return np.arange(of) < right


def outcome(
    method: str,
    right: Mapping[str, Bits],
    source: str = "pets",
    seed: int = 1,
    shots: int = 16,
    protocol: str = "base2new",
    payload: int = 100,
) -> Outcome:
    """Bits by `part`, or by `dataset/all`."""
    targets = {
        Target(*name.split("/")) if "/" in name else Target(source, name): b for name, b in right.items()
    }
    job = Job(protocol, method, source, BASE, shots, seed, tuple(targets))
    return Outcome(job, targets, payload, None, 10, 1.0)


def halves(method: str, base: Bits, new: Bits, **settings: object) -> Outcome:
    return outcome(method, {BASE: base, NEW: new}, **settings)  # type: ignore[arg-type]


def found(difference: Difference | None) -> Difference:
    assert difference is not None
    return difference
