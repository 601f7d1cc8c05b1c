"""The versions of a task's prompt: each a `.qpt` and what was measured of it, kept until there are too many.

They lie in `.qprompt/versions/`: `<n>.qpt`, `<n>.json`, `<n>.html` (a report) and `<n>.photos` (what it was
tuned on). The published version is the one that has the bytes of `DIR/<task>.qpt`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qprompt_edge.server.limits import VERSIONS
from qprompt_edge.server.photos import Photo
from qprompt_edge.server.refusal import Refusal
from qprompt_runtime.admission import admitted, restore, used
from qprompt_runtime.errors import OlderPromptError, PromptFileError, TrustError
from qprompt_runtime.files import write_atomic
from qprompt_runtime.policy import ENFORCE, in_force
from qprompt_runtime.prompt_file import PromptFile

_FACTS: dict[str, Any] = {
    "created": None, "bytes": None, "classes": [], "photos": None, "method": None, "bits": None, "backbone": None,
    "verdict": None, "helped": None, "holdout": None, "kind": None, "difference": None, "interval": None,
}  # fmt: skip
"""What every version says in lists; None where it is not known."""
_ACCEPTED = "accepted.json"


class Versions:
    """The versions of one task. Whoever changes them holds the task's lock.

    Args:
        folder: The task's folder.
        published: Where its published prompt stands.
    """

    def __init__(self, folder: Path, published: Path) -> None:
        self._folder, self._published = folder / ".qprompt" / "versions", published

    def numbers(self) -> list[int]:
        """All there are, the oldest first."""
        with contextlib.suppress(OSError):
            return sorted(int(path.stem) for path in self._folder.glob("*.qpt") if path.stem.isdecimal())
        return []

    def path(self, number: int) -> Path:
        """A version's prompt file.

        Raises:
            Refusal: There is no such version.
        """
        path = self._folder / f"{number}.qpt"
        if not path.is_file():
            raise Refusal(404, f"there is no version {number}")
        return path

    def next_path(self) -> Path:
        """Where the next version will stand."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder / f"{max(self.numbers(), default=0) + 1}.qpt"

    def published(self) -> int | None:
        """The version that is published; None if there is none, or another prompt was put in its place."""
        try:
            now = self._published.read_bytes()
        except OSError:
            return None
        return self._with(now)

    def _with(self, data: bytes) -> int | None:
        """The newest version that has these bytes."""
        return next((n for n in reversed(self.numbers()) if self.path(n).read_bytes() == data), None)

    def listed(self) -> list[dict[str, Any]]:
        """All versions, the newest last, without what only one's own page shows."""
        published = self.published()
        found = []
        for number in self.numbers():
            known = self._read(number)
            found.append({"n": number, **{name: known.get(name, none) for name, none in _FACTS.items()}})
            found[-1]["published"] = number == published
        return found

    def facts(self, number: int) -> dict[str, Any]:
        """All that is known of a version.

        Raises:
            Refusal: There is no such version.
        """
        self.path(number)
        return {**_FACTS, **self._read(number), "n": number, "published": number == self.published()}

    def keep(self, path: Path, facts: dict[str, Any], sides: dict[str, list[str]] | None = None) -> int:
        """Note what is known of a version whose prompt file was just written; the oldest may go.

        Args:
            path: The prompt file, as `next_path` named it.
            facts: As JSON can hold them.
            sides: Marks of the photos that it was `trained` on, and of those that were `held` back, and all
                that were `seen` as `look` tells them; None if that is not known.

        Returns:
            The version's number.
        """
        write_atomic(path.with_suffix(".photos"), json.dumps(sides or {}).encode())
        known = {"created": _moment(time.time()), **facts}
        write_atomic(path.with_suffix(".json"), json.dumps(known).encode())
        published, numbers = self.published(), self.numbers()
        for number in [n for n in numbers[:-1] if n != published][: max(0, len(numbers) - VERSIONS)]:
            for ending in (".qpt", ".json", ".html", ".photos"):
                (self._folder / f"{number}{ending}").unlink(missing_ok=True)
        return int(path.stem)

    def marks(self, number: int) -> dict[str, set[str]]:
        """Marks of photos that a version was `trained` on, and of those `held` back; empty if not known."""
        with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
            kept = json.loads((self._folder / f"{number}.photos").read_bytes())
            return {side: set(kept.get(side, ())) for side in ("trained", "held")}
        return {"trained": set(), "held": set()}

    def changed(self, photos: Sequence[Photo]) -> bool:
        """Whether there are photos that the newest version of those made here was not made of, or less."""
        numbers = self.numbers()
        for number in reversed(numbers):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                kept = json.loads((self._folder / f"{number}.photos").read_bytes())
                return bool(kept["seen"] != look(photos))
        return bool(numbers and photos)  # all were sent: nobody knows what they were made of

    def add(self, data: bytes) -> int:
        """Take a prompt file that was sent.

        Returns:
            Its number, which is that of a version with the same bytes if there is one.

        Raises:
            Refusal: It is no prompt file.
        """
        try:
            prompt = PromptFile.from_bytes(data)
        except (PromptFileError, TrustError) as error:
            raise Refusal(415, f"that is no prompt file: {error}") from error
        known = self._with(data)
        if known is not None:
            return known
        path = self.next_path()
        write_atomic(path, data)
        return self.keep(path, {**_said(prompt, len(data)), "kind": "upload"})

    def publish(self, number: int) -> None:
        """Put a version where `watch` and others read it.

        Raises:
            Refusal: There is no such version, or the policy for signed prompts does not let it be used.
        """
        data = self.path(number).read_bytes()
        try:
            try:
                admitted(data)
                older: tuple[str, ...] = ()
            except OlderPromptError:
                older = self._let_back(number, data)
            write_atomic(self._published, data)
            used(data)
            restore(data, older)
        except TrustError as error:
            raise Refusal(409, f"version {number} cannot be published: {error}") from error
        if in_force().level == ENFORCE:
            self._note_accepted(data)

    def _let_back(self, number: int, data: bytes) -> tuple[str, ...]:
        """Have the policy admit an older version again that was published here under it, as `rollback` does.

        Returns:
            What may be used beside the newest.

        Raises:
            Refusal: It never was.
            TrustError: It would not pass even if it were the newest.
        """
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._accepted():
            raise Refusal(
                409,
                f"version {number} cannot be published: it is older than what was used here, and was never published here "
                "under the policy; have it signed again with a higher sequence",
            )
        now = (hashlib.sha256(self._published.read_bytes()).hexdigest(),) if self._published.is_file() else ()
        restore(data, (*now, digest))  # until the file is exchanged, what is published may go on
        try:
            admitted(data)
        except TrustError:
            restore(data, now)
            raise
        return (digest,)

    def _accepted(self) -> list[str]:
        """SHA-256 of the files that were published under the policy `enforce`, hexadecimal."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            return [str(it) for it in json.loads((self._folder / _ACCEPTED).read_bytes())]
        return []

    def _note_accepted(self, data: bytes) -> None:
        kept = {hashlib.sha256(self.path(number).read_bytes()).hexdigest() for number in self.numbers()}
        before, digest = self._accepted(), hashlib.sha256(data).hexdigest()
        if digest not in before:
            listed = [it for it in before if it in kept] + [digest]
            write_atomic(self._folder / _ACCEPTED, json.dumps(listed).encode())

    def in_use(self) -> Path:
        """The prompt that answers: the published one, else the newest version.

        Raises:
            Refusal: There is none.
        """
        if self._published.is_file() and not self._published.is_symlink():
            return self._published
        numbers = self.numbers()
        if not numbers:
            raise Refusal(409, "this task has no prompt yet; adapt first")
        return self.path(numbers[-1])

    def _read(self, number: int) -> dict[str, Any]:
        """What was noted of a version, or else what its file says."""
        with contextlib.suppress(OSError, ValueError):
            found = json.loads((self._folder / f"{number}.json").read_bytes())
            if isinstance(found, dict):
                return found
        path = self._folder / f"{number}.qpt"
        with contextlib.suppress(OSError, PromptFileError, TrustError):
            return {
                **_said(PromptFile.from_bytes(path.read_bytes()), path.stat().st_size),
                "created": _moment(path.stat().st_mtime),
            }
        return {}


def _moment(seconds: float) -> str:
    """A time in UTC, as ISO 8601 has it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def marked(photo: Photo) -> str:
    """What tells a photo from others, in whichever class it is now: its name and its size."""
    name = photo.id.rpartition("/")[2]
    return hashlib.sha256(f"{name}|{photo.bytes}".encode()).hexdigest()[:16]


def look(photos: Sequence[Photo]) -> list[str]:
    """What tells whether a task's photos and their classes are still the same."""
    return sorted(f"{photo.label}/{marked(photo)}" for photo in photos)


def findings_file(folder: Path) -> Path:
    """Where what the last check of a task found is kept."""
    return folder / ".qprompt" / "check.json"


def _said(prompt: PromptFile, size: int) -> dict[str, Any]:
    """What a prompt says of itself."""
    return {
        "bytes": size,
        "classes": [name.label for name in prompt.classes],
        "photos": sum(prompt.photos) if prompt.photos else None,
        "method": prompt.method,
        "bits": prompt.groups[0].bits,
        "backbone": prompt.backbone_name,
    }
