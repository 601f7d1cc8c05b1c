"""What a policy checks in a signed file: its signer, its task, its age, its place in the order.

`docs/signing.md` lists the checks in this order. Everything here reads the state files under a lock, since
what is used moves them on.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from qprompt_runtime.accepted import TIME_STEP, Accepted, Newest, clock, locked, read_accepted, write_accepted
from qprompt_runtime.cose_sign1 import MANIFEST, PROMPT, Claims, SignedMessage, claims_in, is_signed
from qprompt_runtime.errors import OlderPromptError, TrustError, WrongTaskError
from qprompt_runtime.policy import Policy
from qprompt_runtime.public_keys import PublicKey
from qprompt_runtime.small_hash import sha256
from qprompt_runtime.text import printable
from qprompt_runtime.trust_store import TrustStore, read_store

_RARELY = 3600
"""Seconds after which the time is written while a prompt is only used on: a flash card wears."""
BACKBONE_TASK = "backbone"
"""The task of signatures over a bundle's manifest."""


def check_prompt(data: bytes, rules: Policy, *, use: bool = False) -> None:
    """Check the content of a prompt file.

    Args:
        data: The content.
        rules: What holds; not `off`.
        use: Whether it becomes the newest prompt that was used here.

    Raises:
        TrustError: It does not pass.
    """
    if not is_signed(data):
        raise TrustError("the prompt is not signed, and the policy asks for signed ones")
    signed = SignedMessage.from_bytes(data)
    with ExitStack() as held:
        states = _Remembered(rules, held)
        _check_signer(signed, payload_of(signed), PROMPT, states.store)
        _check_task(signed.claims, rules.tasks)
        states.check_time(signed.claims)
        states.check_order(signed.claims, sha256(data).hex(), use)


def check_again(data: bytes, rules: Policy) -> None:
    """Check a prompt that is in use: its signer, its task and its expiry, not its place in the order.

    Args:
        data: The content of its file.
        rules: What holds now; not `off`.

    Raises:
        TrustError: It does not pass any more.
    """
    if not is_signed(data):
        raise TrustError("the prompt is not signed, and the policy asks for signed ones")
    signed = SignedMessage.from_bytes(data)
    with ExitStack() as held:
        states = _Remembered(rules, held)
        _check_signer(signed, payload_of(signed), PROMPT, states.store)
        _check_task(signed.claims, rules.tasks)
        states.check_time(signed.claims, _RARELY)


def check_detached(manifest: bytes, signature: bytes | None, rules: Policy) -> None:
    """Check the signature beside a bundle's manifest.

    Args:
        manifest: The bytes of `manifest.json`.
        signature: Those of `manifest.json.sig`; None if there is none.
        rules: What holds; not `off`.

    Raises:
        TrustError: It does not pass.
    """
    with ExitStack() as held:
        states = _Remembered(rules, held)
        states.check_time(_check_detached(manifest, signature, states.store).claims)


def check_detached_signature(
    manifest: bytes, signature: bytes | None, store: TrustStore, task: str | None = None
) -> SignedMessage:
    """Check the signature beside a bundle's manifest by a store alone; as `check_signature`."""
    signed = _check_detached(manifest, signature, store)
    _check_task(signed.claims, None if task is None else frozenset((task,)))
    _check_expiry(signed.claims, clock())
    return signed


def _check_detached(manifest: bytes, signature: bytes | None, store: TrustStore) -> SignedMessage:
    if signature is None:
        raise TrustError(
            "the bundle is not signed, and the policy asks for signed ones: manifest.json.sig is missing"
        )
    message = SignedMessage.from_bytes(signature)
    if message.payload is not None or message.claims.task != BACKBONE_TASK:
        raise TrustError(f"manifest.json.sig is no detached signature for the task {BACKBONE_TASK!r}")
    _check_signer(message, manifest, MANIFEST, store)
    return message


def check_signature(data: bytes, store: TrustStore, task: str | None = None) -> SignedMessage:
    """Check a signed prompt by a store alone, without the policy and the memory of this device.

    Args:
        data: The file's content.
        store: The keys that count.
        task: What it shall be for; None: whatever its signer may sign.

    Raises:
        TrustError: It is not signed, altered, expired by the clock, or not by such a key.
    """
    if not is_signed(data):
        raise TrustError("it is not signed")
    signed = SignedMessage.from_bytes(data)
    _check_signer(signed, payload_of(signed), PROMPT, store)
    _check_task(signed.claims, None if task is None else frozenset((task,)))
    _check_expiry(signed.claims, clock())
    return signed


def shown_time(seconds: int) -> str:
    """A time as people read it."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def payload_of(signed: SignedMessage) -> bytes:
    """What a message was signed around.

    Raises:
        TrustError: It is a detached signature.
    """
    if signed.payload is None:
        raise TrustError("the file is a signature without what it signs; give the signed prompt")
    return signed.payload


def _check_signer(signed: SignedMessage, payload: bytes, purpose: bytes, store: TrustStore) -> PublicKey:
    key = store.signer(signed, payload, purpose)
    if not key.may_sign(signed.claims.task):
        may = ", ".join(map(printable, sorted(key.tasks or ()))) or "nothing"
        raise TrustError(
            f"its signer, the key {key.key_id.hex()}, may not sign for the task {signed.claims.task!r}, only for: {may}"
        )
    return key


def _check_task(claims: Claims, tasks: frozenset[str] | None) -> None:
    if tasks is not None and claims.task not in tasks:
        expected = (
            ", ".join(map(printable, sorted(tasks))) or "none, as those that name tasks name different ones"
        )
        raise WrongTaskError(f"it was signed for the task {claims.task!r}, expected: {expected}")


def _check_expiry(claims: Claims, now: int) -> None:
    if claims.expires is not None and now >= claims.expires:
        raise TrustError(
            f"it expired at {shown_time(claims.expires)}, and it is {shown_time(now)}; get a newer one"
        )


def put_back(data: bytes, digests: tuple[str, ...], rules: Policy) -> None:
    """Note in every state file which older files of a signed prompt's task may be used too.

    Args:
        data: The content of the prompt file that names the task.
        digests: Hexadecimal SHA-256 of the older files.
        rules: What holds; not `off`.

    Raises:
        TrustError: It cannot be noted.
    """
    claims = claims_in(data)
    if claims is None:
        return
    for path in rules.state_files():
        with locked(path):
            state = read_accepted(path)
            newest = state.newest(claims.task)
            if newest.restored != digests:
                write_accepted(path, state.with_newest(claims.task, replace(newest, restored=digests)))


class _Remembered:
    """The state files that a policy names, locked until the check is over, and the trust store."""

    def __init__(self, rules: Policy, held: ExitStack) -> None:
        if not rules.trust:
            raise TrustError(
                f"the policy is `{rules.level}`, but no key is trusted: name a public key or a folder of them with --trust, "
                "QPE_TRUST, or in the policy file"
            )
        self._states: dict[Path, Accepted] = {}
        for path in rules.state_files():
            held.enter_context(locked(path))
            self._states[path] = read_accepted(path)
        known = {bytes.fromhex(key) for state in self._states.values() for key in state.revoked}
        self.store = read_store(rules.trust, known)
        revoked = frozenset(key.hex() for key in self.store.revoked)
        self._write({path: replace(state, revoked=revoked) for path, state in self._states.items()})

    def check_time(self, claims: Claims, step: int = TIME_STEP) -> None:
        """Refuse what has expired, by the later of the clock and the latest time seen.

        The time is written when it has moved by `step` seconds, or makes something expire.
        """
        now = max(clock(), *(state.last_seen for state in self._states.values()))
        gone = claims.expires is not None and now >= claims.expires
        self._write({path: state.at(now, 1 if gone else step) for path, state in self._states.items()})
        _check_expiry(claims, now)

    def check_order(self, claims: Claims, digest: str, use: bool) -> None:
        """Refuse what is older than what was used here; what is used becomes the newest.

        Raises:
            OlderPromptError: It is older.
            TrustError: What is used cannot be noted.
        """
        for state in self._states.values():
            newest = state.newest(claims.task)
            if newest.is_newer_than(claims) and digest not in newest.restored:
                raise OlderPromptError(
                    f"it is older than what was used here: sequence {claims.sequence} of {shown_time(claims.issued)}, while "
                    f"sequence {newest.sequence} of {shown_time(newest.issued)} was used for {claims.task!r}"
                )
        if use:
            self._write({path: _used(state, claims) for path, state in self._states.items()})

    def _write(self, changed: dict[Path, Accepted]) -> None:
        for path, state in changed.items():
            if state != self._states[path]:
                write_accepted(path, state)
                self._states[path] = state


def _used(state: Accepted, claims: Claims) -> Accepted:
    newest = state.newest(claims.task)
    if (claims.sequence, claims.issued) <= (newest.sequence, newest.issued):
        return state
    return state.with_newest(claims.task, Newest(claims.sequence, claims.issued))
