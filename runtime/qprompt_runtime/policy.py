"""What may be loaded on this device: a policy file, the environment and the caller may each only tighten it.

`in_force` reads what the device says, at every load; `Policy.of` is what a caller asks for beside it. The
strictest level holds, a key counts if every store named has it, a task if all that name tasks name it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qprompt_runtime.errors import TrustError
from qprompt_runtime.files import user_home
from qprompt_runtime.text import printable

OFF, WARN, ENFORCE = LEVELS = ("off", "warn", "enforce")
"""From the loosest to the strictest."""
POLICY, TRUST = "QPE_POLICY", "QPE_TRUST"
"""Variables: a level, and trust stores, divided as PATH is."""
SYSTEM_POLICY = Path("/etc/qprompt-edge/policy.json")
"""Always read where it exists; nothing that a caller sets moves it."""

_STATE = "accepted.json"
_KEYS = ("policy", "trust", "tasks", "state", "device_key")
_MOST_BYTES = 100_000


@dataclass(frozen=True)
class Policy:
    """What may be loaded.

    Attributes:
        level: `off`, `warn` or `enforce`.
        trust: Trust stores, each a folder of public keys or one public key; a key counts if every one has it.
        tasks: What a prompt may be for; None: whatever its signer may sign.
        states: Files that remember what was used here; all are asked and all are told.
        device_key: The private key that signs what is made here.
    """

    level: str = OFF
    trust: tuple[Path, ...] = ()
    tasks: frozenset[str] | None = None
    states: tuple[Path, ...] = ()
    device_key: Path | None = field(default=None, compare=False)

    @classmethod
    def of(
        cls,
        level: str | None = None,
        trust: str | Path | Iterable[str | Path] | None = None,
        task: str | None = None,
    ) -> Policy:
        """A caller's wish, which tightens what the device says.

        Args:
            level: `off`, `warn` or `enforce`; None: `enforce` if a store or a task is named, `off` otherwise.
            trust: A public key, a folder of them, or several of these.
            task: What the prompt shall be for.

        Raises:
            TrustError: The level is none.
        """
        places = (trust,) if isinstance(trust, str | Path) else tuple(trust or ())
        chosen = level or (ENFORCE if places or task is not None else OFF)
        if chosen not in LEVELS:
            raise TrustError(f"the policy is {chosen!r:.80}, expected one of {', '.join(LEVELS)}")
        return cls(chosen, tuple(map(Path, places)), None if task is None else frozenset((task,)))

    def tightened(self, other: Policy | None) -> Policy:
        """The policy that holds where both are said."""
        if other is None:
            return self
        tasks = (
            other.tasks
            if self.tasks is None
            else self.tasks
            if other.tasks is None
            else self.tasks & other.tasks
        )
        return Policy(
            max(self.level, other.level, key=LEVELS.index),
            tuple(dict.fromkeys((*self.trust, *other.trust))),
            tasks,
            tuple(dict.fromkeys((*self.states, *other.states))),
            self.device_key or other.device_key,
        )

    def state_files(self) -> tuple[Path, ...]:
        """Where it is remembered what was used here.

        Raises:
            TrustError: No policy file names a place, and the user has no home.
        """
        if self.states:
            return self.states
        named, home = os.environ.get("XDG_STATE_HOME"), user_home()
        if named:
            return (Path(named) / "qprompt-edge" / _STATE,)
        if home is None:
            raise TrustError(
                "there is no place to remember which prompts were used: give a policy file with `state`, or set XDG_STATE_HOME"
            )
        return (home / ".local" / "state" / "qprompt-edge" / _STATE,)


def in_force() -> Policy:
    """What the device says: its policy file, that of `QPE_POLICY_FILE`, `QPE_POLICY` and `QPE_TRUST`.

    Raises:
        TrustError: A policy file cannot be read, or says what is not known.
    """
    found = Policy()
    for path in (SYSTEM_POLICY, os.environ.get("QPE_POLICY_FILE")):
        if path:
            found = found.tightened(_read(Path(path), may_lack=path is SYSTEM_POLICY))
    level, trust = os.environ.get(POLICY), os.environ.get(TRUST)
    if level or trust:
        found = found.tightened(Policy.of(level or None, trust.split(os.pathsep) if trust else None))
    return found


def _read(path: Path, *, may_lack: bool) -> Policy | None:
    """A policy file; None if there is none and that is allowed."""
    shown = printable(path)
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        if may_lack:
            return None
        raise TrustError(f"there is no policy file {shown}, which QPE_POLICY_FILE names") from error
    except OSError as error:
        raise TrustError(
            f"the policy file {shown} cannot be read, so nothing is loaded: {error.strerror or error}"
        ) from error
    import json  # only where there is a policy file

    try:
        return _parse(json.loads(content), path.parent)
    except (ValueError, RecursionError) as error:
        raise TrustError(f"the policy file {shown} is not JSON, so nothing is loaded: {error}") from error
    except TrustError as error:
        raise TrustError(f"the policy file {shown}: {error}; nothing is loaded until it is mended") from error


def _parse(raw: Any, folder: Path) -> Policy:
    if not isinstance(raw, dict):
        raise TrustError("it holds no JSON object")
    unknown = sorted(set(raw) - set(_KEYS))
    if unknown:
        raise TrustError(f"it has the unknown key {unknown[0]!r:.80}, expected {', '.join(_KEYS)}")
    tasks = raw.get("tasks")
    if tasks is not None and not (isinstance(tasks, list) and all(isinstance(task, str) for task in tasks)):
        raise TrustError("`tasks` is no list of names")
    for name in ("policy", "trust", "state", "device_key"):
        if name in raw and not isinstance(raw[name], str):
            raise TrustError(f"`{name}` is no text")
    asked = Policy.of(raw.get("policy"), folder / raw["trust"] if "trust" in raw else None)
    return Policy(
        asked.level,
        asked.trust,
        None if tasks is None else frozenset(tasks),
        (folder / raw.get("state", _STATE),),
        folder / raw["device_key"] if "device_key" in raw else None,
    )
