"""`bake`: one ONNX file that says what the runtime says, in any onnxruntime."""

import builtins
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from baking import EXAMPLES, LABELS, SCORES, deep_prompt, residual_prompt
from command_line import Result, assert_refused
from conftest import TINY_FOLDER
from PIL import Image

onnx = pytest.importorskip("onnx", reason="no onnx: pip install 'qprompt-edge[bake]'")

import onnxruntime  # noqa: E402

from qprompt_exporters.baking import bake, model_file, photo_graph, update  # noqa: E402
from qprompt_runtime.backbone import Backbone  # noqa: E402
from qprompt_runtime.bundle import DEFAULT_BACKBONE  # noqa: E402
from qprompt_runtime.classifier import PromptClassifier  # noqa: E402
from qprompt_runtime.errors import BackboneMismatchError, BakeError  # noqa: E402
from qprompt_runtime.images import ImageTransform, load_pixels, to_pixels  # noqa: E402
from qprompt_runtime.prompt_file import write_prompt_file  # noqa: E402

Run = Callable[..., Result]
PHOTOS = [sorted((EXAMPLES / label).iterdir())[number] for label in LABELS for number in (0,)]


@pytest.fixture(scope="module")
def classifier(tiny: Backbone) -> PromptClassifier:
    return PromptClassifier(residual_prompt(tiny), tiny)


@pytest.fixture(scope="module")
def pixels(tiny: Backbone) -> np.ndarray:
    return np.stack([load_pixels(photo, tiny.manifest.image_transform) for photo in PHOTOS])


@pytest.fixture(scope="module")
def baked(classifier: PromptClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that takes prepared pixels; read only."""
    path = tmp_path_factory.mktemp("baked") / "belt.onnx"
    bake(classifier, path)
    return path


@pytest.fixture
def prompt_file(classifier: PromptClassifier, tmp_path: Path) -> Path:
    write_prompt_file(tmp_path / "belt.qpt", classifier.prompt)
    return tmp_path / "belt.qpt"


def answers(path: Path, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of a file, by name."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip([it.name for it in session.get_outputs()], session.run(None, feed), strict=True))


def facts(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def tower(path: Path) -> dict[str, bytes]:
    """The arrays of a file that do not belong to its head."""
    arrays = onnx.load(path).graph.initializer
    return {array.name: array.SerializeToString() for array in arrays if not array.name.startswith("head_")}


def test_files_with_a_second_name_are_read(classifier: PromptClassifier, baked: Path, tmp_path: Path) -> None:
    """Installers such as uv link files from their cache."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    for file in TINY_FOLDER.iterdir():
        shutil.copy(file, folder / file.name)
        os.link(folder / file.name, tmp_path / file.name)
    linked = PromptClassifier(classifier.prompt, Backbone.load(folder))
    bake(linked, tmp_path / "belt.onnx")
    assert (tmp_path / "belt.onnx").read_bytes() == baked.read_bytes()


# ------------------------------------------------------------------------------------------- what it answers


@pytest.mark.parametrize(("name", "accept"), [("tiny", 0.9), ("shipped", None)])
def test_probabilities_and_rejections_are_those_of_the_runtime(
    name: str, accept: float | None, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    backbone: Backbone = request.getfixturevalue(name)
    prompt = residual_prompt(backbone)
    shown = np.stack([load_pixels(photo, backbone.manifest.image_transform) for photo in PHOTOS])
    features = backbone.encode_images(shown)
    if accept is not None:  # a threshold between the photos, so that some are refused
        trial = PromptClassifier(prompt, backbone, accept=accept, cache=tmp_path)
        middle = float(np.float16(np.median(trial_scores(trial, features))))
        prompt = replace(
            prompt, calibration=replace(prompt.calibration, accept_scores=(middle,) * len(SCORES))
        )
    ours = PromptClassifier(prompt, backbone, accept=accept, cache=tmp_path)
    bake(ours, tmp_path / "belt.onnx")
    found = answers(tmp_path / "belt.onnx", {"pixels": shown})
    assert found["probabilities"] == pytest.approx(ours.probabilities(features), abs=1e-5)
    if accept is None:
        assert list(found) == ["probabilities"]
    else:
        refused = ours.none_of_these(features)
        assert 0 < refused.sum() < len(refused)
        assert found["none_of_these"].tolist() == refused.tolist()


def trial_scores(classifier: PromptClassifier, features: np.ndarray) -> np.ndarray:
    from qprompt_runtime.none_of_these import known_scores

    return known_scores(classifier.head.scores(features), features, classifier.nouns)


@pytest.mark.parametrize(("name", "coupled"), [("tiny", True), ("shipped", False)])
def test_image_prompts_become_part_of_the_tower(
    name: str, coupled: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    backbone: Backbone = request.getfixturevalue(name)
    ours = PromptClassifier(deep_prompt(backbone, coupled=coupled), backbone)
    bake(ours, tmp_path / "deep.onnx")
    shown = np.stack([load_pixels(photo, backbone.manifest.image_transform) for photo in PHOTOS[:4]])
    expected = ours.probabilities(ours.encode_images(shown))
    assert answers(tmp_path / "deep.onnx", {"pixels": shown})["probabilities"] == pytest.approx(
        expected, abs=1e-5
    )
    without = PromptClassifier(residual_prompt(backbone), backbone)
    with pytest.raises(BakeError, match=r"method qmaple are part of the image tower; bake it anew"):
        update(without, tmp_path / "deep.onnx", tmp_path / "deep.onnx")


def test_other_names_are_baked_as_predict_takes_them(
    tiny: Backbone, tmp_path: Path, pixels: np.ndarray
) -> None:
    ours = PromptClassifier(residual_prompt(tiny), tiny, ["tomato", "fire_engine"])
    bake(ours, tmp_path / "two.onnx")
    expected = ours.probabilities(tiny.encode_images(pixels))
    assert answers(tmp_path / "two.onnx", {"pixels": pixels})["probabilities"] == pytest.approx(
        expected, abs=1e-5
    )
    assert json.loads(facts(tmp_path / "two.onnx")["labels"]) == ["tomato", "fire_engine"]


@pytest.mark.parametrize(
    "size", [(128, 128), (375, 500), (501, 333), (40, 1600), (1300, 31), (20, 17), (1, 1)]
)
def test_photos_of_any_size(size: tuple[int, int], photo_model: Any) -> None:
    classifier, path = photo_model
    photo = Image.open(PHOTOS[0]).resize(size[::-1])
    (found,) = answers(path, {"image": np.asarray(photo)[None]})["probabilities"]
    pixels = to_pixels(photo, classifier.backbone.manifest.image_transform)[None]
    (expected,) = classifier.probabilities(classifier.encode_images(pixels))
    assert found == pytest.approx(expected, abs=0.01)


@pytest.fixture(scope="module")
def photo_model(classifier: PromptClassifier, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("photo") / "photo.onnx"
    bake(classifier, path, pixels="uint8")
    return classifier, path


def test_several_photos_at_once(photo_model: Any) -> None:
    classifier, path = photo_model
    photos = np.stack([np.asarray(Image.open(photo)) for photo in PHOTOS])
    together = answers(path, {"image": photos})["probabilities"]
    alone = [answers(path, {"image": photo[None]})["probabilities"][0] for photo in photos[:3]]
    assert together[:3] == pytest.approx(np.stack(alone), abs=1e-5)
    assert [LABELS[row.argmax()] for row in together] == [classifier.predict(photo).label for photo in PHOTOS]


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_the_graph_prepares_pixels_as_we_do(mode: str, size: tuple[int, int], interpolation: str) -> None:
    transform = ImageTransform(size, mode, interpolation, std=(0.5, 0.25, 0.125), fill_color=77)
    graph = onnx.GraphProto(name="photo")
    helper = onnx.helper
    uint8, floats = onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT
    graph.input.append(helper.make_tensor_value_info("image", uint8, ["N", "H", "W", 3]))
    graph.output.append(helper.make_tensor_value_info("pixels", floats, ["N", 3, *size]))
    photo_graph.append_photo(graph, transform)
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 18)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for height, width in ((375, 500), (64, 64), (33, 47), (301, 224), (130, 7), (3, 200), (1, 1)):
        photo = Image.open(PHOTOS[3]).resize((width, height))
        found = session.run(None, {"image": np.asarray(photo)[None]})[0][0]
        steps = np.abs(found - to_pixels(photo, transform)) * np.reshape(transform.std, (3, 1, 1)) * 255
        assert steps.max() < 2.01, (height, width)
        assert steps.mean() < 0.25, (height, width)


# --------------------------------------------------------------------------------------------- what it holds


def test_only_standard_operators_and_what_old_runtimes_read(baked: Path) -> None:
    model = onnx.load(baked)
    assert model.ir_version == 9
    assert [(it.domain, it.version) for it in model.opset_import] == [("", 18)]
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    onnx.checker.check_model(model, full_check=True)


def test_the_metadata_says_what_a_program_needs(classifier: PromptClassifier, baked: Path) -> None:
    found, manifest = facts(baked), classifier.backbone.manifest
    assert json.loads(found["labels"]) == list(LABELS)
    assert [found[f"label.{number}"] for number in range(len(LABELS))] == list(LABELS)
    assert json.loads(found["preprocessing"])["size"] == list(manifest.image_transform.size)
    assert (found["backbone"], found["fingerprint"]) == (manifest.name, manifest.fingerprint)
    assert (found["pixels"], found["precision"]) == ("float32", "fp16")
    assert float(found["logit_scale"]) == classifier.prompt.calibration.logit_scale
    assert "none_of_these_below" not in found


def test_the_same_prompt_gives_the_same_bytes(
    classifier: PromptClassifier, baked: Path, tmp_path: Path
) -> None:
    bake(classifier, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == baked.read_bytes()


@pytest.mark.parametrize(
    ("precision", "share", "most"), [("fp32", 2.0, 1e-5), ("fp16", 1.0, 1e-5), ("int8", 0.55, 0.1)]
)
def test_storage(
    precision: str,
    share: float,
    most: float,
    classifier: PromptClassifier,
    baked: Path,
    tmp_path: Path,
    pixels: Any,
) -> None:
    bake(classifier, tmp_path / "other.onnx", precision=precision)
    size = (tmp_path / "other.onnx").stat().st_size / baked.stat().st_size
    assert size == pytest.approx(share, abs=0.05)
    expected = classifier.probabilities(classifier.encode_images(pixels))
    found = answers(tmp_path / "other.onnx", {"pixels": pixels})["probabilities"]
    assert found == pytest.approx(expected, abs=most)
    assert facts(tmp_path / "other.onnx")["precision"] == precision


def test_a_tower_that_is_too_large_for_one_file(
    classifier: PromptClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_file, "MOST_BYTES", 5_000_000)
    with pytest.raises(BakeError, match=r"would have 0.0 GB, .* --precision fp16 or int8"):
        bake(classifier, tmp_path / "large.onnx")
    assert not (tmp_path / "large.onnx").exists()


def test_a_tower_of_integers_stays_as_it_is(tiny: Backbone, tmp_path: Path) -> None:
    """Its scales span a run, so that one photo at a time goes in."""
    graph = replace(tiny.manifest.image_graph, precision="int8", max_batch=1)
    backbone = type(tiny)(tiny.folder, manifest=replace(tiny.manifest, image_graph=graph))
    classifier = PromptClassifier(residual_prompt(tiny), backbone)
    assert bake(classifier, tmp_path / "int8.onnx").precision == "int8"
    (taken,) = onnxruntime.InferenceSession(str(tmp_path / "int8.onnx")).get_inputs()
    assert taken.shape == [1, 3, *tiny.manifest.image_transform.size]
    with pytest.raises(BakeError, match="an int8 bundle cannot be baked as fp16"):
        bake(classifier, tmp_path / "half.onnx", precision="fp16")
    assert not (tmp_path / "half.onnx").exists()


def test_a_backbone_that_runs_in_int8_here_is_baked_in_floating_point(tmp_path: Path) -> None:
    """So the file is the same wherever it is written, and is compared with the tower that it has."""
    found = {}
    for precision in ("float", "int8"):
        frozen = Backbone.load(DEFAULT_BACKBONE, threads=1, precision=precision)
        done = bake(PromptClassifier(residual_prompt(frozen), frozen), tmp_path / precision)
        found[precision] = (tmp_path / precision).read_bytes()
        assert done.precision == "fp16"
    assert found["int8"] == found["float"]


# ---------------------------------------------------------------------------------------------- another head


def test_update_replaces_the_head_alone(
    tiny: Backbone, classifier: PromptClassifier, baked: Path, pixels: np.ndarray, tmp_path: Path
) -> None:
    """Classes, temperature and threshold come and go; the image tower is not even opened."""
    path, alone = tmp_path / "belt.onnx", Backbone(TINY_FOLDER)
    path.write_bytes(baked.read_bytes())
    fewer = PromptClassifier(residual_prompt(tiny, LABELS[:3], seed=5), alone, cache=tmp_path, accept=0.9)
    done = update(fewer, path, path)
    assert alone._image_tower.session is None
    assert tower(path) == tower(baked)
    found = answers(path, {"pixels": pixels})
    features = tiny.encode_images(pixels)
    assert found["probabilities"] == pytest.approx(fewer.probabilities(features), abs=1e-5)
    assert found["none_of_these"].tolist() == fewer.none_of_these(features).tolist()
    assert json.loads(facts(path)["labels"]) == list(done.labels) == list(LABELS[:3])
    assert "label.3" not in facts(path)
    update(classifier, path, path)
    assert path.read_bytes() == baked.read_bytes()


def test_update_refuses_another_backbone(shipped: Backbone, baked: Path, tmp_path: Path) -> None:
    other = PromptClassifier(residual_prompt(shipped), shipped)
    with pytest.raises(BackboneMismatchError, match=r"baked with backbone 'tiny' .* tuned for 'small'"):
        update(other, baked, tmp_path / "new.onnx")


# ------------------------------------------------------------------------------------------ the command line


def test_the_command(run: Run, prompt_file: Path, classifier: PromptClassifier, tmp_path: Path) -> None:
    out = tmp_path / "belt.onnx"
    on = ("--backbone", TINY_FOLDER)
    done = run("bake", prompt_file, "--out", out, "--pixels", "uint8", "--accept", 0.9, *on, "--json")
    assert done.code == 0, done.err
    assert done.json["bytes"] == out.stat().st_size
    assert (done.json["classes"], done.json["none_of_these"]) == (list(LABELS), True)
    assert done.json["difference"] < 1e-4
    found = answers(out, {"image": np.asarray(Image.open(PHOTOS[0]))[None]})
    assert set(found) == {"probabilities", "none_of_these"}

    plain = run("bake", prompt_file, "--update", out, *on)
    assert plain.code == 0, plain.err
    assert "8 classes" in plain.out
    assert plain.err.startswith(f"wrote {out}: ")
    assert set(answers(out, {"image": np.asarray(Image.open(PHOTOS[0]))[None]})) == {"probabilities"}


def test_what_stands_at_out_is_not_lost(run: Run, prompt_file: Path, baked: Path, tmp_path: Path) -> None:
    on = ("--backbone", TINY_FOLDER, "--json")
    other = tmp_path / "notes.onnx"
    other.write_text("mine")
    assert_refused(run("bake", prompt_file, "--out", other, *on), "no baked classifier", "--force")
    assert other.read_text() == "mine"
    other.write_bytes(baked.read_bytes())
    assert_refused(
        run("bake", prompt_file, "--out", other, "--classes", "bolt,cat", *on),
        "another task's classifier",
        "bolt, ",
    )
    assert run("bake", prompt_file, "--out", other, *on).code == 0
    assert run("bake", prompt_file, "--out", other, "--classes", "bolt,cat", "--force", *on).json[
        "classes"
    ] == [
        "bolt",
        "cat",
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot read"), (b"no model", "no ONNX file"), (b"", "metadata has the format None")],
)
def test_update_of_something_else(
    run: Run, prompt_file: Path, tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "belt.onnx"
    if content is not None:
        path.write_bytes(content)
    assert_refused(run("bake", prompt_file, "--update", path, "--backbone", TINY_FOLDER, "--json"), words)


@pytest.mark.parametrize("options", [(), ("--update", "a.onnx", "--pixels", "uint8")])
def test_options_that_do_not_go_together(run: Run, prompt_file: Path, options: tuple[str, ...]) -> None:
    assert run("bake", prompt_file, *options).code == 2


def test_the_policy_holds(run: Run, prompt_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    done = run(
        "bake", prompt_file, "--out", tmp_path / "x.onnx", "--backbone", TINY_FOLDER, "--policy", "enforce"
    )
    assert done.code == 3, done.err
    assert not (tmp_path / "x.onnx").exists()


@pytest.fixture
def without_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("qprompt_exporters.baking")]:
        monkeypatch.delitem(sys.modules, name)
    plain = builtins.__import__

    def refuse(name: str, *arguments: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "onnx":
            raise ModuleNotFoundError("No module named 'onnx'")
        return plain(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.mark.usefixtures("without_onnx")
def test_without_onnx(run: Run, prompt_file: Path, tmp_path: Path) -> None:
    done = run("bake", prompt_file, "--out", tmp_path / "x.onnx", "--json")
    assert_refused(done, "baking needs onnx", "pip install 'qprompt-edge[bake]'")
