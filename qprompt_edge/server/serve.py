"""Start the server, say where it is, and end it in time."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import ipaddress
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread
import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from qprompt_edge.server.access import Access
from qprompt_edge.server.application import application
from qprompt_edge.server.certificate import certificate, fingerprint
from qprompt_edge.server.engine import Engine
from qprompt_edge.server.guard import own_names
from qprompt_edge.server.jobs import Jobs
from qprompt_edge.server.limits import CONNECTIONS, END_SECONDS, HEAD_SECONDS
from qprompt_edge.server.live import Lives
from qprompt_edge.server.state import State
from qprompt_edge.server.store import Store
from qprompt_edge.server.thumbnail_cache import Thumbnails
from qprompt_edge.watching.health import Health
from qprompt_runtime.errors import OutputError
from qprompt_runtime.text import printable

_THREADS = 32
_FILES = 4 * CONNECTIONS
_LAST_SECONDS = END_SECONDS + 0.3
_ANYWHERE = ("0.0.0.0", "::")


@dataclass(frozen=True)
class Settings:
    """How to serve.

    Attributes:
        data: The folder of tasks.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        token: Whether a token is demanded on the loopback address too.
        new_token: Whether a new token replaces the one before.
        token_file: File with the token, or None.
        allow_host: Further names that this server is called by.
        tls: Whether to speak TLS.
        cameras: Sources of live frames; None takes the cameras that the system has.
        backbone: Of new prompts.
        provider: `auto`, or an execution provider's short name.
        threads: Of the models; 0 takes one for each core.
    """

    data: Path
    host: str
    port: int
    token: bool
    new_token: bool
    token_file: Path | None
    allow_host: tuple[str, ...]
    tls: bool
    cameras: tuple[str, ...] | None
    backbone: str
    provider: str
    threads: int


@dataclass(frozen=True)
class Place:
    """Where the server is.

    Attributes:
        url: Its address.
        token: The token if it was just made; else None.
        needs_token: Whether one is demanded.
        fingerprint: Of its certificate, or None.
    """

    url: str
    token: str | None
    needs_token: bool
    fingerprint: str | None

    @property
    def link(self) -> str:
        """The address that lets a browser in."""
        return self.url if self.token is None else f"{self.url}?token={self.token}"


def serve(settings: Settings, started: Callable[[Place], None]) -> int:
    """Serve until a signal ends it.

    Args:
        settings: How.
        started: Called once it answers.

    Returns:
        The signal that ended it.

    Raises:
        OutputError: The folder, the address or the certificate cannot be used.
    """
    store = Store(settings.data)
    listener = _listener(settings.host, settings.port)
    port = listener.getsockname()[1]
    access = Access(store.hidden / "access.json", settings.token or not _is_loopback(settings.host))
    token = _token(access, settings)
    names = {*own_names(), *map(str.lower, settings.allow_host)}
    shown = _shown(settings.host)
    tls: dict[str, Any] = {}
    mark = None
    if settings.tls:
        cert, key = certificate(store.hidden / "tls", {*names, shown})
        tls, mark = {"ssl_certfile": str(cert), "ssl_keyfile": str(key)}, fingerprint(cert)
    model = {"backbone": settings.backbone, "provider": settings.provider, "threads": settings.threads}
    engine, health = Engine(model), Health()
    state = State(
        store=store,
        thumbnails=Thumbnails(store.hidden / "thumbnails"),
        jobs=Jobs(),
        engine=engine,
        health=health,
        lives=Lives(engine, health),
        cameras=_cameras() if settings.cameras is None else settings.cameras,
        access=access,
        cookie=f"qprompt-{port}",
        secure=settings.tls,
        backbone=settings.backbone,
    )
    address = f"[{shown}]" if ":" in shown else shown
    place = Place(f"http{'s' if tls else ''}://{address}:{port}/", token, access.needed, mark)
    config = uvicorn.Config(
        application(state, names), http=_Protocol, ws="none", loop="asyncio", lifespan="off", interface="asgi3", access_log=False,
        log_level="error", server_header=False, proxy_headers=False, limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=max(1, int(END_SECONDS)), timeout_keep_alive=int(HEAD_SECONDS), **tls,
    )  # fmt: skip
    _allow_files()
    return asyncio.run(_run(_Server(config), listener, state, lambda: started(place)))


class _Server(uvicorn.Server):
    """Leaves signals to `_run`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


class _Protocol(H11Protocol):
    """Closes a connection whose next request does not come in time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look at the connection."""
        super().connection_made(transport)
        self.loop.call_later(HEAD_SECONDS, self._look, None)

    def _look(self, waited: object) -> None:
        """Close it if it has waited since the last look; `waited` is what it had answered then."""
        if self.transport.is_closing():
            return
        before = (self.cycle,) if self.conn.their_state is h11.IDLE else None
        if before is not None and before == waited:
            self.transport.close()
        else:
            self.loop.call_later(HEAD_SECONDS, self._look, before)


async def _run(server: _Server, listener: socket.socket, state: State, started: Callable[[], None]) -> int:
    """Serve until a signal comes; the number of the signal."""
    ended = 0

    def end(number: int) -> None:
        nonlocal ended
        if (
            not ended
        ):  # a long upload on another thread does not hold up the end: what it writes is whole or not there
            last = threading.Timer(_LAST_SECONDS, os._exit, (128 + number if number == signal.SIGINT else 0,))
            last.daemon = True
            last.start()
        ended = ended or number
        state.ending.set()
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)
    anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not (server.started or serving.done()):
        await asyncio.sleep(0.01)
    if server.started:
        started()
    closing = asyncio.create_task(_close_engine(state))
    await serving
    state.ending.set()
    await closing
    return ended


async def _close_engine(state: State) -> None:
    """Stop the models' process as soon as the end begins."""
    while not state.ending.is_set():
        await asyncio.sleep(0.05)
    await asyncio.get_running_loop().run_in_executor(None, state.engine.close, END_SECONDS)


def _listener(host: str, port: int) -> socket.socket:
    """The socket to listen on.

    Raises:
        OutputError: The address cannot be listened on.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        raise OutputError(
            f"cannot listen on {printable(host)} port {port}: {getattr(error, 'strerror', None) or error}; choose another --port or --host"
        ) from error
    return listener


def _token(access: Access, settings: Settings) -> str | None:
    """Have a token where one is demanded; the token if it is a new one of ours."""
    if not access.needed:
        return None
    if settings.token_file is not None:
        access.take_token(settings.token_file)
        return None
    return access.make_token() if settings.new_token or not access.has_token else None


def _cameras() -> tuple[str, ...]:
    """The cameras of the kernel, and that of a Raspberry Pi where its library is installed."""
    found = sorted(Path("/dev").glob("video[0-9]*"), key=lambda path: (len(path.name), path.name))
    picamera = ("picamera",) if importlib.util.find_spec("picamera2") is not None else ()
    return (*picamera, *map(str, found))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(host: str) -> str:
    """The address that others reach this machine by, as far as it can be told without asking anybody."""
    if host not in _ANYWHERE:
        return host
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(
            ("192.0.2.1", 9)
        )  # a reserved address; nothing is sent, the system only chooses a route
        return str(probe.getsockname()[0])
    return socket.gethostname()


def _allow_files() -> None:
    """Allow as many open files as connections may need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
