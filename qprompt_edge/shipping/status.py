"""What runs in a folder, whether it may be loaded, and what it could be rolled back to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qprompt_edge.shipping.place import (
    RUNNING,
    Record,
    digest_of,
    kept_file,
    read_record,
    running,
    sequence_of,
)
from qprompt_runtime.cose_sign1 import Claims, claims_in
from qprompt_runtime.errors import QPromptError
from qprompt_runtime.policy import Policy, in_force
from qprompt_runtime.prompt_file import PromptFile, prompt_in


@dataclass(frozen=True)
class Status:
    """What runs in a folder.

    Attributes:
        path: The file that runs.
        digest: Hexadecimal SHA-256 of it; None if there is none.
        prompt: What is in it; None if there is none, or it may not or cannot be loaded.
        claims: What its signer says; None if it is not signed.
        error: Why it cannot be loaded; None if it can.
        policy: The policy that holds.
        highest: The highest sequence number that ran.
        before: Digest of what `rollback` would put back; None if there is nothing.
    """

    path: Path
    digest: str | None
    prompt: PromptFile | None
    claims: Claims | None
    error: QPromptError | None
    policy: str
    highest: int
    before: str | None

    def to_json(self) -> dict[str, Any]:
        """The status as `--json` prints it."""
        prompt = self.prompt
        return {
            "path": str(self.path),
            "installed": self.digest is not None,
            "loads": prompt is not None,
            "sha256": self.digest,
            "signed": None if self.claims is None else self.claims.to_json(),
            "classes": None if prompt is None else [name.label for name in prompt.classes],
            "backbone": None
            if prompt is None
            else {"name": prompt.backbone_name, "fingerprint": prompt.fingerprint.hex()},
            "policy": self.policy,
            "highest_sequence": self.highest,
            "rollback_to": self.before,
        } | ({} if self.error is None else {"error": str(self.error)})


def status(folder: Path, policy: Policy | None = None) -> Status:
    """Say what runs in a folder; nothing is changed.

    Args:
        folder: As it was given to `install`.
        policy: What the caller asks for beside what the device's policy says.

    Raises:
        QPromptError: The record of the folder, or the policy, cannot be read.
    """
    level = in_force().tightened(policy).level
    record, content = read_record(folder), running(folder)
    path = folder / RUNNING
    if content is None:
        return Status(path, None, None, None, None, level, record.highest, None)
    prompt, claims, error = None, None, None
    try:
        claims = claims_in(content)
        prompt = prompt_in(content, path, policy)
    except QPromptError as found:
        error = found
    highest = max(record.highest, sequence_of(content))
    before = _before(folder, record, digest_of(content))
    return Status(path, digest_of(content), prompt, claims, error, level, highest, before)


def _before(folder: Path, record: Record, digest: str) -> str | None:
    before = record.before(digest)
    return None if before is None or not kept_file(folder, before.digest).is_file() else before.digest
