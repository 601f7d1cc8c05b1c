"""Prompts that are made on a device, signed by its own key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qprompt_edge.shipping.keys import read_key
from qprompt_edge.shipping.signing import sign_prompt
from qprompt_runtime.accepted import Accepted, clock, locked, read_accepted
from qprompt_runtime.cose_sign1 import Claims, check_task
from qprompt_runtime.errors import TrustError
from qprompt_runtime.policy import Policy, in_force

Seal = Callable[[bytes], bytes]
"""Turns a prompt file's bytes into those of a signed one."""


def device_seal(
    key: Path | None,
    task: str | None,
    before: Claims | None,
    passphrase: Callable[[], bytes],
    otherwise: str | None = None,
) -> Seal | None:
    """What signs a prompt that is made here; None if no key was named.

    The key and the task are looked at now, before hours of work depend on them.

    Args:
        key: The private key; None: the one that the policy file names as `device_key`.
        task: What the prompt is for; None: what the prompt was for that it is made of, or the only task of
            the policy file.
        before: What the signer of that prompt said; None if it was not signed, or there is none.
        passphrase: Gives the key's passphrase, if it has one.
        otherwise: The task if nothing else says what it is.

    Raises:
        TrustError: The key cannot be used, or nothing says what the task is.
    """
    rules = in_force()
    place = key or rules.device_key
    if place is None:
        if task is not None:
            raise TrustError(f"--task {task!r:.80} is for a prompt that is signed: give --key too")
        return None
    private = read_key(place, passphrase)
    only = next(iter(rules.tasks)) if rules.tasks is not None and len(rules.tasks) == 1 else None
    chosen = task or (None if before is None else before.task) or only or otherwise
    if chosen is None:
        raise TrustError(
            f"the prompt is to be signed with {place}, but nothing says for which task: give --task NAME"
        )
    check_task(chosen)
    least = before.sequence if before is not None and before.task == chosen else 1

    def seal(content: bytes) -> bytes:
        states = remembered(rules)
        newest = [state.newest(chosen) for state in states]
        issued = max(clock(), *(state.last_seen for state in states), *(it.issued + 1 for it in newest))
        claims = Claims(chosen, max(least, *(it.sequence for it in newest)), issued)
        return sign_prompt(content, private, claims)

    return seal


def remembered(rules: Policy) -> list[Accepted]:
    """What the state files of a policy say.

    Raises:
        TrustError: One cannot be read.
    """
    found = []
    for path in rules.state_files():
        with locked(path):
            found.append(read_accepted(path))
    return found
