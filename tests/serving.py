"""A server as users start it, on a free port of the loopback address, and a client for it."""

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from conftest import TINY_FOLDER

START_SECONDS = 60
END_SECONDS = 4.0
"""Twice what is promised: tests run side by side, on machines that have other work."""
JOB_SECONDS = 120


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


class Served:
    """A running server."""

    def __init__(self, process: subprocess.Popen[str], said: dict[str, Any], data: Path, log: Path) -> None:
        self.process, self.data, self._log = process, data, log
        self.url, self.token = said["url"], said["token"]
        parts = urlsplit(self.url)
        self.host, self.port = parts.hostname or "", parts.port or 0
        self._tls = parts.scheme == "https"
        self.headers: dict[str, str] = {}

    @property
    def log(self) -> str:
        """What it has written to stderr."""
        return self._log.read_text(encoding="utf-8")

    def connect(self, seconds: float = 60) -> http.client.HTTPConnection:
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
        seconds: float = 60,
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

    def follow(self, job: str) -> list[dict[str, Any]]:
        """All states of a job that are told, to its end."""
        lines = self.get(f"/api/jobs/{job}/events", seconds=JOB_SECONDS).body.decode().splitlines()
        return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]

    def end(self) -> float:
        """Send SIGTERM; how long the server took to end. It has to end with 0."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0
        return time.monotonic() - begin


def photo_in(task: str, photo: str) -> str:
    """The path of a photo in the interface."""
    return f"/api/tasks/{quote(task)}/photos/{quote(photo)}"


@contextmanager
def served(data: Path, *options: str, backbone: Path | str = TINY_FOLDER) -> Iterator[Served]:
    """Serve a folder; the server is ended afterwards, whatever happened."""
    command = [sys.executable, "-m", "qprompt_edge", "serve", "--port", "0", "--data", str(data)]
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "stderr"
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
            yield Served(process, json.loads(line), data, log)
        finally:
            process.kill()
            process.wait()
