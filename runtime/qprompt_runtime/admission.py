"""Whether a file may be loaded on this device: the one function that every reader of prompts goes through.

Unsigned files are let through under `off` after two looks, at the policy file and at their first bytes. What
is checked otherwise is in `trust_checks`, which is imported only then, so that starting takes no longer
without a policy.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

from qprompt_runtime.errors import TrustError, TrustWarning
from qprompt_runtime.policy import ENFORCE, OFF, Policy, in_force

_SIGNED = b"\xd2\x84"
"""How a signed message begins: `cose_sign1.MARK`, without importing it."""


def admitted(data: bytes, policy: Policy | None = None) -> bytes:
    """The prompt's own bytes out of a file's, if the policy lets them be loaded.

    Args:
        data: The content of a prompt file, signed or not.
        policy: What the caller asks for beside what the device says.

    Raises:
        TrustError: A signed file breaks its format, or the policy is `enforce` and the file does not pass.
    """
    rules = in_force().tightened(policy)
    if rules.level != OFF:
        from qprompt_runtime.trust_checks import check_prompt

        _under(rules, lambda: check_prompt(data, rules))
    return unwrapped(data)


def unwrapped(data: bytes) -> bytes:
    """The prompt's own bytes out of a file's, whoever signed it.

    Raises:
        TrustError: A signed file breaks its format.
    """
    if not data.startswith(_SIGNED):
        return data
    from qprompt_runtime.cose_sign1 import SignedMessage
    from qprompt_runtime.trust_checks import payload_of

    return payload_of(SignedMessage.from_bytes(data))


def used(data: bytes, policy: Policy | None = None) -> None:
    """Note that an admitted prompt answers questions from now on: older ones of its task are refused then.

    Args:
        data: The content of the prompt file.
        policy: As it was admitted with.

    Raises:
        TrustError: The policy is `enforce`, and it would not be admitted any more or cannot be noted.
    """
    rules = in_force().tightened(policy)
    if rules.level != OFF:
        from qprompt_runtime.trust_checks import check_prompt

        try:
            check_prompt(data, rules, use=True)
        except TrustError:
            if rules.level == ENFORCE:
                raise  # under `warn` it was said before


@dataclass(frozen=True)
class Lapse:
    """Why a prompt that is in use would not pass any more.

    Attributes:
        reason: What is wrong with it.
        stops: Whether it may not be used on, since the policy is `enforce`.
    """

    reason: str
    stops: bool


def lapsed(data: bytes, policy: Policy | None = None) -> Lapse | None:
    """Whether a prompt in use has expired since it was admitted, or its key is not trusted any more.

    Args:
        data: The content of the prompt file.
        policy: As it was admitted with.
    """
    stops = True  # also if the policy cannot be read
    try:
        rules = in_force().tightened(policy)
        stops = rules.level == ENFORCE
        if rules.level != OFF:
            from qprompt_runtime.trust_checks import check_again

            check_again(data, rules)
    except TrustError as error:
        return Lapse(str(error), stops)
    return None


def restore(data: bytes, digests: tuple[str, ...], policy: Policy | None = None) -> None:
    """Let only these older files than the newest one of a prompt's task be used: what rollback puts back.

    Args:
        data: The content of the prompt file that runs.
        digests: Hexadecimal SHA-256 of the older files.
        policy: What the caller asks for beside what the device says.

    Raises:
        TrustError: The policy is `enforce`, and it cannot be noted.
    """
    rules = in_force().tightened(policy)
    if rules.level != OFF:
        from qprompt_runtime.trust_checks import put_back

        _under(rules, lambda: put_back(data, digests, rules))


def check_manifest(manifest: bytes, signature: bytes | None, policy: Policy | None = None) -> None:
    """Refuse a bundle's manifest whose detached signature does not pass the policy.

    Args:
        manifest: The bytes of `manifest.json`.
        signature: The bytes of `manifest.json.sig`; None if there are none.
        policy: What the caller asks for beside what the device says.

    Raises:
        TrustError: The policy is `enforce` and it does not pass.
    """
    rules = in_force().tightened(policy)
    if rules.level != OFF:
        from qprompt_runtime.trust_checks import check_detached

        _under(rules, lambda: check_detached(manifest, signature, rules))


def _under(rules: Policy, check: Callable[[], None]) -> None:
    """Run a check whose failure is an error under `enforce`, and a warning under `warn`."""
    try:
        check()
    except TrustError as error:
        if rules.level == ENFORCE:
            raise
        warnings.warn(
            f"{error}; it is used nevertheless, as the policy is `warn`", TrustWarning, stacklevel=2
        )
