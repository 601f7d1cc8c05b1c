"""Addresses of cameras and receivers, as messages and answers show them."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from qprompt_runtime.text import printable


def without_password(address: str) -> str:
    """An address without user, password and query, which often holds a key."""
    try:
        parts = urlsplit(address)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:  # not even an address
        return printable(address.rpartition("@")[2])
    return printable(urlunsplit((parts.scheme, host, parts.path, "", "")))
