"""The work directory of a run: its task and its checkpoint, from which an interrupted run continues.

A task is everything that decides the result: features, labels, class texts and the whole configuration. Its
hash names it, so a checkpoint is only ever continued by the run that would have written it.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.cache import cache_folder
from qprompt_edge.tuning.quantizer import Codebook
from qprompt_edge.tuning.trainer import TrainingState
from qprompt_runtime.errors import OutputError, WorkDirError
from qprompt_runtime.files import is_file, write_atomic

TASK_FILE = "task.json"
CHECKPOINT_FILE = "checkpoint.npz"


def task_id(facts: dict[str, Any], *arrays: NDArray[np.generic]) -> str:
    """Hexadecimal hash of a task.

    Args:
        facts: Configuration, class texts and backbone, as JSON can hold them.
        arrays: Features and labels.
    """
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for array in arrays:
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]


@dataclass(frozen=True)
class WorkDir:
    """The folder of one task.

    Attributes:
        folder: Where it lies; None keeps nothing.
        task: The task's hash.
        temporary: Whether it belongs to the cache and goes once the task is done.
        unkept: Takes the error where a checkpoint cannot be written; None raises it.
    """

    folder: Path | None
    task: str
    temporary: bool
    unkept: Callable[[OutputError], None] | None = None

    @classmethod
    def open(
        cls,
        folder: Path | None,
        task: str,
        facts: dict[str, Any],
        unkept: Callable[[OutputError], None] | None = None,
    ) -> WorkDir:
        """Take a folder for a task.

        Args:
            folder: The user's choice; None takes one in the cache, named by the task.
            task: The task's hash.
            facts: The task in words, kept beside the checkpoint.
            unkept: Takes the error where the cache, or later a checkpoint, cannot be written; None raises it.

        Raises:
            WorkDirError: The folder holds another task, or other files.
            OutputError: The user's choice cannot be written.
        """
        if folder is not None:
            _take(folder, task, facts)
            return cls(folder, task, temporary=False, unkept=unkept)
        cache = cache_folder()
        chosen = None if cache is None else cache / "tasks" / task
        try:
            if chosen is not None:
                _take(chosen, task, facts)
        except OutputError as error:
            if unkept is None:
                raise
            unkept(error)
            chosen = None
        return cls(chosen, task, temporary=True, unkept=unkept)

    @property
    def holds_checkpoint(self) -> bool:
        """Whether a later run can go on from here."""
        return self.folder is not None and is_file(self.folder / CHECKPOINT_FILE)

    def save(self, state: TrainingState) -> None:
        """Write a checkpoint, if it can be written."""
        if self.folder is None:
            return
        arrays: dict[str, Any] = {"task": np.array(self.task), "step": np.array(state.step)}
        for name, latent in state.latent.items():
            arrays |= {f"latent/{name}": latent, f"velocity/{name}": state.velocity[name]}
        for name, book in state.codebooks.items():
            arrays |= {
                f"centroids/{name}": book.centroids,
                f"counts/{name}": book.counts,
                f"renewed/{name}": np.array(book.step),
                f"normalised/{name}": np.array(book.normalised),
                f"by_row/{name}": np.array(book.by_row),
            }
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        try:
            write_atomic(self.folder / CHECKPOINT_FILE, buffer.getvalue())
        except OutputError as error:
            if self.unkept is None:
                raise
            self.unkept(error)

    def load(self) -> TrainingState | None:
        """The checkpoint, or None if there is none.

        Raises:
            WorkDirError: It is damaged, or another task's.
        """
        if self.folder is None or not self.holds_checkpoint:
            return None
        path = self.folder / CHECKPOINT_FILE
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            if str(arrays["task"]) != self.task:
                raise WorkDirError(f"{path} belongs to another task; choose another work directory")
            names = [name.removeprefix("latent/") for name in arrays if name.startswith("latent/")]
            books = [name.removeprefix("centroids/") for name in arrays if name.startswith("centroids/")]
            return TrainingState(
                step=int(arrays["step"]),
                latent={name: arrays[f"latent/{name}"] for name in names},
                velocity={name: arrays[f"velocity/{name}"] for name in names},
                codebooks={
                    name: Codebook(
                        arrays[f"centroids/{name}"],
                        arrays[f"counts/{name}"],
                        int(arrays[f"renewed/{name}"]),
                        bool(arrays[f"normalised/{name}"]),
                        bool(arrays[f"by_row/{name}"]),
                    )
                    for name in books
                },
            )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise WorkDirError(f"the checkpoint {path} is damaged ({error}); run without --resume") from error

    def finish(self) -> None:
        """Tidy up after success: a folder in the cache goes, a folder of the user's stays."""
        if self.temporary and self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def _take(folder: Path, task: str, facts: dict[str, Any]) -> None:
    """Make sure that a folder is this task's: it was before, or it is new or empty."""
    try:
        if folder.exists() and not folder.is_dir():
            raise WorkDirError(f"the work directory {folder} is a file; choose a folder")
        known = folder / TASK_FILE
        if known.exists():
            _check_task(known, task)
        elif folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
            raise WorkDirError(f"{folder} holds files but no task; choose an empty folder as work directory")
        else:
            write_atomic(known, (json.dumps({"task": task} | facts, indent=2) + "\n").encode())
    except OSError as error:
        raise OutputError(f"cannot use the work directory {folder}: {error.strerror or error}") from error


def _check_task(path: Path, task: str) -> None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["task"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorkDirError(f"{path} is damaged ({error}); choose another work directory") from error
    if found != task:
        raise WorkDirError(
            f"{path.parent} is the work directory of another task (other photos, options or backbone); "
            "choose another --work-dir, or delete it"
        )
