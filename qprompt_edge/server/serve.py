"""Start the server, say where it is, and end it in time."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import resource
import signal
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
from qprompt_edge.server.addresses import listener, shown_address
from qprompt_edge.server.application import application
from qprompt_edge.server.certificate import certificate, fingerprint
from qprompt_edge.server.engine import Engine, StartChild, start_child
from qprompt_edge.server.guard import own_names
from qprompt_edge.server.jobs import Jobs
from qprompt_edge.server.limits import CONNECTIONS, END_SECONDS, HEAD_SECONDS
from qprompt_edge.server.live import Lives
from qprompt_edge.server.state import State
from qprompt_edge.server.store import Store
from qprompt_edge.server.thumbnail_cache import Thumbnails
from qprompt_edge.watching.addresses import is_loopback
from qprompt_edge.watching.health import Health

_THREADS = 32
_FILES = 4 * CONNECTIONS
_LAST_SECONDS = END_SECONDS + 0.3


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
    server = Server(settings)
    _allow_files()
    return asyncio.run(_run(server, started))


class Server:
    """A server that has its folder and its address, and answers while it runs.

    Args:
        settings: How.
        start: Starts the process that holds the models.

    Raises:
        OutputError: The folder, the address or the certificate cannot be used.
    """

    def __init__(self, settings: Settings, start: StartChild = start_child) -> None:
        store = Store(settings.data)
        self._listener = listener(settings.host, settings.port)
        port = self._listener.getsockname()[1]
        access = Access(store.hidden / "access.json", settings.token or not is_loopback(settings.host))
        token = _token(access, settings)
        names = {*own_names(), *map(str.lower, settings.allow_host)}
        shown = shown_address(settings.host)
        tls: dict[str, Any] = {}
        mark = None
        if settings.tls:
            cert, key = certificate(store.hidden / "tls", {*names, shown})
            tls, mark = {"ssl_certfile": str(cert), "ssl_keyfile": str(key)}, fingerprint(cert)
        model = {"backbone": settings.backbone, "provider": settings.provider, "threads": settings.threads}
        engine, health = Engine(model, start=start), Health()
        self._state = State(
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
        self.place = Place(f"http{'s' if tls else ''}://{address}:{port}/", token, access.needed, mark)
        config = uvicorn.Config(
            application(self._state, names), http=_Protocol, ws="none", loop="asyncio", lifespan="off", interface="asgi3",
            access_log=False, log_level="error", server_header=False, proxy_headers=False, limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=max(1, int(END_SECONDS)), timeout_keep_alive=int(HEAD_SECONDS), **tls,
        )  # fmt: skip
        self._server = _Server(config)

    async def run(self, started: Callable[[Place], None]) -> None:
        """Answer until `end` is called.

        Args:
            started: Called once it answers.
        """
        anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
        serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        while not (self._server.started or serving.done()):
            await asyncio.sleep(0.01)
        if self._server.started:
            started(self.place)
        closing = asyncio.create_task(_close_engine(self._state))
        await serving
        self._state.ending.set()
        await closing
        self._state.store.close()

    def end(self) -> None:
        """Have it end; any thread may."""
        self._state.ending.set()
        self._server.should_exit = True


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


async def _run(server: Server, started: Callable[[Place], None]) -> int:
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
        server.end()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)
    await server.run(started)
    return ended


async def _close_engine(state: State) -> None:
    """Stop the models' process as soon as the end begins."""
    while not state.ending.is_set():
        await asyncio.sleep(0.05)
    await asyncio.get_running_loop().run_in_executor(None, state.engine.close, END_SECONDS)


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


def _allow_files() -> None:
    """Allow as many open files as connections may need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
