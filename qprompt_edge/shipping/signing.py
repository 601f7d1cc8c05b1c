"""Signatures around prompts, beside manifests, around revocation lists."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from qprompt_runtime.cose_sign1 import (
    MANIFEST,
    PROMPT,
    REVOCATIONS,
    Claims,
    SignedMessage,
    is_signed,
    to_be_signed,
)
from qprompt_runtime.public_keys import PublicKey
from qprompt_runtime.trust_store import revocation_payload

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def sign_prompt(content: bytes, key: Ed25519PrivateKey, claims: Claims) -> bytes:
    """A signed prompt: the message around a prompt file's bytes.

    Args:
        content: A prompt file's bytes; of a signed one, the prompt in it is signed anew.
        key: The signer's.
        claims: What the signer says.
    """
    message = SignedMessage.from_bytes(content) if is_signed(content) else None
    payload = content if message is None or message.payload is None else message.payload
    return _message(payload, key, claims, PROMPT).to_bytes()


def sign_manifest(manifest: bytes, key: Ed25519PrivateKey, claims: Claims) -> bytes:
    """The detached signature over a bundle's manifest."""
    return replace(_message(manifest, key, claims, MANIFEST), payload=None).to_bytes()


def sign_revocations(key_ids: Iterable[bytes], key: Ed25519PrivateKey, claims: Claims) -> bytes:
    """A revocation list."""
    return _message(revocation_payload(key_ids), key, claims, REVOCATIONS).to_bytes()


def public_of(key: Ed25519PrivateKey) -> PublicKey:
    """The public key that belongs to a private one; what it may sign is not said."""
    return PublicKey(key.public_key().public_bytes_raw())


def _message(payload: bytes, key: Ed25519PrivateKey, claims: Claims, purpose: bytes) -> SignedMessage:
    key_id = public_of(key).key_id
    signature = key.sign(to_be_signed(key_id, claims, payload, purpose))
    return SignedMessage(key_id, claims, payload, signature)
