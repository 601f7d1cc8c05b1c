"""Keys, claims and signed prompts that the tests of signatures share."""

import functools
from dataclasses import replace
from pathlib import Path

import pytest
from prompts import FULL, TINY

pytest.importorskip("cryptography")

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from qprompt_edge.shipping.signing import public_of, sign_prompt
from qprompt_runtime.cose_sign1 import Claims
from qprompt_runtime.public_keys import PublicKey, public_pem

SECRET = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
"""Of RFC 8032, section 7.1, test 1."""
ISSUED, EXPIRES = 1767225600, 1798761600  # the first days of 2026 and 2027
CLAIMS = Claims("belt", 7, ISSUED, EXPIRES)
PROMPT_BYTES, OTHER_BYTES = TINY.to_bytes(), FULL.to_bytes()


@functools.cache
def key(number: int = 0) -> Ed25519PrivateKey:
    """A private key; 0 is that of the RFC."""
    secret = SECRET if number == 0 else bytes([number]) * 32
    return Ed25519PrivateKey.from_private_bytes(secret)


def public(number: int = 0, tasks: set[str] | None = None, *, revokes: bool = False) -> PublicKey:
    """The public key of `key(number)`."""
    return replace(public_of(key(number)), tasks=None if tasks is None else frozenset(tasks), revokes=revokes)


def signed(number: int = 0, content: bytes = PROMPT_BYTES, **changes: object) -> bytes:
    """A prompt signed with `key(number)`; the changes are to `CLAIMS`."""
    return sign_prompt(content, key(number), replace(CLAIMS, **changes))


def write_public(
    path: Path, number: int = 0, tasks: set[str] | None = None, *, revokes: bool = False
) -> Path:
    """Write a public key, and return its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(public_pem(public(number, tasks, revokes=revokes)), encoding="utf-8")
    return path
