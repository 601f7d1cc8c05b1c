"""The folder that is served: a sub-folder for each task, in it one for each class, in it the photos.

    DIR/<task>/<class>/*.jpg     what `adapt DIR/<task>` reads
    DIR/<task>/.qprompt/         versions, trash and notes for undo; hidden, so `adapt` passes it over
    DIR/<task>.qpt               the published prompt
    DIR/<task>.review/           the frames that `watch --review` kept
    DIR/.qprompt/                the same for tasks, thumbnails, and who may come in

Nothing of it is kept in memory, so what the command line changes is seen by the next request. Links are
passed over.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Lock, RLock

from qprompt_edge.server.journal import Journal
from qprompt_edge.server.limits import FREE_BYTES, TASKS
from qprompt_edge.server.names import task_name
from qprompt_edge.server.refusal import Refusal
from qprompt_runtime.errors import OutputError
from qprompt_runtime.text import printable

HIDDEN = ".qprompt"
PROMPT, REVIEW = ".qpt", ".review"


class Store:
    """The tasks in a folder, and a lock for each: two browsers change a task one after the other.

    Args:
        folder: It is made if it is missing.

    Raises:
        OutputError: It cannot be written, or another `serve` has it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.hidden = self.folder / HIDDEN
        self._locks: dict[str, RLock] = {}
        self._lock = Lock()
        self.tasks_lock = RLock()
        try:
            self.hidden.mkdir(parents=True, exist_ok=True)
            self._held = (self.hidden / "lock").open("w")
        except OSError as error:
            raise OutputError(f"cannot use {printable(folder)}: {error.strerror or error}") from error
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._held.close()
            raise OutputError(f"{printable(folder)} is served already; one process at a time") from error
        except OSError:  # a network share without locks
            pass
        self.incoming = self.hidden / "incoming"
        shutil.rmtree(self.incoming, ignore_errors=True)  # what a process that died was just receiving
        self.incoming.mkdir()

    def close(self) -> None:
        """Let another server have the folder."""
        self._held.close()

    @contextlib.contextmanager
    def locked(self, task: str) -> Iterator[Path]:
        """Hold a task's lock; its folder.

        Raises:
            Refusal: There is no such task.
        """
        name = self.task(task).name
        with self._lock:
            lock = self._locks.setdefault(name, RLock())
        with lock:
            yield self.task(name)

    def task(self, name: str) -> Path:
        """A task's folder.

        Raises:
            Refusal: There is no such task.
        """
        missing = Refusal(404, f"there is no task {printable(name)[:80]!r}")
        try:
            folder = self.folder / task_name(name)
        except Refusal:
            raise missing from None
        if folder.is_symlink() or not folder.is_dir():
            raise missing
        return folder

    def tasks(self) -> list[str]:
        """Names of all tasks, sorted."""
        names = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(Refusal):
                    if entry.is_dir(follow_symlinks=False) and task_name(entry.name) == entry.name:
                        names.append(entry.name)
        return sorted(names)

    def prompt(self, task: str) -> Path:
        """Where a task's published prompt stands."""
        return self.folder / (task_name(task) + PROMPT)

    def review(self, task: str) -> Path:
        """Where `watch` keeps frames for a task.

        Raises:
            Refusal: There is a link, which may lead anywhere.
        """
        folder = self.folder / (task_name(task) + REVIEW)
        if folder.is_symlink():
            raise Refusal(
                409, f"{printable(folder.name)} is a link; the queue has to lie in the served folder"
            )
        return folder

    def journal(self, task: str) -> Journal:
        """A task's changes."""
        return Journal(self.task(task), self.review(task))

    def make(self, name: str) -> str:
        """Make a task; its name.

        Raises:
            Refusal: There is one already, or too many.
            OutputError: Its folder cannot be made.
        """
        name = task_name(name)
        with self.tasks_lock:
            self._check_free(name)
            if len(self.tasks()) >= TASKS:
                raise Refusal(409, f"there are {TASKS} tasks already; delete one first")
            try:
                (self.folder / name / HIDDEN).mkdir(parents=True)
            except OSError as error:
                raise OutputError(f"cannot make the task: {error.strerror or error}") from error
        return name

    def rename(self, task: str, name: str) -> str:
        """Give a task another name; its prompt and its queue go with it.

        Raises:
            Refusal: There is no such task, or that name is taken.
        """
        new = task_name(name)
        with self.tasks_lock, self.locked(task) as folder:
            if new != folder.name:
                self._check_free(new)
                moves = [(folder.name + end, new + end) for end in self._endings(folder.name)]
                Journal(self.folder).do(f"task {folder.name} renamed to {new}", lambda _: moves)
        return new

    def delete(self, task: str) -> None:
        """Move a task to the trash, with its prompt and its queue.

        Raises:
            Refusal: There is no such task.
        """
        with self.tasks_lock, self.locked(task) as folder:
            name = folder.name
            ends = self._endings(name)
            Journal(self.folder).do(
                f"task {name} deleted", lambda trash: [(name + end, f"{trash}/{name}{end}") for end in ends]
            )

    def undo(self) -> str:
        """Undo the last renaming or deleting of a task; what it was."""
        with self.tasks_lock:
            return Journal(self.folder).undo()

    def check_room(self, size: int) -> None:
        """Refuse to receive what would fill the disk.

        Raises:
            Refusal: Too little would be left.
        """
        free = shutil.disk_usage(self.folder).free
        if free - size < FREE_BYTES:
            raise Refusal(503, f"the disk is nearly full ({free // 2**20} MB free); delete something first")

    def _check_free(self, name: str) -> None:
        if any(os.path.lexists(self.folder / (name + end)) for end in ("", PROMPT, REVIEW)):
            raise Refusal(409, f"there is a task {name!r} already, or a prompt or a queue of that name")

    def _endings(self, name: str) -> list[str]:
        return [end for end in (PROMPT, REVIEW, "") if os.path.lexists(self.folder / (name + end))]
