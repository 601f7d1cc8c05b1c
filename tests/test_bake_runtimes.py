"""A baked classifier says the same in Python, in C, and in a browser without a network."""

import runpy
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from baking import EXAMPLES, LABELS, SCORES, residual_prompt
from PIL import Image

pytest.importorskip("onnx", reason="no onnx: pip install 'qprompt-edge[bake]'")

from qprompt_exporters.baking import bake
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.classifier import PromptClassifier
from qprompt_runtime.images import load_pixels, read_image
from qprompt_runtime.none_of_these import known_scores

ROOT = Path(__file__).parent.parent
RUNTIMES = runpy.run_path(str(ROOT / "benchmarks" / "baked_runtimes.py"))
PHOTOS = [min((EXAMPLES / label).iterdir()) for label in LABELS[::2]]


@pytest.fixture(scope="module")
def classifier(tiny: Backbone, tmp_path_factory: pytest.TempPathFactory) -> PromptClassifier:
    """With a threshold in the middle, so that some of the photos are refused."""
    prompt, folder = residual_prompt(tiny), tmp_path_factory.mktemp("nouns")
    trial = PromptClassifier(prompt, tiny, cache=folder, accept=0.9)
    pixels = np.stack([load_pixels(photo, tiny.manifest.image_transform) for photo in PHOTOS])
    features = tiny.encode_images(pixels)
    middle = float(np.float16(np.median(known_scores(trial.head.scores(features), features, trial.nouns))))
    calibration = replace(prompt.calibration, accept_scores=(middle,) * len(SCORES))
    return PromptClassifier(replace(prompt, calibration=calibration), tiny, cache=folder, accept=0.9)


@pytest.fixture(scope="module")
def model(classifier: PromptClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("baked") / "belt.onnx"
    bake(classifier, path, pixels="uint8")
    return path


@pytest.fixture(scope="module")
def prepared(classifier: PromptClassifier, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The pixels that the runtime prepares, as pictures: nothing is left to resize."""
    folder, size = tmp_path_factory.mktemp("prepared"), classifier.backbone.manifest.image_transform.size
    paths = []
    for number, photo in enumerate(PHOTOS):
        image = read_image(photo)  # square, as the input is
        image.resize(size, Image.Resampling.BICUBIC).save(folder / f"{number}.png")
        paths.append(folder / f"{number}.png")
    return paths


def answers(name: str, model: Path, photos: list[Path], folder: Path) -> list[tuple[str, float]]:
    """Best label and its probability in a runtime; skips the test where the runtime is not here."""
    more = () if name == "in_python" else (folder,)
    try:
        return RUNTIMES[name](model, photos, *more)
    except RUNTIMES["MissingError"] as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", ["in_python", "in_c", "in_browser"])
def test_each_runtime_answers_as_we_do(
    name: str, classifier: PromptClassifier, model: Path, prepared: list[Path], tmp_path: Path
) -> None:
    """Given our pixels to 1e-4, given the photos to 0.01."""
    found = answers(name, model, [*prepared, *PHOTOS], tmp_path)
    expected = [classifier.predict(photo) for photo in (*prepared, *PHOTOS)]
    labels = [RUNTIMES["NONE"] if one.none_of_these else one.label for one in expected]
    assert 0 < labels.count(RUNTIMES["NONE"]) < len(labels)
    assert [label for label, _ in found] == labels
    differences = np.abs([share for _, share in found] - np.array([one.probability for one in expected]))
    assert differences[: len(prepared)].max() < 1e-4
    assert differences.max() < 0.01


def test_the_example_in_c_has_sixty_lines_and_refuses_what_it_cannot_read(
    model: Path, tmp_path: Path
) -> None:
    source = ROOT / "examples" / "bake_c" / "classify.c"
    assert len(source.read_text(encoding="utf-8").splitlines()) <= 60
    try:
        program = RUNTIMES["build_c"](tmp_path)
    except RUNTIMES["MissingError"] as error:
        pytest.skip(str(error))
    done = subprocess.run([program, model, PHOTOS[0]], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {PHOTOS[0]} is no binary PPM with 8 bits a channel\n"
