"""A small experiment that tests run.

Its photos tell little, so that guesses differ, and its methods take a moment.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from scenes import write_photo

from qprompt_edge.reporter import Reporter
from qprompt_edge.reproduction.executors import BackboneChoice, WorkerSetup
from qprompt_edge.reproduction.experiment import Experiment, needs_deep
from qprompt_edge.reproduction.jobs import Job, Outcome
from qprompt_edge.reproduction.protocols import base_to_new
from qprompt_edge.reproduction.sets import encode_set, find_sets

NAMES = ("blue sky", "green grass", "red brick", "sand")
QUICK = ("zero-shot", "coop", "qcoop-1", "probe")


def write_alike(folder: Path, classes: Sequence[str] = NAMES, count: int = 8) -> Path:
    """A folder of grey photos, `count` for each class, that look much the same; returns `folder`."""
    for index, label in enumerate(classes):
        for number in range(count):
            seed = 1000 * index + number
            write_photo(folder / label / f"{number:02}.png", (110 + 8 * index, 120, 130), seed, size=64)
    return folder


def experiment(
    photos: Path, methods: Sequence[str] = QUICK, seeds: Sequence[int] = (1, 2), **training: Any
) -> Experiment:
    """Base-to-new with 2 photos of each class and, unless something else is asked for, 2 epochs."""
    return Experiment(
        jobs=base_to_new(methods, ["odd"], 2, seeds),
        sets=find_sets([f"odd={photos}"], None),
        choice=BackboneChoice(deep=needs_deep(methods)),
        training={"epochs": 2, **training},
    )


def first_setup(running: Experiment, cache: Path) -> WorkerSetup:
    """What workers are given for the draw of an experiment's first job."""
    backbone, (first, *_) = running.choice.open(), running.jobs
    sets = {
        name: encode_set(chosen, [(first.shots, first.seed)], backbone, cache, Reporter())
        for name, chosen in running.sets.items()
    }
    return WorkerSetup(running.choice, sets, running.training)


def job(method: str, shots: int = 2, seed: int = 1, source: str = "odd") -> Job:
    """A base-to-new job."""
    return base_to_new([method], [source], shots, [seed])[0]


def facts(outcomes: Iterable[Outcome]) -> dict[str, dict[str, Any]]:
    """All of the outcomes but their time, by job."""
    return {each.job.id: {**each.to_json(), "seconds": None} for each in outcomes}
