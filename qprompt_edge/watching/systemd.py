"""What systemd wants to know of a service: that it is ready, alive, and what it does (sd_notify(3)).

A datagram to the socket that `NOTIFY_SOCKET` names is all there is to it; without that variable nothing is
sent.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping

from qprompt_edge.watching.answers import Answer, Sink
from qprompt_edge.watching.frames import Frame
from qprompt_runtime.text import printable

_SHARE = 0.4
"""Of the time after which systemd ends a silent service."""


class Systemd(Sink):
    """Tells systemd how the service is, if it is one: `systemctl status` shows the last change."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address  # an abstract socket
        self._interval = _watchdog_seconds()
        self._due = 0.0

    def say(self, *assignments: str) -> None:
        """Send assignments such as `READY=1` or `STATUS=...`, each without a line break."""
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
            door.setblocking(False)
            door.sendto("\n".join(assignments).encode(errors="replace"), self._address)

    def ready(self, prompts: Mapping[str, tuple[str, ...]], regions: tuple[str, ...], source: str) -> None:
        """The service does its work."""
        self.say("READY=1", f"STATUS=watching {source}")

    def answer(self, answer: Answer, frame: Frame) -> None:
        """Show a change."""
        if answer.changed:
            self.say(f"STATUS={printable(f'{answer.region}, {answer.prompt}: {answer.state}')}")

    def present(self, here: bool, reason: str) -> None:
        """Show that the source is lost, or back."""
        self.say(f"STATUS={'the source is back' if here else f'lost: {printable(reason)}'}")

    def withdrawn(self, prompts: Mapping[str, str]) -> None:
        """Show that a prompt gives no answers."""
        self.say(f"STATUS={printable('; '.join(prompts.values()) or 'all prompts give answers again')}")

    def close(self) -> None:
        """The service ends, as it should."""
        self.say("STOPPING=1")

    def alive(self) -> None:
        """Feed the watchdog, where there is one and it is time; cheap enough for every frame."""
        if self._interval is None or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + self._interval
        self.say("WATCHDOG=1")


def _watchdog_seconds() -> float | None:
    """How often the watchdog wants to be fed; None if there is none for this process."""
    microseconds, process = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or int(microseconds) == 0 or process not in ("", str(os.getpid())):
        return None
    return _SHARE * int(microseconds) / 1e6
