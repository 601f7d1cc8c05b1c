"""`reproduce` as people and scripts use it.

What it prints and writes, how it continues, and what it refuses.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Result, assert_refused
from conftest import TINY_FOLDER
from dataset_layouts import write_set
from patience import PATIENCE, wait_until
from scenes import write_photos
from small_experiments import write_alike

TOLD = re.compile(r"^(\d+) jobs?; the report is (.*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets with the same classes, and one with others."""
    folder = tmp_path_factory.mktemp("reproduce")
    write_alike(folder / "odd", count=6)
    write_alike(folder / "even", count=3)
    write_alike(folder / "far", classes=("ant", "bee", "cow"), count=2)
    return folder


@pytest.fixture
def reproduce(run: Callable[..., Result], alike: Path, tmp_path: Path) -> Callable[..., Result]:
    """`reproduce("odd", "far", ...)`: the command on some of the sets, small and into one folder."""

    def call(*arguments: object) -> Result:
        sets = [name for name in arguments if name in ("odd", "even", "far")]
        named = [word for name in sets for word in ("--set", f"{name}={alike / str(name)}")]
        rest = arguments[len(sets) :]
        defaults = ("--shots", 2, "--seeds", "1,2", "--epochs", 2, "--jobs", 1)
        return run("reproduce", *named, "--out", tmp_path / "out", *defaults, *rest)

    return call


def job_files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "jobs").glob("*.json")}


# ---------------------------------------------------------------------- each protocol

PROTOCOLS = {
    "base2new": (("odd", "far"), (), {"base", "new", "H"}),
    "few-shot": (("odd",), ("--shots", "1,2"), {"top1"}),
    "cross-dataset": (("odd", "far"), (), {"top1"}),
    "domain": (("odd", "even"), (), {"top1"}),
}
UNITS = {
    "base2new": {("odd", "odd"), ("far", "far")},
    "few-shot": {("odd", "odd")},
    "cross-dataset": {("odd", "odd"), ("odd", "far")},
    "domain": {("odd", "odd"), ("odd", "even")},
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_protocol_from_photos_to_the_report(
    reproduce: Callable[..., Result], alike: Path, tmp_path: Path, protocol: str
) -> None:
    sets, more, metrics = PROTOCOLS[protocol]
    if protocol == "base2new":
        more = ("--shots", 1)  # the far set has two photos of each class
    arguments = (*sets, "--protocol", protocol, "--methods", "zero-shot,qcoop-1,probe", *more, "--json")
    result = reproduce(*arguments)
    assert result.code == 0, result.err
    out = tmp_path / "out"
    assert result.out.count("\n") == 1
    assert json.loads((out / "results.json").read_text()) == result.json
    assert set(result.json) == {"experiment", "results", "claims"}
    assert result.json["experiment"]["training"] == {"epochs": 2}
    shots = [1, 2] if protocol == "few-shot" else [1] if protocol == "base2new" else [2]
    found = {(item["protocol"], item["shots"], item["method"]): item for item in result.json["results"]}
    assert list(found) == [(protocol, n, name) for n in shots for name in ("zero-shot", "qcoop-1", "probe")]
    for (_, _, name), item in found.items():
        assert item["payload_bytes"] == 100 or name != "qcoop-1"
        assert item["metrics"].keys() == (metrics if name != "probe" else metrics - {"new", "H"})
        for metric in item["metrics"].values():
            units = {(unit["source"], unit["target"]) for unit in metric["units"]}
            far = {unit for unit in UNITS[protocol] if protocol == "cross-dataset" and "far" in unit}
            assert units == UNITS[protocol] - (far if name == "probe" else set())
            assert all(0 <= unit["mean"] <= 1 and unit["seeds"] == 2 for unit in metric["units"])
    told = TOLD.search(result.err)
    assert told is not None
    assert int(told[1]) == len(job_files(out)) == sum(item["runs"] for item in found.values())
    assert told[2] == str(out / "results.md")
    text = (out / "results.md").read_text()
    for shown in (result.err, text):
        assert all(title in shown for title in ("zero-shot", "QCoOp, 1 bit", "linear probe"))
    assert "| QCoOp, 1 bit |" in text


def test_protocols_gather_in_one_folder_and_a_rerun_does_nothing_again(
    reproduce: Callable[..., Result], tmp_path: Path
) -> None:
    first = reproduce("odd", "--methods", "coop,zero-shot", "--json")
    assert (first.code, first.json["results"][0]["protocol"]) == (0, "base2new")
    both = reproduce("odd", "--protocol", "few-shot", "--methods", "zero-shot", "--json")
    assert [item["protocol"] for item in both.json["results"]] == ["base2new", "base2new", "few-shot"]
    assert both.json["results"][:2] == first.json["results"]
    files = job_files(tmp_path / "out")
    written = {name: (tmp_path / "out" / name).read_bytes() for name in ("results.md", "results.json")}
    again = reproduce("odd", "--methods", "coop,zero-shot", "--json")
    assert again.code == 0
    assert "4 of 4 jobs are done already" in again.err
    assert again.json == both.json
    assert job_files(tmp_path / "out") == files
    assert {name: (tmp_path / "out" / name).read_bytes() for name in written} == written


def test_a_named_set_and_a_report_elsewhere(run: Callable[..., Result], tmp_path: Path) -> None:
    write_set(tmp_path / "data", "eurosat")
    out, report = tmp_path / "out", tmp_path / "elsewhere" / "paper.md"
    arguments = ("--set", "eurosat", "--data", tmp_path / "data", "--methods", "ensemble,tip-adapter")
    places = ("--out", out, "--report", report)
    result = run("reproduce", *arguments, "--shots", 1, "--seeds", 0, "--jobs", 1, *places)
    assert result.code == 0, result.err
    assert "Tip-Adapter" in result.out
    assert "eurosat" in report.read_text()
    assert not (out / "results.md").exists()
    assert (out / "results.json").exists()


def test_plots_lie_beside_the_report(reproduce: Callable[..., Result], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    result = reproduce("odd", "--methods", "coop,qcoop-1", "--seeds", 1, "--plots")
    assert result.code == 0, result.err
    links = re.findall(r"!\[.*\]\((.*)\)", (tmp_path / "out" / "results.md").read_text())
    assert len(links) >= 1
    assert all((tmp_path / "out" / link).read_bytes().startswith(b"\x89PNG") for link in links)


# ---------------------------------------------------------------------- refusals

USAGE = {
    "unknown method 'qcoop'": ("--methods", "coop,qcoop"),
    "unknown method ''": ("--methods", "coop,"),
    "'1,,2' is not a list of whole numbers": ("--seeds", "1,,2"),
    "'one' is not a list of whole numbers": ("--seeds", "one"),
    "'-1' has a number below 0": ("--seeds", "-1"),
    "'' is not a list of whole numbers": ("--shots", ""),
    "'4,0' has a number below 1": ("--shots", "4,0"),
    "--protocol base2new takes one number of --shots, got 2": ("--shots", "1,2"),
    "--protocol domain takes one number of --shots, got 3": ("--protocol", "domain", "--shots", "1,2,4"),
    "--protocol cross-dataset needs a --set to train on": ("--protocol", "cross-dataset"),
    "--protocol domain needs a --set to train on": ("--protocol", "domain"),
    "--protocol": ("--protocol", "zero-shot"),
    "--jobs": ("--jobs", "-1"),
    "--epochs": ("--epochs", "0"),
}


@pytest.mark.parametrize("words", USAGE)
def test_wrong_usage_is_said_before_anything_is_read_or_written(
    reproduce: Callable[..., Result], tmp_path: Path, words: str
) -> None:
    result = reproduce("odd", *USAGE[words])
    assert result.code == 2
    assert "Usage: " in result.err
    shown = " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.err).split())
    assert words in shown
    assert "Traceback" not in result.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--set", "--out"])
def test_sets_and_out_have_to_be_given(run: Callable[..., Result], tmp_path: Path, option: str) -> None:
    given = {"--set": "odd=x", "--out": tmp_path / "out"}
    del given[option]
    result = run("reproduce", *(word for pair in given.items() for word in pair))
    assert result.code == 2
    assert option in result.err


def test_sets_that_cannot_be_used(run: Callable[..., Result], alike: Path, tmp_path: Path) -> None:
    def refused(*words: str, sets: tuple[str, ...], more: tuple[object, ...] = ()) -> None:
        named = [word for text in sets for word in ("--set", text)]
        assert_refused(run("reproduce", *named, "--out", tmp_path / "out", *more, "--json"), *words)

    refused("no such folder", "gone", sets=(f"a={tmp_path / 'gone'}",))
    refused("unknown data set cat", "NAME=FOLDER", sets=("cat",))
    refused("DTD: missing", "split_zhou", sets=("dtd",), more=("--data", tmp_path))
    refused("named twice", sets=(f"a={alike / 'odd'}",) * 2)
    refused("no photo left to test on", "--shots", sets=(f"a={alike / 'odd'}",))  # 16 by default
    write_photos(tmp_path / "one", classes=("only",))
    refused("only one class", sets=(f"a={tmp_path / 'one'}",))
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_experiment(reproduce: Callable[..., Result]) -> None:
    assert reproduce("odd", "--methods", "zero-shot").code == 0
    assert_refused(reproduce("odd", "--epochs", 3, "--json"), "another training", '{"epochs": 2}', "--out")
    assert_refused(reproduce("odd", "--lr", 0.1, "--json"), "another training")


def test_a_backbone_and_a_provider_that_are_not_there(reproduce: Callable[..., Result]) -> None:
    assert_refused(reproduce("odd", "--backbone", "huge", "--json"), "huge", "small")
    assert_refused(reproduce("odd", "--provider", "abacus", "--json"), "abacus", "cpu")
    assert_refused(reproduce("odd", "--max-memory", 20, "--json"), "--max-memory")


def test_plots_without_matplotlib_are_refused_before_anything_runs(
    reproduce: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    words = ("plots need matplotlib", "pip install 'qprompt-edge[plots]'")
    assert_refused(reproduce("odd", "--plots", "--json"), *words)
    assert not (tmp_path / "out").exists()
    assert reproduce("odd", "--methods", "zero-shot").code == 0


# ---------------------------------------------------------------------- interruption

LONG = (
    "--methods",
    "coop,qcoop-1,qcoop-4",
    "--seeds",
    "1,2",
    "--shots",
    "2",
    "--epochs",
    "40",
    "--jobs",
    "2",
    "--backbone",
    str(TINY_FOLDER),
)


PAUSED = """
import sys, time
from qprompt_edge.cli import main
from qprompt_edge.reproduction.store import Store
plain = Store.put

def pausing(self, outcome):
    plain(self, outcome)
    time.sleep(600)

Store.put = pausing
main(sys.argv[1:])
"""
"""The command line, which waits after its first outcome until it is interrupted, however fast workers are."""


def nobody_in(group: int) -> bool:
    """Whether a process group has ended; those of it that nobody has asked for may take a moment."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, 0)
        return False
    return True


def command_and_process(alike: Path, out: Path) -> tuple[list[str], subprocess.Popen[str]]:
    """A run in a process group of its own that keeps its first outcome and waits; and its command."""
    arguments = ["reproduce", "--set", f"odd={alike / 'odd'}", "--out", str(out), *LONG]
    process = subprocess.Popen(
        [sys.executable, "-c", PAUSED, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: job_files(out) or process.poll() is not None, "the first outcome")
    return [sys.executable, "-m", "qprompt_edge", *arguments], process


def test_workers_end_with_a_parent_that_is_killed(alike: Path, tmp_path: Path) -> None:
    _, process = command_and_process(alike, tmp_path / "out")
    process.kill()
    process.communicate(timeout=PATIENCE)
    wait_until(lambda: nobody_in(process.pid), "the workers to end")


def test_ctrl_c_ends_every_process_and_the_rerun_finishes(alike: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command, process = command_and_process(alike, out)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    printed, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, said
    assert (printed, said.splitlines()[-1]) == ("", "interrupted")
    assert "Traceback" not in said
    wait_until(lambda: nobody_in(process.pid), "the workers to end")
    done = len(job_files(out))
    assert done == 1
    again = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert f"{done} of 6 jobs are done already" in again.stderr
    assert [item["runs"] for item in json.loads(again.stdout)["results"]] == [2, 2, 2]
