"""Storage of outcomes: one file for each job in a folder, so a run that was stopped can continue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qprompt_edge.reproduction.jobs import Job, Outcome
from qprompt_runtime.errors import WorkDirError
from qprompt_runtime.files import write_atomic

EXPERIMENT_FILE = "experiment.json"


@dataclass(frozen=True)
class Store:
    """The folder of an experiment.

    Attributes:
        folder: Holds `experiment.json` and `jobs/`.
        facts: What outcomes depend on besides their job, by topic.
    """

    folder: Path
    facts: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path, facts: Mapping[str, Any]) -> Store:
        """Take a folder for an experiment, or go on with the one that is there.

        Args:
            folder: New, empty, or of this experiment.
            facts: What outcomes depend on besides their job, by topic: a topic that the folder's experiment
                has too must be the same; new ones (further data sets) join it.

        Raises:
            WorkDirError: The folder holds another experiment, or other files.
            OutputError: It cannot be written.
        """
        path = folder / EXPERIMENT_FILE
        known: dict[str, Any] = {}
        if path.exists():
            known = _read(path)
            other = next((topic for topic in facts if topic in known and known[topic] != facts[topic]), None)
            if other is not None:
                raise WorkDirError(
                    f"{folder} holds an experiment with another {other} ({json.dumps(known[other])[:200]}, "
                    f"now {json.dumps(facts[other])[:200]}); choose another --out, or delete it"
                )
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise WorkDirError(f"{folder} holds files but no experiment; choose an empty folder as --out")
        joined = known | dict(facts)
        write_atomic(path, (json.dumps(joined, indent=2) + "\n").encode())
        return cls(folder, joined)

    def _path(self, job: Job) -> Path:
        return self.folder / "jobs" / f"{job.id}.json"

    def has(self, job: Job) -> bool:
        """Whether a job is done."""
        return self._path(job).exists()

    def put(self, outcome: Outcome) -> None:
        """Keep an outcome.

        Raises:
            OutputError: It cannot be written.
        """
        write_atomic(self._path(outcome.job), (json.dumps(outcome.to_json()) + "\n").encode())

    def outcomes(self) -> list[Outcome]:
        """Everything that is done, in the order of the jobs' names.

        Raises:
            WorkDirError: A file is damaged.
        """
        found = []
        for path in sorted((self.folder / "jobs").glob("*.json")):
            try:
                found.append(Outcome.from_json(_read(path)))
            except (KeyError, TypeError, ValueError) as error:
                raise WorkDirError(
                    f"{path} is damaged ({error}); delete it, and its job runs again"
                ) from error
        return found


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkDirError(f"{path} is damaged ({error}); delete it, or choose another --out") from error
    if not isinstance(value, dict):
        raise WorkDirError(f"{path} is damaged (no JSON object); delete it, or choose another --out")
    return value
