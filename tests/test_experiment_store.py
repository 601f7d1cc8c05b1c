"""The folder of an experiment: whose it is, and what is said if it is another one's or damaged."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from small_experiments import experiment, write_alike

from qprompt_edge.reproduction.experiment import Experiment
from qprompt_runtime.errors import OutputError, WorkDirError


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_alike(tmp_path_factory.mktemp("store") / "photos")


@pytest.fixture
def finished(alike: Path, tmp_path: Path) -> tuple[Experiment, Path]:
    running = experiment(alike, ["zero-shot"], [1])
    running.run(tmp_path / "out")
    return running, tmp_path / "out"


def refusal(running: Experiment, out: Path) -> str:
    with pytest.raises(WorkDirError) as caught:
        running.run(out).outcomes()
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("topic", ["training", "data set odd", "backbone", "graphs"])
def test_the_folder_of_another_experiment_is_refused(finished: tuple[Experiment, Path], topic: str) -> None:
    running, out = finished
    before = (out / "experiment.json").read_bytes()
    if topic == "training":
        running = replace(running, training={"epochs": 3})
    elif topic == "data set odd":
        (odd,) = running.sets.values()
        running = replace(running, sets={"odd": replace(odd, pool=odd.pool.select(range(31)))})
    else:
        known = json.loads(before)
        known[topic] = {"name": "another"}
        (out / "experiment.json").write_text(json.dumps(known))
        before = (out / "experiment.json").read_bytes()
    message = refusal(running, out)
    assert message.startswith(f"{out} holds an experiment with another {topic} (")
    assert message.endswith("; choose another --out, or delete it")
    assert (out / "experiment.json").read_bytes() == before


def test_a_folder_with_other_files_is_refused(alike: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    message = refusal(experiment(alike), tmp_path)
    assert message == f"{tmp_path} holds files but no experiment; choose an empty folder as --out"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_place_of_the_folder_is_refused(alike: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    assert "choose an empty folder as --out" in refusal(experiment(alike), tmp_path / "out")


@pytest.mark.parametrize("content", ["", "{", "[]", "\ufffd"])
def test_a_damaged_experiment_file_is_said(finished: tuple[Experiment, Path], content: str) -> None:
    running, out = finished
    (out / "experiment.json").write_text(content, encoding="utf-16")
    message = refusal(running, out)
    assert re.match(
        rf"{out}/experiment\.json is damaged \(.*\); delete it, or choose another --out$", message
    )


@pytest.mark.parametrize("damage", ["cut", "list", "no job", "other job", "bits", "text"])
def test_a_damaged_outcome_is_said_and_runs_again_once_deleted(
    finished: tuple[Experiment, Path], damage: str
) -> None:
    running, out = finished
    (path,) = (out / "jobs").iterdir()
    text = path.read_text()
    value = json.loads(text)
    value["right"][0]["bits"] = "!" if damage == "bits" else value["right"][0]["bits"]
    value["job"] = {"no job": None, "other job": {"a": 1}}.get(damage, value["job"])
    value["right"] = "text" if damage == "text" else value["right"]
    content = {"cut": text[: len(text) // 2], "list": "[1]"}.get(damage, json.dumps(value))
    path.write_text(content)
    message = refusal(running, out)
    assert message.startswith(f"{path} is damaged (")
    assert "delete it" in message
    path.unlink()
    assert len(running.run(out).outcomes()) == 1


def test_a_folder_that_cannot_be_written_is_said_before_anything_runs(alike: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        experiment(alike).run(tmp_path / "file" / "out")
