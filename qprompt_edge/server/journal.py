"""Changes of a folder that can be undone: each is a list of moves, noted before the first of them is made.

The idea: nothing is ever deleted by a change. What is deleted moves into a trash folder, what is added comes
out of one, and undoing moves it all back. So a note of where things were is enough, and a process that ends
half-way through a change leaves nothing that cannot be undone. The trash is bounded: the oldest change goes
first, for good.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from qprompt_edge.server.limits import TRASH_BYTES, TRASH_FILES, UNDO_STEPS
from qprompt_edge.server.refusal import Refusal
from qprompt_runtime.errors import OutputError
from qprompt_runtime.files import sync_folder, write_atomic
from qprompt_runtime.text import printable

_BESIDE = "//"
"""Begins the path of what lies beside the folder, not in it; no path in it begins so."""
_TRASH = ".qprompt/trash/"

Move = tuple[str, str]
"""From where and to where; paths below the folder, with `/`."""


@dataclass(frozen=True)
class Change:
    """Something that was done.

    Attributes:
        number: Counts up; its trash folder has the same number.
        what: In words, for instance `3 photos deleted`.
        moves: What was moved, in this order.
        made: Folders that were made for it.
    """

    number: int
    what: str
    moves: tuple[Move, ...]
    made: tuple[str, ...] = ()


class Journal:
    """The changes of one folder. Whoever calls it holds the folder's lock.

    Args:
        folder: The folder.
        beside: The folder that paths beginning with `//` are below, if there is one.
    """

    def __init__(self, folder: Path, beside: Path | None = None) -> None:
        self.folder, self._beside = folder, beside
        self._file = folder / ".qprompt" / "undo.json"

    def last(self) -> str | None:
        """What would be undone next, in words."""
        changes = self._read()
        return changes[-1].what if changes else None

    def do(self, what: str, moves: Callable[[str], Iterable[Move]], made: Sequence[str] = ()) -> Change:
        """Make a change.

        Args:
            what: In words.
            moves: Called with the change's trash folder; what is to be moved. Nothing may be at any of the
                places it goes to.
            made: Folders to make first.

        Raises:
            Refusal: Something is no longer where it was, or something else has taken its place; nothing is
                changed then.
            OutputError: The folder cannot be written.
        """
        changes = self._read()
        number = 1 + max([*(change.number for change in changes), *self._trash_numbers()], default=0)
        change = Change(number, what, tuple(moves(f"{_TRASH}{number}")), tuple(made))
        self._write(_recent([*changes, change]))
        done: list[Move] = []
        try:
            for folder in change.made:
                self._path(folder).mkdir(parents=True, exist_ok=True)
            for move in change.moves:
                self._move(*move)
                done.append(move)
        except (Refusal, OSError) as error:
            for source, target in reversed(done):
                self._move(target, source)
            self._write(changes)
            if isinstance(error, Refusal):
                raise
            raise OutputError(
                f"cannot change {printable(self.folder.name)}: {error.strerror or error}"
            ) from error
        self._sync(change)
        if any(target.startswith(_TRASH) for _, target in change.moves):
            self._bound_trash()
        return change

    def undo(self) -> str:
        """Undo the last change; what it was, in words.

        Raises:
            Refusal: There is none, or something stands in the way.
            OutputError: A file cannot be moved back.
        """
        changes = self._read()
        if not changes:
            raise Refusal(409, "there is nothing to undo")
        change = changes[-1]
        here = [(target, source) for source, target in reversed(change.moves) if self._is(target)]
        taken = next((source for _, source in here if self._is(source)), None)
        if taken is not None:
            raise Refusal(409, f"cannot undo: {printable(taken)} is there again; move or rename it first")
        try:
            for move in here:
                self._move(*move)
        except OSError as error:
            raise OutputError(f"cannot undo: {error.strerror or error}") from error
        for folder in reversed(change.made):
            with contextlib.suppress(OSError):  # not empty: something was added since
                self._path(folder).rmdir()
        self._sync(change)
        self._write(changes[:-1])
        return change.what

    def _sync(self, change: Change) -> None:
        """Make moves durable: a power cut a moment later takes nothing back."""
        touched = {self._path(place).parent for move in change.moves for place in move}
        for folder in {*touched, *(self._path(folder).parent for folder in change.made)}:
            sync_folder(folder)

    def _is(self, relative: str) -> bool:
        return os.path.lexists(self._path(relative))

    def _path(self, relative: str) -> Path:
        if relative.startswith(_BESIDE) and self._beside is not None:
            return self._beside / relative.removeprefix(_BESIDE)
        return self.folder / relative

    def _move(self, source: str, target: str) -> None:
        there = self._path(target)
        if os.path.lexists(there):
            raise Refusal(409, f"{printable(target)} is there already")
        there.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._path(source).rename(there)
        except FileNotFoundError:
            raise Refusal(404, f"{printable(source)} is no longer there") from None

    def _read(self) -> list[Change]:
        try:
            found = json.loads(self._file.read_bytes())
            return [
                Change(
                    int(it["number"]),
                    str(it["what"]),
                    tuple((a, b) for a, b in it["moves"]),
                    tuple(it["made"]),
                )
                for it in found
            ]
        except (OSError, ValueError, KeyError, TypeError):  # none yet, or damaged: then nothing can be undone
            return []

    def _write(self, changes: Sequence[Change]) -> None:
        write_atomic(self._file, json.dumps([asdict(change) for change in changes]).encode())

    def _trash_numbers(self) -> list[int]:
        folder = self.folder / _TRASH
        try:
            return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
        except OSError:
            return []

    def _bound_trash(self) -> None:
        """Let the oldest changes go for good while the trash holds too much; the newest stays."""
        numbers = self._trash_numbers()
        sizes = [_size(self.folder / f"{_TRASH}{number}") for number in numbers]
        count, total = sum(count for count, _ in sizes), sum(size for _, size in sizes)
        gone: set[int] = set()
        for number, (files, size) in list(zip(numbers, sizes, strict=True))[:-1]:
            if count <= TRASH_FILES and total <= TRASH_BYTES:
                break
            shutil.rmtree(self.folder / f"{_TRASH}{number}", ignore_errors=True)
            count, total = count - files, total - size
            gone.add(number)
        if gone:
            self._write([change for change in self._read() if change.number > max(gone)])


def _recent(changes: list[Change]) -> list[Change]:
    """The last changes: a limited number of steps and of moves, but always one."""
    changes = changes[-UNDO_STEPS:]
    while len(changes) > 1 and sum(len(change.moves) for change in changes) > TRASH_FILES:
        changes = changes[1:]
    return changes


def _size(folder: Path) -> tuple[int, int]:
    """Files below a folder, and their bytes."""
    count = total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(Path(base) / name).st_size
                count += 1
    return count, total


def stamp() -> str:
    """The time in UTC, for the names of files."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
