"""Those who take changes: a program, a webhook, systemd; none of them makes the loop wait or fail."""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from patience import PATIENCE, wait_until
from watching import RED, allow_loopback, picture

from qprompt_edge.cli import answer_lines
from qprompt_edge.cli.answer_lines import AnswerLines
from qprompt_edge.watching import deliveries, program
from qprompt_edge.watching import systemd as systemd_module
from qprompt_edge.watching.answers import NONE_OF_THESE, Answer
from qprompt_edge.watching.deliveries import Deliveries, DeliveryError
from qprompt_edge.watching.frames import Frame
from qprompt_edge.watching.systemd import Systemd
from qprompt_edge.watching.webhook import webhook
from qprompt_runtime.errors import ImageError, OutputError

ANSWER = Answer(0.5, "camera", "left", "belt", "stone", 0.75, False, "stone", True, (("stone", 0.75),))
FRAME = Frame(picture(RED), "camera")


# ---------------------------------------------------------------------- deliveries


class Receiver:
    """Takes changes once it is told to work."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.notes: list[str] = []
        self.works = threading.Event()
        self.attempts = 0

    def deliver(self, answer: Answer) -> None:
        self.attempts += 1
        if not self.works.is_set():
            raise DeliveryError("refused", again=True)
        self.taken.append(answer.label)


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


def test_changes_are_delivered_in_order_and_nothing_else_is(receiver: Receiver):
    receiver.works.set()
    sink = Deliveries("receiver", receiver.deliver, receiver.notes.append)
    for number in range(20):
        sink.answer(replace(ANSWER, label=f"{number}", changed=number % 2 == 0), FRAME)
    wait_until(lambda: not sink._queue.unfinished_tasks)
    sink.close()
    assert receiver.taken == [f"{number}" for number in range(0, 20, 2)]
    assert receiver.notes == []


def test_what_fails_is_tried_again_and_told_once(receiver: Receiver, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(deliveries, "_LONGEST_WAIT", 0.02)
    sink = Deliveries("receiver", receiver.deliver, receiver.notes.append, first=0.01)
    sink.answer(ANSWER, FRAME)
    wait_until(lambda: receiver.attempts > 3)
    receiver.works.set()
    sink.answer(ANSWER, FRAME)
    wait_until(lambda: len(receiver.taken) == 2)
    sink.close()
    assert receiver.notes == ["receiver: refused; trying again", "receiver works again"]


def test_the_loop_does_not_wait_and_the_newest_changes_are_kept(receiver: Receiver):
    sink = Deliveries("receiver", receiver.deliver, receiver.notes.append, first=0.3, waiting=5)
    for number in range(10_000):
        sink.answer(replace(ANSWER, label=f"{number}"), FRAME)
    receiver.works.set()
    wait_until(lambda: receiver.taken[-1:] == ["9999"])
    assert receiver.taken[-5:] == [f"{number}" for number in range(9995, 10_000)]
    assert len(receiver.taken) <= 6
    sink.close()


def test_closing_does_not_wait_for_a_receiver_that_fails(receiver: Receiver):
    sink = Deliveries("receiver", receiver.deliver, receiver.notes.append, first=60)
    sink.answer(ANSWER, FRAME)
    wait_until(lambda: receiver.attempts == 1)
    sink.close()
    assert not sink._thread.is_alive()


# ---------------------------------------------------------------------- a program

SCRIPT = """import json, os, sys
with open(sys.argv[1], "a") as file:
    print(json.dumps({k: v for k, v in os.environ.items() if k.startswith("QPE_")} | {"words": sys.argv[2:]}), file=file)
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("QPE_")]:
        monkeypatch.delenv(name)
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path / "script.py"


def test_a_program_learns_of_a_change_through_its_environment_and_no_shell_reads_it(script: Path):
    hostile = "stone; touch gone $(touch gone) `touch gone`"
    notes: list[str] = []
    sink = program.program(
        f"{sys.executable} {script} {script.parent / 'out'} 'two words' $HOME", notes.append
    )
    sink.answer(replace(ANSWER, label=hostile, none_of_these=True, state=NONE_OF_THESE), FRAME)
    wait_until(lambda: not sink._queue.unfinished_tasks)
    sink.close()
    assert notes == []
    assert json.loads((script.parent / "out").read_text()) == {
        "QPE_TIME": "1970-01-01T00:00:00.500Z",
        "QPE_SOURCE": "camera",
        "QPE_REGION": "left",
        "QPE_PROMPT": "belt",
        "QPE_STATE": "none of these",
        "QPE_LABEL": hostile,
        "QPE_PROBABILITY": "0.750000",
        "QPE_NONE_OF_THESE": "true",
        "words": ["two words", "$HOME"],
    }


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("/no/such/program", "/no/such/program: cannot be started: No such file or directory"),
        (f"{sys.executable} -c 'raise SystemExit(3)'", f"{sys.executable}: ended with exit code 3"),
        (
            f"{sys.executable} -c 'import time; time.sleep(60)'",
            f"{sys.executable}: took more than 0 s and was ended",
        ),
    ],
)
def test_a_program_that_fails_is_told(monkeypatch: pytest.MonkeyPatch, command: str, reason: str):
    monkeypatch.setattr(program, "_TIMEOUT", 0.3 if "sleep" in command else PATIENCE)
    notes: list[str] = []
    sink = program.program(command, notes.append)
    for _ in range(2):
        sink.answer(ANSWER, FRAME)
    wait_until(lambda: not sink._queue.unfinished_tasks)
    sink.close()
    assert notes == [reason]  # once


@pytest.mark.parametrize("command", ["", "  ", "'open"])
def test_what_is_no_program_is_refused(command: str):
    with pytest.raises(ValueError, match=r"expected a program|No closing quotation"):
        program.program(command, lambda _line: None)


# ---------------------------------------------------------------------- a webhook


class Hook(BaseHTTPRequestHandler):
    """Answers with the codes it is given, then with 204."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append((self.path, self.headers["Content-Type"], json.loads(body)))  # type: ignore[attr-defined]
        self.send_response(self.server.codes.pop(0) if self.server.codes else 204)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    allow_loopback(monkeypatch)
    monkeypatch.setattr(deliveries, "_FIRST_WAIT", 0.01)
    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as made:
        made.taken, made.codes = [], []  # type: ignore[attr-defined]
        threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True).start()
        yield made
        made.shutdown()


def posted(hook: ThreadingHTTPServer, count: int) -> tuple[list, list[str]]:
    """What arrives of a change, and what is told."""
    notes: list[str] = []
    sink = webhook(f"http://127.0.0.1:{hook.server_port}/belt?key=secret", notes.append)
    sink._first = 0.01
    sink.answer(ANSWER, FRAME)
    wait_until(lambda: len(hook.taken) >= count and not sink._queue.unfinished_tasks)  # type: ignore[attr-defined]
    sink.close()
    return hook.taken, notes  # type: ignore[attr-defined]


def test_a_change_is_posted_as_json(hook):
    taken, notes = posted(hook, 1)
    assert taken == [("/belt?key=secret", "application/json", ANSWER.as_dict())]
    assert notes == []


def test_a_server_in_trouble_is_tried_again(hook):
    hook.codes = [503, 429]
    taken, notes = posted(hook, 3)
    assert len(taken) == 3
    address = f"webhook http://127.0.0.1:{hook.server_port}/belt"
    assert notes == [f"{address}: answered 503 Service Unavailable; trying again", f"{address} works again"]


def test_a_server_that_refuses_is_not_asked_again(hook):
    hook.codes = [404]
    taken, notes = posted(hook, 1)
    assert len(taken) == 1
    assert [note.rpartition(": ")[2] for note in notes] == ["answered 404 Not Found"]


def test_a_server_that_is_not_there_is_told_in_words():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    notes: list[str] = []
    sink = webhook(f"http://127.0.0.1:{port}/", notes.append)
    sink.answer(ANSWER, FRAME)
    wait_until(lambda: notes)
    sink.close()
    assert notes == [f"webhook http://127.0.0.1:{port}/: Connection refused; trying again"]


@pytest.mark.parametrize("address", ["", "file:///etc/passwd", "http://", "ftp://host/x", "host/x"])
def test_what_is_no_address_is_refused(address: str):
    with pytest.raises(ValueError, match="expected an address"):
        webhook(address, lambda _line: None)


# ---------------------------------------------------------------------- systemd


@pytest.fixture
def notified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.bind(str(tmp_path / "notify"))
        door.settimeout(PATIENCE)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        yield door


def test_systemd_learns_how_the_service_is(notified):
    systemd = Systemd()
    systemd.ready({"belt": ("stone", "glove")}, ("left",), "camera")
    systemd.answer(ANSWER, FRAME)
    systemd.answer(replace(ANSWER, changed=False), FRAME)
    systemd.present(False, "camera: no such\ndevice")
    systemd.present(True, "")
    systemd.alive()  # there is no watchdog
    systemd.close()
    assert [notified.recv(4096).decode() for _ in range(5)] == [
        "READY=1\nSTATUS=watching camera",
        "STATUS=left, belt: stone",
        "STATUS=lost: camera: no such\\ndevice",
        "STATUS=the source is back",
        "STOPPING=1",
    ]


def test_the_watchdog_is_fed_in_time_and_not_at_every_frame(notified, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    clock = SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(systemd_module, "time", clock)
    systemd = Systemd()
    for _ in range(50):
        systemd.alive()
        clock.now += 0.01
    notified.setblocking(False)
    fed = 0
    while True:
        try:
            assert notified.recv(100) == b"WATCHDOG=1"
        except BlockingIOError:
            break
        fed += 1
    assert fed == 7  # every 0.08 of 0.5 seconds


def test_the_watchdog_of_another_process_is_not_ours(notified, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    Systemd().alive()
    notified.setblocking(False)
    with pytest.raises(BlockingIOError):
        notified.recv(100)


def test_without_systemd_nothing_is_sent(monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/no/such/socket")
    Systemd().say("READY=1")  # gone: nobody is told
    monkeypatch.delenv("NOTIFY_SOCKET")
    monkeypatch.setattr(socket, "socket", lambda *_arguments: pytest.fail("it was opened"))
    Systemd().say("READY=1")


# ---------------------------------------------------------------------- lines on stdout


def test_stdout_that_takes_nothing_is_told_once_and_so_is_that_it_does_again(capsys, monkeypatch):
    full, emit = [True], answer_lines.emit_defined

    def emit_unless_full(value: object) -> None:
        if full[0]:
            raise OutputError("cannot write the results to stdout: No space left on device")
        emit(value)

    monkeypatch.setattr(answer_lines, "emit_defined", emit_unless_full)
    clock = SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(answer_lines, "time", clock)
    monkeypatch.setattr(answer_lines, "_RETRY_SECONDS", 5.0)
    lines = AnswerLines(as_json=True, changes=False, many=False)
    for _ in range(3):
        lines.answer(ANSWER, FRAME)
        clock.now += 3
    full[0] = False
    clock.now += 6
    lines.answer(ANSWER, FRAME)
    printed = capsys.readouterr()
    assert json.loads(printed.out) == ANSWER.as_dict()
    assert printed.err.splitlines() == [
        "cannot write the results to stdout: No space left on device; answers are dropped until it takes them again",
        "stdout takes answers again",
    ]
    with pytest.raises(OutputError, match="3 answers could not be written"):
        lines.check_all()


@pytest.fixture
def utc() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def test_lines_for_people(capsys, utc):
    lines = AnswerLines(as_json=False, changes=True, many=True)
    lines.answer(ANSWER, FRAME)
    lines.answer(replace(ANSWER, changed=False), FRAME)
    lines.answer(replace(ANSWER, region="frame", none_of_these=True, source="a\nb"), FRAME)
    assert capsys.readouterr().out.splitlines() == [
        "00:00:00  camera  left  belt  stone 75.0%",
        "00:00:00  a\\nb  belt  none of these (stone 75.0%)",
    ]


def test_a_damaged_stream_is_told_once_until_a_frame_is_whole(capsys):
    lines = AnswerLines(as_json=False, changes=False, many=False)
    for _ in range(3):
        lines.skipped(FRAME, "camera: damaged")
    lines.answer(ANSWER, FRAME)
    lines.skipped(FRAME, "camera: damaged")
    assert capsys.readouterr().err.splitlines() == ["skipped camera: damaged"] * 2
    with pytest.raises(ImageError, match="4 frames could not be read"):
        lines.check_all()
