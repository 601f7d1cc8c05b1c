"""The embedded backbone `small`, the default.

The bundle is the trained model, fits its budget, and helps at once.
"""

import json
from pathlib import Path

import numpy as np
import pytest

import qprompt_runtime
from qprompt_edge import adapt
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.bundle import verify_hashes
from qprompt_runtime.none_of_these import encode_nouns, noun_file

LARGEST_SHIPPED = 30 * 10**6  # bytes, of all backbones in the wheel
LEAST_GAIN, LEAST_RIGHT = 0.10, 0.90
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
