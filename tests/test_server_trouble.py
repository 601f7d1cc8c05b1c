"""What a server says of its own defects, of a full disk, of strange addresses, and of what is gone."""

import contextlib
import errno
import io
import json
import os
import socket
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace

import pytest
from patience import PATIENCE, wait_until
from scenes import write_photos
from serving import Client, served
from test_server_rest import add, classes, picture
from watching import write_prompt

from qprompt_edge.server import calls, thumbnail_cache
from qprompt_edge.server.addresses import listener, shown_address
from qprompt_edge.server.answers import Answers
from qprompt_edge.server.camera import watched
from qprompt_edge.server.certificate import certificate
from qprompt_edge.server.store import Store
from qprompt_edge.server.thumbnail_cache import Thumbnails
from qprompt_edge.server.work import LONG
from qprompt_edge.watching.addresses import is_loopback
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.errors import OutputError


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with served(tmp_path_factory.mktemp("trouble") / "data") as server:
        yield server


def fails(error: BaseException) -> object:
    def call(*_arguments: object, **_named: object) -> None:
        raise error

    return call


# ---------------------------------------------------------------------- defects


def test_a_defect_of_ours_is_one_line_and_a_trace_in_the_log(
    server: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Store, "tasks", fails(ZeroDivisionError("ours")))
        answer = server.get("/api/tasks")
    assert (answer.status, answer.error) == (500, "an internal error; the server's log says more")
    said: list[str] = []  # it is written after the answer
    wait_until(lambda: said.append(capsys.readouterr().err) or "ZeroDivisionError: ours" in "".join(said))
    assert server.get("/api/tasks").status == 200


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            503,
            "the system refuses: No space left on device",
        ),
        (FileNotFoundError("gone"), 404, "it is no longer there"),
        (OutputError("cannot write x"), 503, "cannot write x"),
    ],
)
def test_what_the_system_refuses_a_handler(
    server: Client, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, words: str
) -> None:
    monkeypatch.setattr(Store, "tasks", fails(error))
    answer = server.get("/api/tasks")
    assert (answer.status, answer.error) == (status, words)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ZeroDivisionError("ours"), "an internal error; the server's log says more"),
        (MemoryError(), "out of memory; take smaller photos or a smaller backbone"),
    ],
)
def test_the_models_go_on_after_a_defect(
    server: Client,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    words: str,
) -> None:
    task = type(error).__name__
    write_photos(server.data / task, count=2)
    with monkeypatch.context() as patch:
        patch.setitem(LONG, "check", fails(error))
        last = server.follow(server.post(f"/api/tasks/{task}/check").json["job"])[-1]
    assert (last["state"], last["error"]) == ("failed", words)
    assert ("ZeroDivisionError: ours" in capsys.readouterr().err) == (task == "ZeroDivisionError")
    last = server.follow(server.post(f"/api/tasks/{task}/check").json["job"])[-1]
    assert last["state"] == "done"


# ---------------------------------------------------------------------- things that are gone, or too many


def test_a_photo_that_is_no_photo_any_more(server: Client) -> None:
    assert server.post("/api/tasks", {"name": "gone"}).status == 201
    photo = add(server, "gone", "cup", picture(1))
    place = f"/api/tasks/gone/photos/{photo}"
    large = server.get(f"{place}/file")
    assert server.get(f"{place}/file", headers={"If-None-Match": large.headers["etag"]}).status == 304
    (server.data / "gone" / photo).write_bytes(b"no photo")
    for what in ("thumb", "file"):
        answer = server.get(f"{place}/{what}")
        assert answer.status == 415
        assert answer.error


def test_a_disk_without_room_takes_no_uploads(server: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert server.post("/api/tasks", {"name": "full"}).status == 201
    monkeypatch.setattr("qprompt_edge.server.store.FREE_BYTES", 2**62)
    answer = server.post("/api/tasks/full/classes/cup/photos", picture(1))
    assert answer.status == 503
    assert "disk" in answer.error
    assert classes(server, "full") == {}


@pytest.mark.parametrize("limit", ["PHOTOS", "CLASSES"])
def test_a_task_has_so_many_photos_and_classes(
    server: Client, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    assert server.post("/api/tasks", {"name": limit}).status == 201
    add(server, limit, "cup", picture(1))
    monkeypatch.setattr(f"qprompt_edge.server.uploads.{limit}", 1)
    answer = server.post(f"/api/tasks/{limit}/classes/bowl/photos", picture(2))
    assert answer.status == 409
    assert f"a task has at most 1 {limit.lower()}" in answer.error
    assert classes(server, limit) == {"cup": 1}


def test_a_member_of_an_archive_that_is_not_read_is_named_with_its_reason(server: Client) -> None:
    assert server.post("/api/tasks", {"name": "archive"}).status == 201
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("cup/locked.png", picture(1))
        archive.writestr("cup/packed.png", picture(2), zipfile.ZIP_BZIP2)
        archive.writestr("cup/good.png", picture(3))
    data = bytearray(out.getvalue())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the first member is encrypted
        data[data.index(header) + flags] |= 1
    answer = server.post("/api/tasks/archive/classes/-/photos", bytes(data))
    assert answer.status == 201, answer.body
    assert {it["name"]: it["reason"] for it in answer.json["skipped"]} == {
        "cup/locked.png": "is encrypted",
        "cup/packed.png": "is packed by a method that is not read; use deflate",
    }
    assert classes(server, "archive") == {"cup": 1}


def begun(server: Client) -> HTTPConnection:
    """A request whose body has begun."""
    connection = server.connect()
    connection.putrequest("POST", "/api/tasks")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "1000")
    connection.endheaders()
    connection.send(b" ")
    return connection


def test_a_body_that_stops_is_refused(server: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qprompt_edge.server.calls.CHUNK_SECONDS", 0.5)
    monkeypatch.setattr("qprompt_edge.server.calls.SLOWEST_BYTES", 0)
    with closing(begun(server)) as connection:
        response = connection.getresponse()
        assert response.status == 408
        assert "nothing came for" in json.loads(response.read())["error"]


def test_a_body_that_trickles_is_refused(server: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of the test, so that no pause of the machine is one of the body."""
    clock, asked = SimpleNamespace(now=100.0), threading.Event()
    clock.monotonic = lambda: asked.set() or clock.now
    monkeypatch.setattr("qprompt_edge.server.calls.time", clock)
    with closing(begun(server)) as connection:
        assert asked.wait(PATIENCE)  # when the body began
        clock.now += calls.CHUNK_SECONDS + 1
        with contextlib.suppress(OSError):  # refused and closed
            connection.send(b" ")
        response = connection.getresponse()
        assert response.status == 408
        assert (
            f"the body comes slower than {calls.SLOWEST_BYTES} bytes" in json.loads(response.read())["error"]
        )


def test_the_files_of_the_page_are_not_sent_twice(server: Client) -> None:
    script = server.get("/static/strings.js")
    assert script.headers["content-type"].startswith("text/javascript")
    again = server.get("/static/strings.js", headers={"If-None-Match": script.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    missing = server.get("/static/none.js")
    assert (missing.status, missing.error) == (404, "there is no such file")


def test_few_streams_are_open(server: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photos(server.data / "streams", count=2)
    job = server.post("/api/tasks/streams/check").json["job"]
    monkeypatch.setattr("qprompt_edge.server.api_jobs.STREAMS", 0)
    answer = server.get(f"/api/jobs/{job}/events")
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert "streams are open already" in answer.error


def test_thumbnails_are_bounded_and_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnail_cache, "_CHECK_EVERY", 1)
    found = Thumbnails(tmp_path / "thumbnails")
    sizes = []
    for number in range(3):
        photo = tmp_path / f"{number}.png"
        photo.write_bytes(picture(number))
        if number == 2:
            monkeypatch.setattr(thumbnail_cache, "THUMBNAIL_BYTES", sizes[-1] + sizes[0] // 2)
        sizes.append(len(found.get(photo, 160)))
        for kept in (tmp_path / "thumbnails").rglob("*.jpg"):  # each is older than the next
            os.utime(kept, (kept.stat().st_mtime - 10,) * 2)
    assert len(list((tmp_path / "thumbnails").rglob("*.jpg"))) == 1
    assert found.get(tmp_path / "0.png", 160)  # made anew


# ---------------------------------------------------------------------- cameras


def test_a_frame_that_cannot_be_read_is_said_and_the_next_is_answered(tmp_path: Path, tiny: Backbone) -> None:
    prompt = write_prompt(tmp_path / "walls.qpt", tiny)
    (tmp_path / "camera").mkdir()
    (tmp_path / "camera" / "0.jpg").write_bytes(b"no photo")
    (tmp_path / "camera" / "1.jpg").write_bytes(picture(1, "JPEG", (1000, 700)))
    told: list[dict] = []

    def check() -> None:
        if len(told) >= 2:
            raise KeyboardInterrupt

    settings = {"backbone": str(tiny.folder), "provider": "auto", "threads": 1}
    order = {"source": str(tmp_path / "camera"), "prompt": str(prompt), "accept": None}
    with pytest.raises(KeyboardInterrupt):
        watched(order, Answers(settings), told.append, check)
    assert set(told[0]["answer"]) == {"error"}
    assert told[1]["answer"]["predictions"]
    assert told[1]["frame"]


# ---------------------------------------------------------------------- addresses and certificates


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    own = ("127.0.0.1", "127.9.9.9", "::1", "localhost")
    assert [is_loopback(host) for host in (*own, "0.0.0.0", "10.0.0.1", "belt.local")] == [True] * 4 + [
        False
    ] * 3
    assert shown_address("10.0.0.1") == "10.0.0.1"
    assert shown_address("0.0.0.0") == socket.gethostname()  # where the tests are, nothing else is reached
    with pytest.raises(OutputError, match=r"cannot listen on 192\.0\.2\.1 port 80: .*choose another --port"):
        listener("192.0.2.1", 80)
    with pytest.raises(OutputError, match="cannot listen on"):
        listener("no address", 0)


def test_without_openssl_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OutputError, match="apt install openssl"):
        certificate(tmp_path / "tls", {"localhost"})
    (tmp_path / "openssl").write_text("#!/bin/sh\necho 'it is too old' >&2; exit 1\n")
    (tmp_path / "openssl").chmod(0o755)
    with pytest.raises(OutputError, match="openssl could not make a certificate: it is too old"):
        certificate(tmp_path / "tls", {"localhost"})


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("none")
    with pytest.raises(OutputError, match=r"cannot use the certificate .*delete it to have another made"):
        certificate(tmp_path, {"localhost"})


# ---------------------------------------------------------------------- the command


def test_what_the_command_refuses(tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch) -> None:
    both = run("serve", "--data", tmp_path, "--new-token", "--token-file", tmp_path / "token")
    assert both.code == 2
    assert "--new-token is for tokens that serve makes" in both.err.replace("\n", " ")
    (tmp_path / "file").write_text("no folder")
    refused = run("serve", "--port", "0", "--data", tmp_path / "file")
    assert refused.code == 1
    assert "cannot use" in refused.err
    monkeypatch.setitem(sys.modules, "qprompt_edge.server.serve", None)
    missing = run("serve", "--data", tmp_path / "data")
    assert missing.code == 1
    assert "pip install 'qprompt-edge[serve]'" in missing.err
