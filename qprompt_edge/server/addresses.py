"""The address that the server listens on, and how others reach it."""

from __future__ import annotations

import contextlib
import socket

from qprompt_runtime.errors import OutputError
from qprompt_runtime.text import printable

_ANYWHERE = ("0.0.0.0", "::")


def listener(host: str, port: int) -> socket.socket:
    """The socket to listen on.

    Raises:
        OutputError: The address cannot be listened on.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
    except (OSError, OverflowError) as error:
        raise OutputError(
            f"cannot listen on {printable(host)} port {port}: {getattr(error, 'strerror', None) or error}; choose another --port or --host"
        ) from error
    return found


def shown_address(host: str) -> str:
    """The address that others reach this machine by, as far as it can be told without asking anybody."""
    if host not in _ANYWHERE:
        return host
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # a reserved address; nothing is sent, the system only chooses a route
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return socket.gethostname()
