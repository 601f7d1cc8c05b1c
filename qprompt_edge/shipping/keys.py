"""Private keys of Ed25519: made, kept in files that only their owner reads, read again."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qprompt_runtime.errors import OutputError, TrustError
from qprompt_runtime.files import write_atomic
from qprompt_runtime.public_keys import NEEDS_EXTRA, PublicKey, public_pem
from qprompt_runtime.text import printable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PUBLIC_ENDING = ".pub"
OWNER_ONLY = 0o600
_FOR_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_MOST_BYTES = 10_000


def make_key(
    out: Path,
    passphrase: bytes | None = None,
    tasks: frozenset[str] | None = None,
    *,
    revokes: bool = False,
) -> PublicKey:
    """Make a key: PKCS#8 in PEM at `out`, for its owner only, and the public key at `out` + `.pub`.

    Args:
        out: Where the private key shall stand.
        passphrase: Encrypts it; None: it is not encrypted.
        tasks: What the public key says it may sign; None: everything.
        revokes: Whether it says that it may sign revocation lists.

    Returns:
        The public key.

    Raises:
        OutputError: One of the files is there already, or cannot be written.
        TrustError: `cryptography` is not installed.
    """
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise TrustError(NEEDS_EXTRA) from error
    public_place = out.with_name(out.name + PUBLIC_ENDING)
    for place in (out, public_place):
        if os.path.lexists(place):
            raise OutputError(
                f"{printable(place)} is there already; a key is never written over: choose another --out"
            )
    private = Ed25519PrivateKey.generate()
    sealed = (
        serialization.NoEncryption()
        if passphrase is None
        else serialization.BestAvailableEncryption(passphrase)
    )
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed)
    public = PublicKey(private.public_key().public_bytes_raw(), tasks, revokes)
    write_atomic(out, pem, OWNER_ONLY)
    write_atomic(public_place, public_pem(public).encode())
    return public


def read_key(path: Path, passphrase: Callable[[], bytes]) -> Ed25519PrivateKey:
    """Read a private key.

    Args:
        path: Its file.
        passphrase: Gives its passphrase; called only if the key is encrypted.

    Raises:
        TrustError: It cannot be read or decrypted, others may read it, it is of another kind, or
            `cryptography` is not installed.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise TrustError(NEEDS_EXTRA) from error
    shown = printable(path)
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            pem = file.read(_MOST_BYTES)
    except OSError as error:
        raise TrustError(f"the key {shown} cannot be read: {error.strerror or error}") from error
    if stat.S_ISREG(mode) and mode & _FOR_OTHERS:
        raise TrustError(
            f"the key {shown} can be read or written by others (mode {mode & 0o777:o}); chmod 600 it first"
        )
    encrypted = b"ENCRYPTED" in pem
    try:
        key = load_pem_private_key(pem, passphrase() if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        what = (
            "the passphrase is wrong, or the file is damaged"
            if encrypted
            else "it is no private key in PEM (PKCS#8)"
        )
        raise TrustError(f"the key {shown} cannot be used: {what}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise TrustError(
            f"the key {shown} is not of Ed25519, the only kind that signs prompts; make one with keygen"
        )
    return key
