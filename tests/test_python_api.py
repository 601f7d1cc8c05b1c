"""The Python calls that users meet: flat, with the command line's names and defaults, and in words."""

import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from conftest import TINY_FOLDER
from scenes import write_photos

import qprompt_edge
import qprompt_runtime
from qprompt_edge import AdaptResult, Backbone, Prediction, PromptClassifier, adapt
from qprompt_edge.adaptation.options import CONTEXTS
from qprompt_edge.cli import adapt as command_module
from qprompt_edge.tuning.config import TrainingConfig
from qprompt_edge.tuning.methods import METHODS, default_training
from qprompt_runtime.deep_backbone import DeepBackbone
from qprompt_runtime.errors import BundleError


@pytest.fixture
def result(photos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AdaptResult:
    monkeypatch.setenv("QPE_CACHE", str(tmp_path / "cache"))
    return adapt(photos, bits=2, epochs=2, seed=3, threads=1)


@pytest.mark.parametrize("package", [qprompt_edge, qprompt_runtime])
def test_every_public_name_is_listed_and_can_be_imported(package):
    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        assert getattr(package, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'TrainingConfig'"):
        _ = qprompt_edge.TrainingConfig


def test_importing_the_package_imports_nothing_that_it_does_not_need():
    code = "import qprompt_edge, sys; print(sorted(m for m in ('numpy', 'onnxruntime', 'PIL') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_function_and_the_command_have_the_same_options_and_defaults():
    function, command = (inspect.signature(one).parameters for one in (adapt, command_module.command))
    own = {"images", "out", "force", "report", "as_json"}  # where the command reads and writes
    own |= {"policy", "trust", "key", "task"}  # and what it signs
    assert set(function) - {"reporter"} == set(command) - own
    for name in set(function) - {"photos", "reporter"}:
        given = command[name].default
        assert function[name].default == given, name
    assert get_args(command_module.Method) == METHODS
    assert get_args(command_module.Contexts) == CONTEXTS


def test_what_was_told_is_what_ran(result):
    training = default_training("qtaskres", bits=2, epochs=2, seed=3)
    assert result.options.training == training
    assert result.options.threads == 1
    assert result.steps == 2
    assert result.prompt.groups[0].bits == 2


def test_training_has_no_defaults_that_are_one_methods_own():
    with pytest.raises(TypeError, match="epochs"):
        TrainingConfig()
    assert default_training("qmaple").batch_size != default_training("qcoop").batch_size


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"method": "magic"}, "method is 'magic', expected one of qtaskres, qcoop, qmaple, qmaple-coupled"),
        ({"contexts": "own"}, "contexts is 'own', expected one of shared, per-class"),
        ({"method": "qmaple", "contexts": "per-class"}, "method 'qmaple' has shared contexts only"),
        ({"bits": 5}, "bits is 5"),
        ({"epochs": 0}, "epochs (0)"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"seed": -1}, "seed (-1)"),
        ({"shots": 0}, "shots (0)"),
        ({"views": -1}, "views (-1)"),
        ({"holdout": 1.0}, "holdout is 1.0, expected a share from 0 to 0.9"),
    ],
)
def test_arguments_out_of_range_are_refused_before_anything_is_read(given, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        adapt("no such folder", **given)


def test_the_summary_is_what_the_command_prints(run, photos, result, tmp_path):
    out = tmp_path / "p.qpt"
    printed = run("adapt", photos, "--bits", 2, "--epochs", 2, "--seed", 3, "--threads", 1, "--out", out)
    lines = result.summary().splitlines()
    assert lines[0] == "On 3 photos not trained on"
    assert "Too close to call with 3 photos" in lines[-2]
    assert printed.out.splitlines() == lines[:-1]
    took = re.compile(r" and [0-9.]+ s \(.*\)$")  # differs from run to run
    assert took.sub("", printed.err.splitlines()[-1]) == f"wrote {out}: {took.sub('', lines[-1])}"


def test_the_summary_names_what_was_left_out_in_one_line_each(photos, tmp_path):
    (photos / "blue sky" / "odd\nname.png").write_bytes(b"")
    result = adapt(photos, epochs=1, holdout=0)
    lines = result.summary().splitlines()
    assert lines[0].startswith("skipped ")
    assert r"odd\nname.png: " in lines[0]
    assert lines[1].startswith("Nothing was held out")
    assert len(lines) == 3


def test_a_result_can_be_used_at_once_and_saved(result, photos, tmp_path):
    result.save(tmp_path / "p.qpt")
    photo = next(photos.rglob("*.png"))
    loaded = PromptClassifier.load(tmp_path / "p.qpt", threads=1)
    assert result.classifier().predict(photo, top_k=3) == loaded.predict(photo, top_k=3)


def test_what_things_say_of_themselves(result, photos):
    classifier = result.classifier()
    assert repr(result) == (
        f"<AdaptResult qtaskres, 2 bit, 3 classes: {result.holdout.zero_shot.top1:.1%} before, "
        f"{result.holdout.adapted.top1:.1%} after, on 3 photos>"
    )
    assert repr(result.prompt) == "<PromptFile qtaskres, 2 bit, 3 classes for small>"
    assert repr(classifier) == (
        "<PromptClassifier qtaskres on small, 3 classes: blue sky, green grass, red brick>"
    )
    assert re.fullmatch(r"<(Deep)?Backbone small, 224 x 224, CPU, .*small>", repr(classifier.backbone))
    assert repr(Prediction(("a\n", "b", "c", "d"), (0.5, 0.25, 0.125, 0.125))) == (
        r"<Prediction a\n 50.0%, b 25.0%, c 12.5%, ...>"
    )


def test_a_backbone_finds_out_by_itself_whether_it_has_deep_prompts(tmp_path):
    assert isinstance(Backbone.load(TINY_FOLDER), DeepBackbone)
    folder = shutil.copytree(TINY_FOLDER, tmp_path / "plain")
    facts = json.loads((folder / "manifest.json").read_text("utf-8"))
    facts["deep"] = None
    (folder / "manifest.json").write_text(json.dumps(facts), "utf-8")
    assert type(Backbone.load(folder)) is Backbone
    with pytest.raises(BundleError, match="--deep-prompts"):
        adapt(write_photos(tmp_path / "photos"), backbone=folder, method="qmaple")
