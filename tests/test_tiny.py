"""The embedded backbone: the bundle that is shipped is the model that was trained."""

import json

import pytest

from qprompt_runtime.backbone import Backbone
from qprompt_runtime.bundle import verify_hashes

LARGEST_BUNDLE = 28 * 10**6  # bytes


def test_the_bundle_is_whole_and_small(tiny: Backbone) -> None:
    manifest = verify_hashes(tiny.folder)
    assert sum(record.bytes for record in manifest.files.values()) < LARGEST_BUNDLE
    assert not manifest.random_weights
    assert manifest.licence == "MIT"
    assert manifest.accuracy


@pytest.mark.export
def test_the_bundle_is_the_trained_model(tiny: Backbone) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("open_clip")
    pytest.importorskip("onnx")
    from qprompt_exporters import parity
    from qprompt_exporters.embedded.backbones import EMBEDDED
    from qprompt_exporters.models import load_source

    source = load_source("tiny")
    assert source.fingerprint() == tiny.manifest.fingerprint
    parity.check(parity.measure(source, tiny, None), "fp16")
    figures = json.loads(EMBEDDED["tiny"].results.read_text("utf-8"))
    assert tiny.manifest.accuracy == {name: entry["zero_shot"] for name, entry in figures.items()}


@pytest.mark.export
def test_the_image_tower_can_take_deep_prompts() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("open_clip")
    from qprompt_exporters.embedded.backbones import EMBEDDED

    assert len(EMBEDDED["tiny"].load().visual.transformer.resblocks) >= 6
