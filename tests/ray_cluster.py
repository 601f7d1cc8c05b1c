"""A cluster of two nodes on this machine, each with a core, and what `reproduce` does on it.

`test_ray` runs this file.

    python ray_cluster.py PHOTOS OUT

It is a process of its own, since Ray leaves threads and signal handlers behind. Writes OUT/found.json.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster
from small_experiments import experiment, facts, first_setup

from qprompt_edge.reproduction.executors import WorkerSetup, run_here, run_on_ray
from qprompt_edge.reproduction.jobs import Job, Outcome
from qprompt_edge.reproduction.workbench import Workbench
from qprompt_runtime.errors import QPromptError

METHODS = ("zero-shot", "coop", "noise-moderate", "qcoop-1", "qmaple-1", "probe")


@dataclass(frozen=True)
class Signed(Workbench):
    """Signs what it has run with the node that it is on."""

    folder: Path

    def run(self, job: Job) -> Outcome:
        outcome = super().run(job)
        (self.folder / job.id).write_text(ray.get_runtime_context().get_node_id())
        return outcome


@dataclass(frozen=True)
class SignedSetup(WorkerSetup):
    folder: Path

    def open(self) -> Workbench:
        return Signed(self.choice.open(), self.sets, self.training, self.folder)


@dataclass(frozen=True)
class Deadly(WorkerSetup):
    """Kills whoever opens it."""

    def open(self) -> Workbench:
        os._exit(1)


def message(setup: WorkerSetup, jobs: Sequence[Job], address: str) -> str:
    """The error that a user would see."""
    try:
        list(run_on_ray(setup, jobs, address))
    except QPromptError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def command(photos: Path, out: Path, *arguments: str) -> dict[str, Any]:
    words = [sys.executable, "-m", "qprompt_edge", "reproduce", "--set", f"odd={photos}", "--out", str(out)]
    words += ["--shots", "2", "--seeds", "1", "--epochs", "2", "--json", *arguments]
    ended = subprocess.run(words, capture_output=True, text=True)
    results = json.loads(ended.stdout)["results"] if ended.returncode == 0 else None
    for result in results or []:
        del result["seconds"]
    return {"code": ended.returncode, "results": results, "said": ended.stderr}


def report(photos: Path, out: Path, address: str) -> dict[str, Any]:
    running = experiment(photos, METHODS, [1])
    setup, jobs = first_setup(running, out / "features"), running.jobs
    signed = SignedSetup(setup.choice, setup.sets, setup.training, out / "signed")
    signed.folder.mkdir()
    found: dict[str, Any] = {
        "ray": facts(run_on_ray(signed, jobs, address)),
        "here": facts(run_here(setup, jobs, 1)),
        "nodes": {path.name: path.read_text() for path in signed.folder.iterdir()},
        "dead": message(Deadly(setup.choice, setup.sets, setup.training), jobs, address),
        "command on ray": command(photos, out / "a", "--ray", address),
        "command here": command(photos, out / "b", "--jobs", "1"),
    }
    deep = [job for job in jobs if job.method == "qmaple-1"]
    (photos / "sand" / "00.png").unlink()
    found["failed"] = message(setup, deep, address)
    return found


def main() -> None:
    photos, out = map(Path, sys.argv[1:])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        workers = [cluster.add_node(num_cpus=1, wait=False) for _ in range(2)]
        cluster.wait_for_nodes()
        found = report(photos, out, cluster.address)
        found["workers"] = [worker.node_id for worker in workers]
    finally:
        cluster.shutdown()
    (out / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
