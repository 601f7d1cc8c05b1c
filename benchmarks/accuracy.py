"""Whether `adapt`'s schedule costs accuracy.

Its default beside 250 steps of 32 photos, on labelled photos of your own.

    python -m benchmarks.accuracy --set cifar10=FOLDER --set pacs=FOLDER

QCoOp at 1 bit on the default backbone, 16 photos of each class, tested on the rest (or on the set's `test`
folder); top-1, mean over the seeds. A set is what `qprompt-edge reproduce --set` takes.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmarks import machine
from benchmarks.bundles import DEFAULT, EMBEDDED
from benchmarks.tables import text_table

METHOD, SHOTS, STEPS = "qcoop-1", 16, 250
DEFAULTS = "defaults"
"""What `adapt`'s own schedule is called; figures name the other by its steps."""
SEEDS = range(1, 11)
_SETTINGS = ("epochs", "batch_size", "relative_rate", "warmup_epochs")


def schedules(classes: int) -> dict[str, dict[str, Any]]:
    """The two schedules for a number of classes, as settings of `TrainingConfig`."""
    from qprompt_edge.reproduction.recipes import PAPER_TRAINING
    from qprompt_edge.tuning.methods import DEFAULT_TRAINING

    default, paper = (asdict(training["qcoop"]) for training in (DEFAULT_TRAINING, PAPER_TRAINING))
    batches = max(1, round(SHOTS * classes / paper["batch_size"]))
    return {
        DEFAULTS: {name: default[name] for name in _SETTINGS},
        f"{STEPS} steps of {paper['batch_size']}": {
            **{name: paper[name] for name in _SETTINGS},
            "epochs": max(1, round(STEPS / batches)),
        },
    }


def measure(specifications: Sequence[str]) -> dict[str, Any]:
    """The backbone, and top-1 by set and schedule: mean and standard deviation over the seeds, and steps."""
    # here, because whoever writes the page must stay small: a parent's memory counts in its children's peaks
    from qprompt_edge.reproduction.executors import BackboneChoice
    from qprompt_edge.reproduction.experiment import Experiment
    from qprompt_edge.reproduction.protocols import few_shot
    from qprompt_edge.reproduction.sets import find_sets

    sets = find_sets(specifications, None)
    found: dict[str, Any] = {}
    for name, chosen in sets.items():
        jobs = few_shot([METHOD], [name], [SHOTS], SEEDS)
        found[name] = {}
        for schedule, training in schedules(len(chosen.classes)).items():
            with tempfile.TemporaryDirectory(prefix="qprompt-edge-accuracy-") as folder:
                backbone = BackboneChoice(EMBEDDED[DEFAULT])
                store = Experiment(jobs, {name: chosen}, backbone, training).run(Path(folder))
                outcomes = list(store.outcomes())
            scores = [float(next(iter(outcome.right.values())).mean()) for outcome in outcomes]
            found[name][schedule] = {
                "top1": fmean(scores),
                "deviation": stdev(scores),
                "steps": outcomes[0].steps,
            }
    return {"backbone": DEFAULT, "sets": found}


def table(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for people."""
    sets = result["sets"]
    first = next(iter(sets.values()))
    rows = []
    for name, found in sets.items():
        cells = [
            f"{100 * row['top1']:.1f} ± {100 * row['deviation']:.1f} ({row['steps']} steps)"
            for row in found.values()
        ]
        rows.append([name, *cells])
    means = [fmean(found[schedule]["top1"] for found in sets.values()) for schedule in first]
    return ["top-1, %", *first], [*rows, ["mean", *(f"{100 * mean:.1f}" for mean in means)]]


def main() -> None:
    """Run it from the command line."""
    made = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    made.add_argument(
        "--set", action="append", required=True, dest="sets", help="NAME=FOLDER; may be repeated"
    )
    result = measure(made.parse_args().sets)
    print(text_table("Accuracy of the schedules", *table(result)))
    print(json.dumps({**result, "machine": machine.measure(os.cpu_count() or 1)}))


if __name__ == "__main__":
    main()
