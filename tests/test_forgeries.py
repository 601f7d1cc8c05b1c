"""Nothing that is not signed as the policy asks is loaded: every forgery that we know, 0 accepted."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from signatures import (
    CLAIMS,
    ISSUED,
    OTHER_BYTES,
    PROMPT_BYTES,
    key,
    public,
    signed,
    write_public,
)

from qprompt_edge.shipping.signing import sign_manifest, sign_prompt, sign_revocations
from qprompt_runtime import accepted
from qprompt_runtime.cose_sign1 import MANIFEST, REVOCATIONS, SignedMessage, to_be_signed
from qprompt_runtime.errors import TrustError
from qprompt_runtime.policy import Policy
from qprompt_runtime.prompt_file import PromptFile

GENUINE = signed()
OTHER = signed(content=OTHER_BYTES)


@pytest.fixture(autouse=True)
def at_a_fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepted.time, "time", lambda: ISSUED + 1000.0)


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    write_public(tmp_path / "keys" / "vendor.pub", 0, {"belt"})
    write_public(tmp_path / "keys" / "door.pub", 1, {"door"})
    return Policy.of("enforce", tmp_path / "keys", "belt")


def made(number: int = 0, **parts: object) -> bytes:
    """The genuine message with parts replaced, not signed again."""
    return replace(SignedMessage.from_bytes(GENUINE), **parts).to_bytes()


def resigned(number: int, purpose: bytes, payload: bytes = PROMPT_BYTES) -> bytes:
    """The genuine message signed by another key or for another purpose, under the genuine key's id."""
    message = SignedMessage.from_bytes(GENUINE)
    signature = key(number).sign(to_be_signed(message.key_id, message.claims, payload, purpose))
    return replace(message, signature=signature, payload=payload).to_bytes()


def flipped(data: bytes) -> Iterator[bytes]:
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def others() -> dict[str, bytes]:
    """Forgeries by name."""
    ours, theirs = SignedMessage.from_bytes(GENUINE), SignedMessage.from_bytes(OTHER)
    order = (
        2**252 + 27742317777372353535851937790883648493
    )  # of Ed25519's group: s and s + order say the same
    scalar = int.from_bytes(ours.signature[32:], "little") + order
    return {
        "stripped": PROMPT_BYTES,
        "another prompt, not signed": OTHER_BYTES,
        "the signature behind the prompt": PROMPT_BYTES + GENUINE,
        "the prompt behind the signature": GENUINE + PROMPT_BYTES,
        "doubled": GENUINE + GENUINE,
        "signed around a signed prompt": sign_around(GENUINE),
        "the signature of another prompt": made(signature=theirs.signature),
        "the payload of another prompt": made(payload=OTHER_BYTES),
        "no signature": made(signature=b""),
        "a signature of zeros": made(signature=bytes(64)),
        "a signature twice as long": made(signature=ours.signature * 2),
        "the same signature in another form": made(
            signature=ours.signature[:32] + scalar.to_bytes(32, "little")
        ),
        "the halves of the signature swapped": made(signature=ours.signature[32:] + ours.signature[:32]),
        "an unknown key": signed(2),
        "an unknown key under a known id": resigned(2, b""),
        "another key's id": made(key_id=public(1).key_id),
        "an unknown key's id": made(key_id=public(2).key_id),
        "a key for another task": signed(1),
        "a key for another task under a known id": resigned(1, b""),
        "another task, by the key for it": signed(1, task="door"),
        "another task, by the key for ours": signed(task="door"),
        "another task written over": made(claims=replace(CLAIMS, task="door")),
        "a longer life written over": made(claims=replace(CLAIMS, expires=None)),
        "a higher sequence written over": made(claims=replace(CLAIMS, sequence=8)),
        "a later issue written over": made(claims=replace(CLAIMS, issued=ISSUED + 1)),
        "expired": signed(expires=ISSUED + 1000),
        "a manifest's signature": resigned(0, MANIFEST),
        "a revocation list's signature": resigned(0, REVOCATIONS),
        "a revocation list": sign_revocations([public(1).key_id], key(), CLAIMS),
        "a manifest's detached signature": sign_manifest(PROMPT_BYTES, key(), CLAIMS),
        "a detached signature and the prompt": made(payload=None) + PROMPT_BYTES,
        "the hash of the payload signed": resigned_hash(),
        "without Sig_structure": made(signature=key().sign(PROMPT_BYTES)),
        "nothing": b"",
    }


def sign_around(content: bytes) -> bytes:
    """A signature around bytes that are no prompt file but a signed one."""
    message = SignedMessage.from_bytes(GENUINE)
    return replace(message, payload=content).to_bytes()


def resigned_hash() -> bytes:
    import hashlib

    message = SignedMessage.from_bytes(GENUINE)
    content = to_be_signed(message.key_id, message.claims, hashlib.sha256(PROMPT_BYTES).digest(), b"")
    return replace(message, signature=key().sign(content)).to_bytes()


def test_the_genuine_prompt_is_loaded(policy: Policy) -> None:
    assert PromptFile.from_bytes(GENUINE, policy).to_bytes() == PROMPT_BYTES


@pytest.mark.parametrize("name", others())
def test_a_forgery_is_not_loaded(name: str, policy: Policy) -> None:
    with pytest.raises(TrustError):
        PromptFile.from_bytes(others()[name], policy)


def test_no_flipped_bit_is_accepted(policy: Policy) -> None:
    accepted_forgeries = 0
    for data in flipped(GENUINE):
        try:
            PromptFile.from_bytes(data, policy)
        except TrustError:
            continue
        accepted_forgeries += 1
    assert accepted_forgeries == 0


def test_no_other_algorithm_is_accepted_with_the_public_key_as_its_secret(policy: Policy) -> None:
    import hashlib
    import hmac

    message = SignedMessage.from_bytes(GENUINE)
    content = to_be_signed(message.key_id, message.claims, PROMPT_BYTES, b"")
    tag = hmac.new(public().raw, content.replace(b"Signature1", b"MAC0"), hashlib.sha256).digest()
    for algorithm in ("05", "04", "26", "32", "3834"):  # HMAC 256/256, 256/64, ES256, Ed25519, Ed448
        data = GENUINE.replace(bytes.fromhex("a30127"), bytes.fromhex("a301" + algorithm), 1)
        data = data[:-64] + tag + tag if algorithm in ("05", "04") else data
        with pytest.raises(TrustError):
            PromptFile.from_bytes(data, policy)


def test_signed_bytes_that_are_no_prompt_are_an_error_of_the_prompt(policy: Policy) -> None:
    from qprompt_runtime.errors import PromptFileError

    with pytest.raises(PromptFileError, match="no prompt file"):
        PromptFile.from_bytes(sign_prompt(b"no prompt", key(), CLAIMS), policy)
