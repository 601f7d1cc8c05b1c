"""What tests of `fetch` share: signed prompts for a small backbone, a device's policy, a web server."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from command_line import Result
from conftest import TINY_FOLDER
from signatures import signed, write_public
from watching import made_prompt

from qprompt_edge.shipping import install as installing
from qprompt_runtime.backbone import Backbone

Run = Callable[..., Result]


@cache
def content(note: str) -> bytes:
    """A prompt for the backbone tiny that knows colours; another file for every note."""
    return replace(_made(), metadata={"note": note}).to_bytes()


@cache
def _made() -> object:
    return made_prompt(Backbone.load(TINY_FOLDER))


def prompt_of(sequence: int, number: int = 0, **changes: object) -> bytes:
    """A signed prompt for the task `belt`, unlike those of other numbers."""
    return signed(number, content(str(sequence)), **{"expires": None, "sequence": sequence, **changes})


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A device that has a policy and obeys one vendor; the folder that its prompt runs from."""
    write_public(tmp_path / "etc" / "keys" / "vendor.pub")
    said = {"policy": "enforce", "trust": "keys", "tasks": ["belt"]}
    (tmp_path / "etc" / "policy.json").write_text(json.dumps(said), encoding="utf-8")
    monkeypatch.setenv("QPE_POLICY_FILE", str(tmp_path / "etc" / "policy.json"))
    monkeypatch.setattr(installing, "_check_usable", lambda *_: None)  # what tests of `install` are for
    return tmp_path / "belt"


@pytest.fixture
def fetch(run: Run, device: Path) -> Callable[..., Result]:
    """`fetch(source, ...)`: the command, on that device."""

    def call(source: object, *more: object) -> Result:
        return run("fetch", source, "--to", device, "--backbone", TINY_FOLDER, *more)

    return call


def expect(result: Result, code: int, *words: str) -> None:
    """That exit code, and these words in one line: the error if there is one, else the last message."""
    assert result.code == code, result.err
    assert "Traceback" not in result.err
    errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == (code != 0), result.err
    line = errors[0] if errors else result.err.splitlines()[-1]
    for word in words:
        assert word in line, line


class Web:
    """A web server on the loopback address; what it answers, a test says.

    Args:
        certificate: It and its key, for TLS.
    """

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        self.answer: Callable[[BaseHTTPRequestHandler], None] = lambda it: give(it, b"")
        self.asked: list[dict[str, str]] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                web.asked.append({name.lower(): value for name, value in self.headers.items()})
                web.answer(self)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.scheme = "http" if certificate is None else "https"
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def url(self, path: str = "/belt.qpt") -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}{path}"


def give(
    request: BaseHTTPRequestHandler, body: bytes, code: int = 200, length: int | None = None, **headers: str
) -> None:
    """Answer a request; `_` in a header's name is `-`."""
    request.send_response(code)
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.send_header("Content-Length", str(len(body) if length is None else length))
    request.end_headers()
    request.wfile.write(body)


@pytest.fixture
def web() -> Iterator[Web]:
    found = Web()
    yield found
    found.close()
