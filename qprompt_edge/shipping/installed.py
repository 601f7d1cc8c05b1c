"""What `install` did, and how it refuses: each way has its own exit code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qprompt_edge.evaluation.paired import Comparison
from qprompt_runtime.cose_sign1 import Claims
from qprompt_runtime.errors import QPromptError


class NotNewerError(QPromptError):
    """A prompt is not newer than what was installed."""

    exit_code = 4


class WrongPlaceError(QPromptError):
    """A prompt is for another backbone or another task than this device."""

    exit_code = 5


class WorseError(QPromptError):
    """A prompt is worse than what runs, on this device's own photos."""

    exit_code = 6


@dataclass(frozen=True)
class Installed:
    """What is installed in a folder now.

    Attributes:
        path: The file that runs.
        digest: Hexadecimal SHA-256 of it.
        claims: What its signer says; None if it is not signed.
        before: Digest of what ran before; None if nothing did.
        comparison: What it changed on canary photos; None if it was not tried.
        canaries: How many photos that were.
    """

    path: Path
    digest: str
    claims: Claims | None
    before: str | None
    comparison: Comparison | None = None
    canaries: int = 0

    def to_json(self) -> dict[str, Any]:
        """The result as `--json` prints it."""
        change = self.comparison
        return {
            "path": str(self.path),
            "sha256": self.digest,
            "signed": None if self.claims is None else self.claims.to_json(),
            "before": self.before,
            "canaries": None
            if change is None
            else {
                "photos": self.canaries,
                "difference": change.difference,
                "interval": change.interval,
                "p": change.p,
            },
        }
