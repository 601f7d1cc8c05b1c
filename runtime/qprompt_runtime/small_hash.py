"""SHA-256 of little data, from Python itself, in the way that Python's `random` has it.

`hashlib` loads OpenSSL, which takes 4 MB of memory and 4 ms of a start. It is faster for much data.
"""

from __future__ import annotations

import contextlib
import importlib


def sha256(data: bytes) -> bytes:
    """The 32 bytes of a SHA-256."""
    for name in ("_sha2", "_sha256"):  # since Python 3.12, and before
        with contextlib.suppress(ImportError):
            return bytes(importlib.import_module(name).sha256(data).digest())
    import hashlib  # Python was built without its own

    return hashlib.sha256(data).digest()
