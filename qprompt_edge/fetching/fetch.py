"""Fetch a prompt and install it: at most what is new, and not again and again what failed.

`fetch.json` beside the prompt remembers what went wrong. A source that does not answer is left
alone for 1, 2, 4, ... minutes, up to 6 hours. A prompt that is worse on the canary photos is not tried on
them again until the source has another. Other refusals cost nothing to find again, and what is wrong may be
mended here: a key that the trust store lacked.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from qprompt_edge.fetching.sources import FetchError, Source
from qprompt_edge.reporter import Reporter
from qprompt_edge.shipping.install import install_content
from qprompt_edge.shipping.installed import Installed, WorseError
from qprompt_edge.shipping.place import digest_of, read_record, running
from qprompt_runtime.accepted import clock
from qprompt_runtime.files import write_atomic
from qprompt_runtime.policy import Policy
from qprompt_runtime.text import counted
from qprompt_runtime.trust_checks import shown_time

MEMORY = "fetch.json"
LEAST_WAIT, MOST_WAIT = 60, 6 * 3600
"""Seconds that a source is left alone after the first failure, and at most."""

_MOST_ASKED = 24 * 3600
"""Seconds that a source may ask to be left alone."""
_MOST_FAILURES = 30


@dataclass(frozen=True)
class Memory:
    """What is known of a source.

    Attributes:
        source: SHA-256 of its address: another source has another memory.
        worse: SHA-256 of a prompt that was worse on the canary photos.
        failures: How often in a row the source did not answer.
        again: When it may be asked again, in seconds since 1970.
    """

    source: str
    worse: str | None = None
    failures: int = 0
    again: int = 0


@dataclass(frozen=True)
class Fetched:
    """What came of it.

    Attributes:
        installed: What was installed; None if there was nothing new.
        reason: Why there was nothing new.
    """

    installed: Installed | None
    reason: str = ""


def fetch(
    source: Source,
    folder: Path,
    *,
    back_off: bool = False,
    canary: Path | None = None,
    backbone: str | None = None,
    policy: Policy | None = None,
    max_memory: float | None = None,
    reporter: Reporter | None = None,
) -> Fetched:
    """Install what a source has, if it is new.

    Args:
        source: Where it comes from.
        folder: Where it shall run from, as `prompt.qpt`.
        back_off: Whether to leave the source alone for a while after failures, and a prompt that was worse.
        canary: This and the others: as for `install`.
        backbone: See there.
        policy: See there.
        max_memory: See there.
        reporter: See there.

    Raises:
        FetchError: The source does not answer, or is left alone.
        QPromptError: What it has is not installed, as for `install`.
    """
    before = read_memory(folder, source.address)
    if back_off:
        _check_wait(before, source, clock())
    try:
        content = source.read()
    except FetchError as error:
        _remember(folder, before, _failed(before, clock(), error.wait))
        raise
    digest, now = digest_of(content.data), running(folder)
    answered = Memory(before.source, before.worse if before.worse == digest else None)
    _remember(folder, before, answered)
    if now == content.data:
        return Fetched(None, f"{source.name} has what runs already")
    if read_record(folder).entry(digest) is not None:
        return Fetched(None, f"{source.name} has a prompt that was installed here before")
    if back_off and answered.worse is not None:
        raise WorseError(
            f"{content.name} was worse than what runs, on the canary photos, and the source has had no other since"
        )
    try:
        done = install_content(
            content.data,
            content.name,
            folder,
            canary=canary,
            backbone=backbone,
            policy=policy,
            max_memory=max_memory,
            reporter=reporter,
        )
    except WorseError:
        _remember(folder, answered, replace(answered, worse=digest))
        raise
    return Fetched(done)


def read_memory(folder: Path, address: str) -> Memory:
    """What is known of a source; nothing if it is another than before, or the file is damaged."""
    identity = hashlib.sha256(address.encode("utf-8", "surrogateescape")).hexdigest()
    try:
        raw: dict[str, Any] = json.loads((folder / MEMORY).read_bytes())
        found = Memory(**raw)
        sound = type(found.failures) is type(found.again) is int and isinstance(found.worse, str | None)
    except (OSError, ValueError, TypeError, RecursionError):
        sound = False
    return found if sound and found.source == identity else Memory(identity)


def _remember(folder: Path, before: Memory, now: Memory) -> None:
    """Write what is known, if that is something else than before: a flash card wears.

    Raises:
        OutputError: It cannot be written.
    """
    if now != before:
        write_atomic(folder / MEMORY, (json.dumps(asdict(now), indent=1) + "\n").encode())


def _failed(before: Memory, now: int, asked: int) -> Memory:
    """The memory of a source that did not answer once more."""
    wait = min(LEAST_WAIT << min(before.failures, _MOST_FAILURES), MOST_WAIT)
    return replace(before, failures=before.failures + 1, again=now + max(wait, min(asked, _MOST_ASKED)))


def _check_wait(memory: Memory, source: Source, now: int) -> None:
    """Leave a source alone that did not answer; a clock that was set back does not make it longer.

    Raises:
        FetchError: It may not be asked yet.
    """
    if now < memory.again <= now + _MOST_ASKED:
        raise FetchError(
            f"{source.name} is left alone until {shown_time(memory.again)}: it did not answer "
            f"{counted(memory.failures, 'time')} in a row"
        )
