"""What was used on this device, remembered so that time and sequence only go forward.

A small JSON file: the latest time seen, the newest prompt of each task, and the keys that were revoked. It is
read and written under a lock, since several programs of a device share it.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from qprompt_runtime.cose_sign1 import Claims
from qprompt_runtime.errors import OutputError, TrustError
from qprompt_runtime.files import write_atomic
from qprompt_runtime.text import printable

_MOST_BYTES = 16_000_000
TIME_STEP = 60
"""Seconds that the time must have moved to be worth writing: a flash card wears."""


@dataclass(frozen=True)
class Newest:
    """The newest prompt of a task that was used here.

    Attributes:
        sequence: Its sequence number.
        issued: When it was issued, in seconds since 1970.
        restored: Hexadecimal SHA-256 of older files that rollback put back and that may be used too.
    """

    sequence: int = 0
    issued: int = 0
    restored: tuple[str, ...] = ()

    def is_newer_than(self, claims: Claims) -> bool:
        """Whether a prompt with these claims is older: by sequence, then by time of issue."""
        return (claims.sequence, claims.issued) < (self.sequence, self.issued)


@dataclass(frozen=True)
class Accepted:
    """What one state file says.

    Attributes:
        last_seen: The latest time seen, in seconds since 1970.
        tasks: The newest prompt by task.
        revoked: Hexadecimal ids of keys that were revoked.
    """

    last_seen: int = 0
    tasks: dict[str, Newest] = field(default_factory=dict)
    revoked: frozenset[str] = frozenset()

    def newest(self, task: str) -> Newest:
        """The newest prompt of a task; of sequence 0 if none was used yet."""
        return self.tasks.get(task, Newest())

    def with_newest(self, task: str, newest: Newest) -> Accepted:
        """The same with another newest prompt of a task."""
        return replace(self, tasks={**self.tasks, task: newest})

    def at(self, moment: int, step: int) -> Accepted:
        """The same with a later time, if it moved by `step` seconds."""
        return replace(self, last_seen=moment) if moment - self.last_seen >= step else self


def clock() -> int:
    """The system's time in seconds since 1970."""
    return int(time.time())


def read_accepted(path: Path) -> Accepted:
    """Read a state file; one that is not there yet says nothing.

    Raises:
        TrustError: It cannot be read, or is damaged.
    """
    shown = printable(path)
    try:
        with path.open("rb") as file:
            raw = json.loads(file.read(_MOST_BYTES))
        tasks = {task: _newest(entry) for task, entry in raw["tasks"].items()}
        return Accepted(_whole(raw["last_seen"]), tasks, frozenset(map(_hexadecimal, raw["revoked"])))
    except (FileNotFoundError, NotADirectoryError):
        return Accepted()
    except OSError as error:
        raise TrustError(
            f"what was used here cannot be read from {shown}, so nothing is loaded: {error.strerror or error}"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TrustError(
            f"{shown} is damaged, so nothing is loaded; it remembers which prompts were used here: restore it, or remove it "
            "if older prompts may be used again"
        ) from error


def write_accepted(path: Path, state: Accepted) -> None:
    """Write a state file.

    Raises:
        TrustError: It cannot be written.
    """
    tasks = {
        task: {"sequence": newest.sequence, "issued": newest.issued, "restored": newest.restored}
        for task, newest in sorted(state.tasks.items())
    }
    raw = {"last_seen": state.last_seen, "tasks": tasks, "revoked": sorted(state.revoked)}
    try:
        write_atomic(path, (json.dumps(raw, indent=1) + "\n").encode())
    except OutputError as error:
        raise TrustError(f"what was used here cannot be remembered: {error}") from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a state file for this process alone.

    Raises:
        TrustError: The lock beside it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # for reading, which a lock needs: the file may be another user's, such as root's
        handle = os.open(path.with_name(f"{path.name}.lock"), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise TrustError(
            f"what was used here cannot be remembered in {printable(path)}: {error.strerror or error}; make its folder "
            "writable for this user, or name another place as `state` in the policy file"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _newest(raw: Any) -> Newest:
    return Newest(_whole(raw["sequence"]), _whole(raw["issued"]), tuple(map(_hexadecimal, raw["restored"])))


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError(value)
    return value


def _hexadecimal(value: Any) -> str:
    bytes.fromhex(value)
    return str(value)
