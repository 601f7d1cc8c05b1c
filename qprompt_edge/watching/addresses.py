"""Addresses of cameras, receivers and servers: how they are shown, and whether they are this machine's."""

from __future__ import annotations

import ipaddress
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


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
