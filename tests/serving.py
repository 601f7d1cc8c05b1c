"""A server on a free port of the loopback address, on a thread or as users start it, and a client for it."""

import asyncio
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any
from unittest.mock import patch
from urllib.parse import quote, urlsplit

from conftest import TINY_FOLDER
from patience import PATIENCE

from qprompt_edge.cli import main
from qprompt_edge.server import calls, guard, serve
from qprompt_edge.server.serve import Place, Server, Settings
from qprompt_edge.server.worker import Worker

END_SECONDS = 2.0
"""What is promised, of a machine that has no other work."""


class Answer:
    """What the server answered."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The one line that says what is wrong."""
        assert set(self.json) == {"error"}, self.body
        line = self.json["error"]
        assert line.isprintable()
        assert "Traceback" not in line
        return line


class Client:
    """What asks a server that runs.

    Args:
        url: Where it is.
        token: The one that was just made, if any.
        data: The folder that it serves.
    """

    def __init__(self, url: str, token: str | None, data: Path) -> None:
        self.url, self.token, self.data = url, token, data
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 0
        self._tls = parts.scheme == "https"
        self.headers: dict[str, str] = {}

    def connect(self, seconds: float = PATIENCE) -> http.client.HTTPConnection:
        """A new connection."""
        if self._tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            return http.client.HTTPSConnection(self.host, self.port, timeout=seconds, context=context)
        return http.client.HTTPConnection(self.host, self.port, timeout=seconds)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        seconds: float = PATIENCE,
    ) -> Answer:
        """Send a request; bytes as they are, anything else as JSON."""
        connection = self.connect(seconds)
        sent = {**self.headers, **(headers or {})}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def get(self, path: str, **named: Any) -> Answer:
        """GET."""
        return self.ask("GET", path, **named)

    def post(self, path: str, body: Any = None, **named: Any) -> Answer:
        """POST; an empty JSON object by default."""
        return self.ask("POST", path, {} if body is None else body, **named)

    def clear(self) -> None:
        """Cancel what is under way and remove all tasks: a test that failed may have left them."""
        for task in self.get("/api/tasks").json["tasks"]:
            if task["job"] is not None:
                self.ask("DELETE", f"/api/jobs/{task['job']}")
                self.follow(task["job"])
        for left in self.data.glob("[!.]*"):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()

    def follow(self, job: str) -> list[dict[str, Any]]:
        """All states of a job that are told, to its end."""
        lines = self.get(f"/api/jobs/{job}/events", seconds=PATIENCE).body.decode().splitlines()
        return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


def photo_in(task: str, photo: str) -> str:
    """The path of a photo in the interface."""
    return f"/api/tasks/{quote(task)}/photos/{quote(photo)}"


class ModelsThread:
    """What the engine takes for its child: the same work, on a thread of this process."""

    pid = None

    def __init__(self, settings: dict[str, Any]) -> None:
        orders, given = os.pipe()
        told, out = os.pipe()
        self.stdin, self.stdout = os.fdopen(given, "wb"), os.fdopen(told, "rb")
        self._thread = Thread(target=self._run, args=(settings, orders, out), daemon=True)
        self._thread.start()

    def _run(self, settings: dict[str, Any], orders: int, out: int) -> None:
        with os.fdopen(orders, "rb") as lines:
            Worker(settings, lines, out).run()
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), out)  # the last answer; threads that still end write nowhere

    def poll(self) -> int | None:
        return None if self._thread.is_alive() else 0

    def wait(self, seconds: float | None = None) -> int:
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise subprocess.TimeoutExpired("the models' thread", seconds or 0)
        return 0

    def kill(self) -> None:
        """Nothing kills a thread; whoever calls this waits next."""


@contextmanager
def served(data: Path, *options: str, backbone: Path | str = TINY_FOLDER) -> Iterator[Client]:
    """Serve a folder with the command, on a thread of this process that takes no signals.

    The models are on another; what the command prints is for `capsys`. Requests and answers may pause:
    perhaps the machine does.
    """
    ready, servers = Event(), []

    def serve_here(settings: Settings, started: Callable[[Place], None]) -> int:
        servers.append(Server(settings, ModelsThread))

        def answers(place: Place) -> None:
            started(place)
            ready.set()

        asyncio.run(servers[0].run(answers))
        return signal.SIGTERM

    def run() -> None:
        with suppress(SystemExit):
            main(["serve", "--port", "0", "--data", str(data), "--backbone", str(backbone), *options])

    thread = Thread(target=run, daemon=True)
    with (
        patch.object(calls, "CHUNK_SECONDS", PATIENCE),
        patch.object(guard, "SEND_SECONDS", PATIENCE),
        patch.object(serve, "HEAD_SECONDS", PATIENCE),
    ):
        with patch.object(serve, "serve", serve_here):
            thread.start()
            while not ready.wait(0.02):
                assert thread.is_alive(), "the command has ended"
        try:
            yield Client(servers[0].place.url, servers[0].place.token, data)
        finally:
            servers[0].end()
            thread.join(PATIENCE)
            assert not thread.is_alive()


class ServeProcess(Client):
    """A server that has a process of its own.

    Attributes:
        started: Seconds that it took to start: how fast this machine is now, beside its other work.
    """

    def __init__(
        self, process: subprocess.Popen[str], said: dict[str, Any], data: Path, log: Path, started: float
    ) -> None:
        super().__init__(said["url"], said["token"], data)
        self.process, self._log = process, log
        self.started = started

    @property
    def log(self) -> str:
        """What it has written to stderr."""
        return self._log.read_text(encoding="utf-8")

    def end(self) -> None:
        """Send SIGTERM. The server has to end with 0, as soon as promised; later where it started slowly."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0
        assert time.monotonic() - begin < END_SECONDS + 2 * self.started


@contextmanager
def serve_process(data: Path, *options: str, backbone: Path | str = TINY_FOLDER) -> Iterator[ServeProcess]:
    """Serve a folder as users do; the process is ended afterwards, whatever happened."""
    command = [sys.executable, "-m", "qprompt_edge", "serve", "--port", "0", "--data", str(data)]
    with tempfile.TemporaryDirectory() as scratch:
        log, begin = Path(scratch) / "stderr", time.monotonic()
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [*command, "--backbone", str(backbone), *options],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, log.read_text()
            yield ServeProcess(process, json.loads(line), data, log, time.monotonic() - begin)
        finally:
            process.kill()
            process.wait()
