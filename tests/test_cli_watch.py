"""`qprompt-edge watch` as a user meets it: lines, JSON, sources that end, refusals, signals."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import Result, assert_refused
from conftest import TINY_FOLDER
from other_machines import qprompt_edge
from patience import PATIENCE
from PIL import Image
from watching import ACCEPT_ALL, BLUE, COLOURS, RED, halves, picture, write_prompt

from qprompt_edge.watching import folder as folder_module
from qprompt_edge.watching import steady
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.files import write_atomic


@pytest.fixture
def file(tiny: Backbone, tmp_path: Path) -> Path:
    return write_prompt(tmp_path / "walls.qpt", tiny, calibration=ACCEPT_ALL)


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    """A folder with two pictures."""
    (tmp_path / "seen").mkdir()
    for name, shown in (("a", picture(RED)), ("b", picture(BLUE))):
        Image.fromarray(shown).save(tmp_path / "seen" / f"{name}.png")
    return tmp_path / "seen"


@pytest.fixture
def watch(run: Callable[..., Result], file: Path) -> Callable[..., Result]:
    return lambda *words: run("watch", *words, "--prompt", file, "--backbone", TINY_FOLDER)


def test_json_is_a_line_for_each_answer(watch, seen: Path):
    Image.fromarray(halves(RED, BLUE)).save(seen / "b.png")
    result = watch(seen, "--once", "--json", "--region", "left=0,0,50,100", "--region", "right=50,0,50,100")
    assert (result.code, result.err) == (0, "")
    assert [(row["source"], row["region"], row["label"], row["changed"]) for row in result.rows] == [
        (str(seen / "a.png"), "left", "red wall", True),
        (str(seen / "a.png"), "right", "red wall", True),
        (str(seen / "b.png"), "left", "red wall", False),
        (str(seen / "b.png"), "right", "blue wall", True),
    ]
    assert {row["prompt"] for row in result.rows} == {"walls"}
    assert {row["none_of_these"] for row in result.rows} == {None}
    assert all(0 < row["probability"] <= 1 for row in result.rows)


def test_text_is_a_line_for_each_answer_or_change(watch, seen: Path):
    lines = watch(seen, "--once").out.splitlines()
    assert [line.split("  ")[1] for line in lines] == [str(seen / "a.png"), str(seen / "b.png")]
    assert len(watch(seen, "--once", "--changes", "--agree", "2/2").out.splitlines()) == 0
    assert "none of these (red wall" in watch(seen, "--once", "--accept", "0.8").out


def test_several_prompts_answer_on_each_frame(run, file: Path, tiny: Backbone, seen: Path, tmp_path: Path):
    other = write_prompt(tmp_path / "two.qpt", tiny, COLOURS[:2])
    result = run(
        "watch", seen, "--once", "--json", "--prompt", file, "--prompt", other, "--backbone", TINY_FOLDER
    )
    assert [row["prompt"] for row in result.rows] == ["walls", "two"] * 2


def test_what_cannot_be_read_is_told_and_the_others_are_answered(watch, seen: Path):
    (seen / "aa.jpg").write_bytes(b"no picture")
    result = watch(seen, "--once", "--json")
    assert result.code == 1
    assert result.err.splitlines() == [
        f"skipped {seen / 'aa.jpg'}: is not an image", "error: 1 frame could not be read"
    ]  # fmt: skip
    assert [row.get("label") for row in result.rows] == ["red wall", None, "blue wall", None]
    assert result.rows[1]["error"] == f"{seen / 'aa.jpg'}: is not an image"


# ---------------------------------------------------------------------- what is refused


def test_there_must_be_a_source_and_a_prompt(run, watch, seen: Path, tmp_path: Path):
    assert run("watch", seen).code == 2
    assert run("watch", "--prompt", tmp_path / "walls.qpt").code == 2
    assert_refused(watch("gone", "--json"), "gone: no such folder; expected a folder, a camera")
    assert_refused(
        run("watch", seen, "--prompt", tmp_path / "gone.qpt", "--json"), "gone.qpt", "No such file"
    )


@pytest.mark.parametrize(
    "words",
    [
        ("--region", "a=1,2"), ("--agree", "3"), ("--size", "640"), ("--size", "0x480"), ("--min-confidence", "2"),
        ("--fps", "0"), ("--still", "256"), ("--webhook", "file:///x"), ("--on-change", ""), ("--accept", "0.5"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_wrong_usage(watch, seen: Path, words: tuple[str, str]):
    result = watch(seen, "--once", *words)
    assert result.code == 2
    assert words[0] in result.err
    assert result.out == ""


def test_once_is_for_a_folder(watch):
    for source in ("-", "/dev/video9"):
        assert_refused(watch(source, "--once", "--json"), f"--once is for a folder, and {source} is none")


def test_memory_may_be_limited(watch, seen: Path):
    assert watch(seen, "--once", "--max-memory", "4000").code == 0
    assert_refused(watch(seen, "--once", "--max-memory", "1", "--json"), "--max-memory allows 1")


# ---------------------------------------------------------------------- a process of its own

ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1"}


def write_whole(path: Path, colour: tuple[int, int, int]) -> None:
    """A picture that is there at once, however slow the machine is that writes it."""
    out = io.BytesIO()
    Image.fromarray(picture(colour)).save(out, "PNG")
    write_atomic(path, out.getvalue())


@contextmanager
def started(*words: object, **settings: object) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-m", "qprompt_edge", "watch", *map(str, words)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **ENVIRONMENT, **settings.pop("env", {})}, **settings,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGTERM, 0, ""), (signal.SIGINT, 130, "interrupted\n")]
)
def test_a_service_ends_at_sigterm_and_a_person_ends_it_with_ctrl_c(seen, file, tmp_path, number, code, said):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(PATIENCE)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        with started(seen, "--prompt", file, "--backbone", TINY_FOLDER, "--json", env=environment) as process:
            assert systemd.recv(4096).decode().startswith("READY=1")
            rows = [json.loads(process.stdout.readline()) for _ in range(2)]
            write_whole(seen / "new.png", RED)
            rows.append(json.loads(process.stdout.readline()))
            process.send_signal(number)
            rest, err = process.communicate(timeout=PATIENCE)
        assert [row["label"] for row in rows] == ["red wall", "blue wall", "red wall"]
        assert (process.returncode, rest, err) == (code, "", said)
        systemd.setblocking(False)
        assert systemd.recv(4096).decode().startswith("STATUS=")


def test_stdin_ends_the_loop_when_it_ends(file, tmp_path):
    raw = picture(RED).tobytes() + picture(BLUE).tobytes()
    (tmp_path / "frames.raw").write_bytes(raw)
    words = ("watch", "-", "--size", "64x48", "--prompt", file, "--backbone", TINY_FOLDER, "--json")
    done = qprompt_edge(*words, streams=f"< {tmp_path / 'frames.raw'}")
    assert (done.returncode, done.stderr) == (0, b"")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["source"], row["label"]) for row in rows] == [("stdin", "red wall"), ("stdin", "blue wall")]
    nothing = qprompt_edge(*words, streams="< /dev/null")
    assert nothing.returncode == 1
    assert b"error: stdin: held no whole frame; expected JPEG files" in nothing.stderr


@pytest.mark.parametrize("streams", [">&-", "> /dev/full"])
def test_stdout_that_takes_nothing_stops_no_other_receiver(seen, file, tmp_path, streams):
    program = "sh -c 'echo \"$QPE_SOURCE\" >> told'"
    words = ("watch", seen, "--once", "--prompt", file, "--backbone", TINY_FOLDER, "--on-change", program)
    done = qprompt_edge(*words, streams=streams, folder=tmp_path)
    assert done.returncode == 1
    reason, dropped = done.stderr.decode().splitlines()
    assert reason.endswith("; answers are dropped until it takes them again")
    assert dropped == "error: 2 answers could not be written to stdout"
    assert (tmp_path / "told").read_text() == f"{seen / 'a.png'}\n{seen / 'b.png'}\n"


def test_a_reader_that_has_gone_ends_the_loop(seen, file):
    with started(seen, "--prompt", file, "--backbone", TINY_FOLDER) as process:
        assert "a.png" in process.stdout.readline()
        process.stdout.close()
        for number in range(3):
            write_whole(seen / f"new{number}.png", BLUE)
        assert process.wait(timeout=PATIENCE) == 1
        assert "Traceback" not in process.stderr.read()


def test_a_camera_that_is_lost_and_back_is_told_once(watch, seen: Path, monkeypatch: pytest.MonkeyPatch):
    """The folder is away at three looks, as a share is whose server starts anew."""
    look, looks, moment = folder_module._look, [], iter(range(1000))
    lost = {2, 3, 4}

    def flaky(folder: Path) -> dict:
        looks.append(next(moment))
        if looks[-1] in lost:
            raise folder_module.SourceLost(f"{folder}: Stale file handle")
        if looks[-1] == 7:
            raise KeyboardInterrupt
        Image.fromarray(picture(BLUE)).save(seen / "new.png") if looks[-1] == 5 else None
        return look(folder)

    monkeypatch.setattr(folder_module, "_look", flaky)
    clock = SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    clock.sleep = lambda seconds: setattr(clock, "now", clock.now + seconds)
    for module in (folder_module, steady):
        monkeypatch.setattr(module, "time", clock)
    result = watch(seen, "--json")
    assert result.code == 130
    assert result.err.splitlines() == [
        f"lost {seen}: Stale file handle; trying again", "the source is back", "interrupted",
    ]  # fmt: skip
    assert [Path(row["source"]).name for row in result.rows] == ["a.png", "b.png", "new.png"]
