"""The process that holds the models: left alone, killed, or started in a strange place."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY_FOLDER
from patience import PATIENCE, wait_until
from scenes import write_photo, write_photos

from qprompt_edge.server.engine import Cancelled, Engine, Lost, start_child
from qprompt_edge.server.refusal import Refusal

SETTINGS = {"backbone": str(TINY_FOLDER), "provider": "auto", "threads": 1}
LONG = {"options": {"epochs": 100_000, "method": "qcoop"}, "name": "x"}


@pytest.fixture
def engine():
    engine = Engine(SETTINGS, idle=600)
    yield engine
    engine.close(5)


def adapt_order(engine: Engine, tmp_path: Path):
    photos = write_photos(tmp_path / "photos")
    return engine.order("adapt", {"photos": str(photos), "out": str(tmp_path / "out.qpt"), **LONG})


def test_the_current_folder_lends_it_no_modules(engine, tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('this is not numpy')")
    (tmp_path / "json.py").write_text("raise SystemExit('this is not json')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refusal, match="cannot be read"):
        engine.ask("predict", {"prompt": str(tmp_path / "none.qpt"), "photo": "x", "accept": None})


def test_a_cancelled_order_can_be_gone_on_with(engine, tmp_path):
    order = adapt_order(engine, tmp_path)
    stages = []

    def tell(message):
        stages.append(message.get("stage"))
        if stages[-1] == "tuning the prompt":
            order.cancel()

    with pytest.raises(Cancelled):
        order.result(tell)
    notes = []
    again = engine.order(
        "adapt", {"photos": str(tmp_path / "photos"), "out": str(tmp_path / "out.qpt"), **LONG}
    )

    def listen(message):
        notes.append(message.get("note") or "")
        if message.get("stage") == "tuning the prompt":
            again.cancel()

    with pytest.raises(Cancelled):
        again.result(listen)
    assert any(note.startswith("resuming at step") for note in notes)


def test_it_is_started_anew_when_it_was_killed(engine, tmp_path):
    order = adapt_order(engine, tmp_path)
    pid = engine.pid
    order.messages.get()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Lost, match="memory"):
        order.result()
    write_photo(tmp_path / "photo.png", (1, 2, 3), 1)
    with pytest.raises(Refusal, match="cannot be read"):
        engine.ask("predict", {"prompt": "none.qpt", "photo": str(tmp_path / "photo.png"), "accept": None})
    assert engine.pid not in (None, pid)


def test_it_ends_when_it_is_not_used(tmp_path):
    children: list[subprocess.Popen[bytes]] = []

    def start(settings):
        children.append(start_child(settings))
        return children[-1]

    engine = Engine(SETTINGS, idle=0.5, start=start)
    engine.warm()
    (child,) = children
    child.wait(PATIENCE)
    wait_until(lambda: engine.pid != child.pid)
    engine.warm()
    assert len(children) == 2
    engine.close(5)


def test_nothing_is_ordered_after_the_end(engine):
    engine.close(5)
    with pytest.raises(Refusal, match="ending"):
        engine.order("adapt", {})
    engine.warm()
    assert engine.pid is None


def test_the_server_itself_loads_no_model_library(tmp_path):
    code = "import sys, qprompt_edge.server.serve; print(sorted({'onnxruntime', 'regex', 'ftfy'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
