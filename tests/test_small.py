"""The embedded backbone `small`, the default.

The bundle is the trained model, fits its budget, and helps at once.
"""

import json
from pathlib import Path

import numpy as np
import pytest

import qprompt_runtime
from qprompt_edge import adapt
from qprompt_edge.data.photos import find_photos
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.bundle import DEFAULT_BACKBONE, verify_hashes
from qprompt_runtime.classifier import PromptClassifier
from qprompt_runtime.images import load_pixels
from qprompt_runtime.none_of_these import encode_nouns, noun_file

LARGEST_SHIPPED = 30 * 10**6  # bytes, of all backbones in the wheel
LEAST_GAIN, LEAST_RIGHT = 0.10, 0.90
LEAST_INT8_COSINE, LEAST_INT8_COSINE_OF_A_PHOTO = 0.998, 0.99
PHOTOS = Path(__file__).parent.parent / "examples" / "photos"


def test_the_bundle_is_whole_and_says_what_it_is(shipped: Backbone) -> None:
    manifest = verify_hashes(shipped.folder)
    assert manifest.name == "small"
    assert not manifest.random_weights
    assert manifest.licence == "Apache-2.0"
    assert manifest.accuracy
    assert manifest.deep is not None
    assert manifest.deep.stem_graph is not None


def test_the_features_of_the_nouns_are_those_of_its_text_tower(shipped: Backbone) -> None:
    nouns = np.load(shipped.folder / noun_file())
    assert noun_file() in shipped.manifest.files
    assert nouns == pytest.approx(encode_nouns(shipped), abs=1e-5)


def test_what_is_shipped_is_small() -> None:
    folder = Path(qprompt_runtime.__file__).parent / "backbones"
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < LARGEST_SHIPPED


def test_the_default_command_helps_on_the_example_photos() -> None:
    holdout = adapt(PHOTOS).holdout
    assert holdout is not None
    assert holdout.adapted.top1 - holdout.zero_shot.top1 >= LEAST_GAIN
    assert holdout.adapted.top1 >= LEAST_RIGHT


@pytest.fixture(scope="module")
def in_int8() -> Backbone:
    return Backbone.load(DEFAULT_BACKBONE, threads=1, precision="int8")


def test_int8_is_close_to_float_on_real_photos(shipped: Backbone, in_int8: Backbone) -> None:
    paths = sorted(PHOTOS.glob("*/*.jpg"))[::8]
    pixels = np.stack([load_pixels(path, shipped.manifest.image_transform) for path in paths])
    cosines = (shipped.encode_images(pixels) * in_int8.encode_images(pixels)).sum(axis=1)
    assert len(paths) >= 24
    assert cosines.mean() >= LEAST_INT8_COSINE
    assert cosines.min() >= LEAST_INT8_COSINE_OF_A_PHOTO


def test_int8_features_do_not_depend_on_the_batch(in_int8: Backbone) -> None:
    pixels = np.random.default_rng(0).uniform(-1, 1, (5, 3, 224, 224)).astype(np.float32)
    alone = np.concatenate([in_int8.encode_images(pixels[i : i + 1]) for i in range(5)])
    assert np.array_equal(in_int8.encode_images(pixels), alone)


def test_prompts_of_either_precision_serve_the_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tuned on either, read on both: what recognition a device of the other kind has."""
    test = find_photos(PHOTOS)
    for tuned in ("float", "int8"):
        monkeypatch.setenv("QPE_PRECISION", tuned)
        path = tmp_path / f"{tuned}.qpt"
        path.write_bytes(adapt(PHOTOS, holdout=0.2).prompt.to_bytes())
        for read in ("float", "int8"):
            monkeypatch.setenv("QPE_PRECISION", read)
            found = PromptClassifier.load(path).predict_many(test.paths)
            labels = [test.classes[place] for place in test.labels]
            right = [answer.label == label for (_, answer), label in zip(found, labels, strict=True)]
            assert np.mean(right) >= LEAST_RIGHT, (tuned, read)


@pytest.mark.export
def test_the_bundle_is_the_trained_model(shipped: Backbone) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("open_clip")
    pytest.importorskip("onnx")
    from qprompt_exporters import parity
    from qprompt_exporters.embedded.backbones import EMBEDDED
    from qprompt_exporters.models import load_source

    source = load_source("small")
    assert source.fingerprint() == shipped.manifest.fingerprint
    parity.check(parity.measure(source, shipped, None), "fp16")
    figures = json.loads(EMBEDDED["small"].results.read_text("utf-8"))
    measured = {name: entry["zero_shot"] for name, entry in figures.items()}
    assert shipped.manifest.accuracy == measured
