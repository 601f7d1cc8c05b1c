"""Keys on the command line: their passphrases, and the signature of what a command makes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qprompt_edge.cli.output import say
from qprompt_runtime.errors import TrustError
from qprompt_runtime.policy import ENFORCE, Policy, in_force

if TYPE_CHECKING:
    from qprompt_runtime.cose_sign1 import Claims

PASSPHRASE = "QPE_PASSPHRASE"


def passphrase() -> bytes:
    """The passphrase of a key: from the environment, or asked for on the terminal.

    Raises:
        TrustError: There is neither.
    """
    named = os.environ.get(PASSPHRASE)
    if named:
        return named.encode()
    if not sys.stdin.isatty():
        raise TrustError(
            f"the key has a passphrase: set {PASSPHRASE}, or run this on a terminal to be asked for it"
        )
    from getpass import getpass

    return getpass("Passphrase of the key: ").encode()


def new_passphrase() -> bytes:
    """A passphrase for a new key, asked for twice on a terminal.

    Raises:
        TrustError: There is none, or the two are not the same.
    """
    chosen = passphrase()
    if not os.environ.get(PASSPHRASE):
        from getpass import getpass

        if getpass("The same again: ").encode() != chosen:
            raise TrustError("the two passphrases are not the same")
    if not chosen:
        raise TrustError("the passphrase is empty")
    return chosen


def seal_for(
    key: Path | None, task: str | None, before: Claims | None, policy: Policy
) -> Callable[[bytes], bytes] | None:
    """What signs the prompt that a command makes; None, with a message under `enforce`, without a key.

    Args:
        key: The option `--key`.
        task: The option `--task`.
        before: What the signer of the prompt said that it is made of.
        policy: What the options ask for.

    Raises:
        TrustError: The key cannot be used, or nothing says what the task is.
    """
    rules = in_force().tightened(policy)
    if key is None and rules.device_key is None and task is None:
        if rules.level == ENFORCE:
            say(
                "the prompt will not be signed, and the policy is `enforce`: to have it loaded, sign it, or give --key"
            )
        return None
    from qprompt_edge.shipping.device import device_seal

    return device_seal(key, task, before, passphrase)
