"""Which broker: an address such as `mqtts://broker.lan:8883/line/belt`, and a login from a file.

A user and a password on the command line could be read by everyone on the machine, and would end in the
shell's history and the service's log; so an address that has them is refused.
"""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from qprompt_runtime.errors import QPromptError
from qprompt_runtime.text import printable

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_EXAMPLE = "mqtt://broker.lan:1883/belt"
_MOST_PREFIX = 200
_MOST_LOGIN = 4096


class BrokerError(QPromptError):
    """A login file or a certificate for an MQTT broker is not as it should be."""


@dataclass(frozen=True)
class Broker:
    """Where a broker is, and below which topic this device speaks.

    Attributes:
        host: Name or address.
        port: 1 to 65535.
        tls: Whether the connection is encrypted.
        prefix: The topic above all others, without a slash at its ends.
    """

    host: str
    port: int
    tls: bool
    prefix: str

    def __str__(self) -> str:
        return f"{printable(self.host)}:{self.port}"


def broker(address: str) -> Broker:
    """Read an address: `mqtt://` or `mqtts://` (TLS), host, port, and the prefix of topics.

    The port may be left out if it is 1883, or 8883 with TLS. Without a prefix it is `qprompt-edge/` and the
    name of this machine.

    Raises:
        ValueError: It is none, or it holds a password.
    """
    if "@" in address:
        raise ValueError(
            "an MQTT address must not hold a user or a password, which others could read there; put them into "
            "a file, the user on its first line and the password on its second, and give it as --mqtt-login "
            "FILE"
        )
    shown = printable(address)
    try:
        parts = urlsplit(address)
        port, host = parts.port, parts.hostname or ""
    except ValueError as error:
        raise ValueError(
            f"{shown!r} is no address of an MQTT broker ({error}); give it as {_EXAMPLE}"
        ) from None
    if parts.scheme not in _PORTS or not host or parts.query or parts.fragment or port == 0:
        raise ValueError(
            f"{shown!r} is no address of an MQTT broker; give it as {_EXAMPLE}, or mqtts:// for TLS"
        )
    try:
        host.encode("idna")
    except UnicodeError:
        raise ValueError(f"{printable(host)!r} cannot be the name of a machine; give the broker's") from None
    prefix = unquote(parts.path).strip("/") or f"qprompt-edge/{topic_part(socket.gethostname())}"
    _check_prefix(prefix)
    return Broker(host, port or _PORTS[parts.scheme], parts.scheme == "mqtts", prefix)


def topic_part(name: str) -> str:
    """A name as one level of a topic: what MQTT or people would stumble over becomes `_`."""
    return re.sub(r"[^\w.-]", "_", name) or "_"


def _check_prefix(prefix: str) -> None:
    wrong = any(sign in prefix for sign in "+#") or not prefix.isprintable() or prefix.startswith("$")
    if wrong or "" in prefix.split("/") or len(prefix.encode()) > _MOST_PREFIX:
        raise ValueError(
            f"{printable(prefix)!r} cannot begin an MQTT topic: no +, # or empty part, no $ first, at most "
            f"{_MOST_PREFIX} bytes; for instance line/belt"
        )


def read_login(path: Path) -> tuple[str, str]:
    """User and password from a file: the user on the first line, the password on the second.

    Raises:
        BrokerError: The file cannot be read, or holds something else.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_LOGIN + 1).decode("utf-8")
    except OSError as error:
        raise BrokerError(f"cannot read the login {path}: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise BrokerError(f"the login {path} is not UTF-8 text") from None
    lines = text.removesuffix("\n").splitlines()
    if len(lines) != 2 or not lines[0] or len(text) > _MOST_LOGIN:
        raise BrokerError(
            f"the login {path} has {len(lines)} lines; expected two, the user and below it the password"
        )
    return lines[0], lines[1]


def encryption(authority: Path | None) -> ssl.SSLContext:
    """How TLS trusts a server: by the system's authorities, or by one's own.

    Args:
        authority: A file in PEM with the certificate of the authority that signed the server's; None takes
            the system's.

    Raises:
        BrokerError: The file cannot be read, or holds no certificate.
    """
    try:
        return ssl.create_default_context(cafile=authority)
    except ssl.SSLError as error:
        raise BrokerError(
            f"{authority} holds no certificate in PEM ({error.reason or error}); give the certificate of "
            "the authority that signed the server's"
        ) from error
    except OSError as error:
        raise BrokerError(f"cannot read the certificate {authority}: {error.strerror or error}") from error
