"""Where a prompt comes from: a file, a folder, an HTTP(S) address, or the retained message of an MQTT topic.

What comes is not trusted: it is limited in size and time here, and whether it may run, `install` decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from qprompt_edge.watching.addresses import without_password
from qprompt_edge.watching.mqtt_broker import BrokerError, broker, encryption, read_login
from qprompt_runtime.errors import QPromptError
from qprompt_runtime.policy import Policy
from qprompt_runtime.text import printable

EXPECTED = "a file, a folder, http(s)://host/path, or mqtt(s)://host/topic"
MOST_BYTES = 1_000_000
"""Size of a prompt that is fetched. Most have less than a thousandth of it."""
SECONDS = 30.0
"""Time that a source has, from the first step to the last byte."""

_MOST_TOKEN = 4096
_WEB, _MQTT = ("http", "https"), ("mqtt", "mqtts")


class FetchError(QPromptError):
    """A source does not give a prompt now; it may later.

    Args:
        message: What is wrong.
        wait: Seconds that the source asks to be left alone.
    """

    def __init__(self, message: str, wait: int = 0) -> None:
        super().__init__(message)
        self.wait = wait


@dataclass(frozen=True)
class Content:
    """What a source has.

    Attributes:
        data: The file's content.
        name: What messages call it.
    """

    data: bytes
    name: str


class Source(Protocol):
    """Where a prompt comes from.

    Attributes:
        address: As it was given.
        name: What messages call it; without what may be a secret.
    """

    address: str
    name: str

    def read(self) -> Content:
        """What the source has.

        Raises:
            FetchError: It cannot be had now.
        """


@dataclass(frozen=True)
class Access:
    """How a source lets us in.

    Attributes:
        login: File with a user and a password on two lines.
        token: File with a bearer token.
        authority: Certificate (PEM) of the authority that signed the server's; None: the system's.
    """

    login: Path | None = None
    token: Path | None = None
    authority: Path | None = None


def find_source(address: str, access: Access, policy: Policy) -> Source:
    """The source that an address means; nothing is opened yet but the files of `access`.

    Args:
        address: See `EXPECTED`.
        access: How it lets us in.
        policy: What the caller asks for beside the device's policy: a folder's prompts are chosen by it.

    Raises:
        ValueError: It is no such address, or what `access` says does not fit it.
        BrokerError: A file of `access` cannot be used.
        FetchError: Its package is missing.
    """
    scheme = address.partition("://")[0].lower() if "://" in address else ""
    if scheme not in (*_WEB, *_MQTT):
        if scheme or not address:  # an empty one would be the folder that we are in
            raise ValueError(f"{without_password(address)!r}: expected {EXPECTED}")
        if access != Access():
            raise ValueError("--login, --token-file and --ca are for addresses, not for a file or a folder")
        from qprompt_edge.fetching.folder import FolderSource

        return FolderSource(address, policy)
    if "@" in _host(address):
        raise ValueError(
            "an address must not hold a user or a password, which others could read there; put them into a file, "
            "the user on its first line and the password on its second, and give it as --login FILE"
        )
    if access.authority is not None and not scheme.endswith("s"):
        raise ValueError("--ca needs https:// or mqtts://, which encrypt the connection")
    login = None if access.login is None else read_login(access.login)
    context = encryption(access.authority) if scheme.endswith("s") else None
    if scheme in _MQTT:
        if access.token is not None:
            raise ValueError("--token-file is for http(s); a broker takes a --login FILE")
        found = broker(address)
        if not urlsplit(address).path.strip("/"):
            raise ValueError(
                f"{printable(address)!r} names no topic; give one, as in mqtt://broker.lan/prompts/belt"
            )
        try:
            from qprompt_edge.fetching.mqtt import MqttSource
        except ModuleNotFoundError as error:
            raise FetchError("mqtt:// needs one more package: pip install 'qprompt-edge[mqtt]'") from error
        return MqttSource(address, found, login, context)
    from qprompt_edge.fetching.web import WebSource, authorization

    token = None if access.token is None else _read_token(access.token)
    return WebSource(address, authorization(address, login, token), context)


def check_size(size: int, name: str) -> None:
    """Refuse what is too large to be a prompt that is sent out.

    Raises:
        FetchError: It is larger than `MOST_BYTES`.
    """
    if size > MOST_BYTES:
        raise FetchError(
            f"{name} has more than {MOST_BYTES // 1000} kB, which no prompt has that is sent out; give it to install if it is one"
        )


def _host(address: str) -> str:
    try:
        return urlsplit(address).netloc
    except ValueError as error:
        raise ValueError(f"{printable(address)!r} is no address ({error}); expected {EXPECTED}") from None


def _read_token(path: Path) -> str:
    """A bearer token from a file: one line of visible ASCII.

    Raises:
        BrokerError: The file cannot be read, or holds something else.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_TOKEN + 1)
    except OSError as error:
        raise BrokerError(f"cannot read the token {printable(path)}: {error.strerror or error}") from error
    token = content.decode("ascii", "replace").strip()
    if not token or len(content) > _MOST_TOKEN or not all("!" <= sign <= "~" for sign in token):
        raise BrokerError(f"{printable(path)} holds no token; expected one line of letters, digits and signs")
    return token
