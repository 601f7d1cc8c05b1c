"""The folder that a device's prompt is installed in: what runs, what ran before, and the record of both.

    prompt.qpt        what runs; whatever loads prompts is given this file
    kept/             the files that ran, each by its content
    installed.json    which they were, in which order

Every change of `prompt.qpt` is one rename, and what the record says is checked against the files, so that a
process that is killed at any moment leaves the old prompt or the new one, and can be run again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from qprompt_runtime.cose_sign1 import claims_in
from qprompt_runtime.errors import OutputError, QPromptError
from qprompt_runtime.files import write_atomic
from qprompt_runtime.prompt_file import read_content
from qprompt_runtime.text import printable

RUNNING, KEPT, RECORD = "prompt.qpt", "kept", "installed.json"
MOST_KEPT = 5
"""Files that are kept beside the one that runs."""


@dataclass(frozen=True)
class Entry:
    """A prompt that was installed.

    Attributes:
        digest: Hexadecimal SHA-256 of the file.
        sequence: Its sequence number; 0 if it was not signed.
        installed: When, in seconds since 1970.
        before: Digest of what ran before it; None if nothing did.
    """

    digest: str
    sequence: int
    installed: int
    before: str | None


@dataclass(frozen=True)
class Record:
    """What was installed in a folder.

    Attributes:
        highest: The highest sequence number that ran.
        entries: The prompts, in the order in which they were installed.
    """

    highest: int = 0
    entries: tuple[Entry, ...] = ()

    def entry(self, digest: str) -> Entry | None:
        """The newest entry of a file; None if it was not installed here."""
        return next((it for it in reversed(self.entries) if it.digest == digest), None)

    def before(self, digest: str) -> Entry | None:
        """What ran before a file: the last that was installed, if that file was not; None if nothing did."""
        entry = self.entry(digest)
        if entry is None:
            return self.entries[-1] if self.entries else None
        return None if entry.before is None else self.entry(entry.before)

    def with_entry(self, entry: Entry) -> Record:
        """The record with one more entry, and without what is too old to be kept."""
        others = tuple(it for it in self.entries if it.digest != entry.digest)
        return replace(self, entries=(*others, entry)[-(MOST_KEPT + 1) :])

    def reaching(self, sequence: int) -> Record:
        """The record of a folder in which a prompt of this sequence ran."""
        return replace(self, highest=max(self.highest, sequence))


def running(folder: Path) -> bytes | None:
    """The content of the file that runs; None if there is none.

    Raises:
        PromptFileError: It cannot be read.
    """
    path = folder / RUNNING
    return read_content(path) if path.exists() else None


def digest_of(content: bytes) -> str:
    """What a file is called by."""
    return hashlib.sha256(content).hexdigest()


def sequence_of(content: bytes) -> int:
    """The sequence number of a file; 0 if it is not signed, or is no prompt."""
    try:
        claims = claims_in(content)
    except QPromptError:
        return 0
    return 0 if claims is None else claims.sequence


def kept_file(folder: Path, digest: str) -> Path:
    """Where a file is kept."""
    return folder / KEPT / f"{digest[:32]}.qpt"


def read_record(folder: Path) -> Record:
    """The record of a folder; an empty one if nothing was installed in it.

    Raises:
        OutputError: It cannot be read, or is damaged.
    """
    path = folder / RECORD
    try:
        raw = json.loads(path.read_bytes())
        entries = tuple(Entry(**_checked(entry)) for entry in raw["entries"])
        return Record(int(raw["highest"]), entries)
    except (FileNotFoundError, NotADirectoryError):
        return Record()
    except OSError as error:
        raise OutputError(f"{printable(path)} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise OutputError(
            f"{printable(path)} is damaged; it says what was installed here: restore it, or remove it if older prompts may be "
            "installed again"
        ) from error


def write_record(folder: Path, record: Record) -> None:
    """Write the record of a folder.

    Raises:
        OutputError: It cannot be written.
    """
    raw = {"highest": record.highest, "entries": [asdict(entry) for entry in record.entries]}
    write_atomic(folder / RECORD, (json.dumps(raw, indent=1) + "\n").encode())


def remove_unlisted(folder: Path, record: Record) -> None:
    """Remove kept files that the record does not list any more.

    Raises:
        OutputError: One cannot be removed.
    """
    listed = {kept_file(folder, entry.digest).name for entry in record.entries}
    try:
        for path in (folder / KEPT).iterdir():
            if path.name not in listed and path.suffix == ".qpt":
                path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot remove an old prompt from {printable(folder / KEPT)}: {error.strerror or error}"
        ) from error


def _checked(entry: Any) -> dict[str, Any]:
    kinds = {"digest": (str,), "sequence": (int,), "installed": (int,), "before": (str, type(None))}
    if set(entry) != set(kinds) or not all(isinstance(entry[name], kind) for name, kind in kinds.items()):
        raise TypeError(entry)
    return dict(entry)
