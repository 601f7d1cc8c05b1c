"""Public keys of Ed25519: read from PEM, and what each may sign.

The library that checks signatures, `cryptography`, is imported when the first one is checked; reading a key
needs nothing.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path

from qprompt_runtime.cose_sign1 import KEY_ID_BYTES, SignedMessage, check_task, to_be_signed
from qprompt_runtime.errors import TrustError
from qprompt_runtime.small_hash import sha256
from qprompt_runtime.text import printable

SPKI_START = bytes.fromhex("302a300506032b6570032100")
"""SubjectPublicKeyInfo of Ed25519 (RFC 8410) up to the key itself."""
KEY_BYTES = 32
NEEDS_EXTRA = (
    "signatures need the library `cryptography`, which is not installed: pip install 'qprompt-edge[sign]'"
)

_BEGIN, _END = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"
_COSE_KEY_START = bytes.fromhex("a3010120062158") + bytes([KEY_BYTES])  # {1: 1, -1: 6, -2: the key}
_MOST_FILE_BYTES = 10_000


@dataclass(frozen=True)
class PublicKey:
    """A key whose signatures count, and for what.

    Attributes:
        raw: The 32 bytes of the key.
        tasks: What it may sign; None: everything.
        revokes: Whether it may sign revocation lists.
    """

    raw: bytes
    tasks: frozenset[str] | None = None
    revokes: bool = False

    @property
    def key_id(self) -> bytes:
        """8 bytes by which messages name it: the start of its COSE thumbprint (RFC 9679)."""
        return sha256(_COSE_KEY_START + self.raw)[:KEY_ID_BYTES]

    def may_sign(self, task: str) -> bool:
        """Whether a message for this task counts."""
        return self.tasks is None or task in self.tasks

    def signed(self, message: SignedMessage, payload: bytes, purpose: bytes) -> bool:
        """Whether the message's signature over `payload`, for that purpose, is this key's.

        Raises:
            TrustError: The library that can tell is not installed.
        """
        try:
            from cryptography.exceptions import InvalidSignature
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        except ImportError as error:
            raise TrustError(NEEDS_EXTRA) from error
        content = to_be_signed(message.key_id, message.claims, payload, purpose)
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(message.signature, content)
        except InvalidSignature:
            return False
        return True


def read_public_key(path: Path) -> PublicKey:
    """Read a public key, and the lines before it that say what it may do.

    Raises:
        TrustError: The file cannot be read, holds anything else, or a line is not known.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_FILE_BYTES).decode()
    except OSError as error:
        raise TrustError(
            f"the public key {printable(path)} cannot be read: {error.strerror or error}"
        ) from error
    except UnicodeDecodeError as error:
        raise TrustError(f"{printable(path)} is no public key in PEM: it is not text") from error
    if "PRIVATE KEY" in text:
        raise TrustError(
            f"{printable(path)} is a private key, which stays with the signer; give the public one, KEY.pub"
        )
    try:
        return _parse(text)
    except TrustError as error:
        raise TrustError(f"{printable(path)}: {error}") from error


def public_pem(key: PublicKey) -> str:
    """A key as `read_public_key` reads it."""
    lines = [] if key.tasks is None else [f"tasks: {', '.join(sorted(key.tasks))}"]
    lines += ["revokes: yes"] if key.revokes else []
    body = base64.b64encode(SPKI_START + key.raw).decode()
    return "\n".join([*lines, _BEGIN, body, _END, ""])


def _parse(text: str) -> PublicKey:
    before, begin, rest = text.partition(_BEGIN)
    body, end, after = rest.partition(_END)
    if not begin or not end or after.strip():
        raise TrustError("expected one public key in PEM (BEGIN PUBLIC KEY), as keygen writes it")
    try:
        der = base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise TrustError(f"the public key is not base64: {error}") from error
    if not der.startswith(SPKI_START) or len(der) != len(SPKI_START) + KEY_BYTES:
        raise TrustError(
            "the public key is not of Ed25519, the only kind that signs prompts; make one with keygen"
        )
    tasks, revokes = None, False
    for line in filter(None, map(str.strip, before.splitlines())):
        name, _, value = (part.strip() for part in line.partition(":"))
        if name == "tasks" and tasks is None:
            tasks = frozenset(check_task(task.strip()) for task in value.split(","))
        elif name == "revokes" and value in ("yes", "no"):
            revokes = value == "yes"
        elif not line.startswith("#"):
            raise TrustError(f"the line {line!r:.80} is not known; expected `tasks: a, b` or `revokes: yes`")
    return PublicKey(der[len(SPKI_START) :], tasks, revokes)
