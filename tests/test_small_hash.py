"""SHA-256 without OpenSSL."""

from __future__ import annotations

import hashlib
import sys

import pytest

from qprompt_runtime.small_hash import sha256


@pytest.mark.parametrize("data", [b"", b"abc", bytes(range(256)) * 40])
def test_the_same_as_of_hashlib(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = hashlib.sha256(data).digest()
    assert sha256(data) == expected
    for name in ("_sha2", "_sha256"):  # a Python built without them
        monkeypatch.setitem(sys.modules, name, None)
    assert sha256(data) == expected
