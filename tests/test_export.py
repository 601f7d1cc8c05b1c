"""The exporter: what a bundle says, what its fingerprint covers, and how it is written."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("open_clip")
pytest.importorskip("onnx")

import open_clip
import torch

from qprompt_exporters import parity
from qprompt_exporters.bundle_writer import export_bundle
from qprompt_exporters.models import load_source
from qprompt_exporters.towers import read_text_tower
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.bundle import add_bundle, read_manifest, verify_hashes
from qprompt_runtime.manifest import Manifest
from qprompt_runtime.none_of_these import encode_nouns, noun_file

pytestmark = pytest.mark.export

PRECISIONS = ["fp32", "fp16", "int8"]


# ---------------------------------------------------------------------- manifest


@pytest.mark.parametrize("name", ["small-causal", "small-noncausal"])
def test_manifest_tells_the_facts(name: str, small_bundle: Any, small_model: Any) -> None:
    manifest = read_manifest(small_bundle(name))
    assert manifest.name == name
    assert manifest.pretrained == "weights.pt"
    assert not manifest.random_weights
    assert manifest.embed_dim == 32
    assert manifest.logit_scale == pytest.approx(small_model(name).model.logit_scale.exp().item())
    assert manifest.image_transform.size == (32, 32)
    assert manifest.image_transform.mean == pytest.approx(open_clip.OPENAI_DATASET_MEAN)
    assert manifest.image_transform.std == pytest.approx(open_clip.OPENAI_DATASET_STD)
    text = manifest.text
    assert (text.width, text.layers, text.context_length) == (64, 3, 77)
    assert text.causal == (name == "small-causal")
    assert (text.start_token, text.end_token, text.pad_token) == (49406, 49407, 0)
    assert (text.cleaning, text.pooling) == ("lower", "end_token")
    assert manifest.image_graph.inputs == {"pixels": ["B", 3, 32, 32]}
    assert manifest.image_graph.outputs == {"features": ["B", 32]}
    assert manifest.text_graph.inputs["context"] == ["G", "n", 64]
    assert set(manifest.text_graph.outputs) == {"features", "embeddings"}
    assert set(manifest.text_gradient_graph.outputs) == {"loss", "gradient"}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_bundle_is_complete_and_its_hashes_are_right(precision: str, small_bundle: Any) -> None:
    folder = small_bundle("small-causal", precision)
    manifest = verify_hashes(folder)
    assert set(manifest.files) == {path.name for path in folder.iterdir()} - {"manifest.json"}
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert add_bundle(folder).is_dir()
    nouns = np.load(folder / noun_file())
    assert nouns == pytest.approx(encode_nouns(Backbone.load(folder)), abs=1e-6)


@pytest.mark.parametrize(
    ("precision", "image", "text", "max_batch"),
    [("fp32", "fp32", "fp32", 0), ("fp16", "fp16", "fp16", 0), ("int8", "int8", "fp16", 1)],
)
def test_manifest_tells_the_precisions(
    precision: str, image: str, text: str, max_batch: int, small_bundle: Any
) -> None:
    manifest = read_manifest(small_bundle("small-causal", precision))
    assert (manifest.image_graph.precision, manifest.text_graph.precision) == (image, text)
    assert manifest.image_graph.max_batch == max_batch


@pytest.mark.parametrize("precision", PRECISIONS)
def test_parity_is_measured_and_within_bounds(precision: str, small_bundle: Any) -> None:
    measured = read_manifest(small_bundle("small-causal", precision)).parity
    parity.check(measured, precision)
    assert measured["image_real"] == 0
    assert measured["image_count"] == 8


def test_smaller_precisions_are_smaller(small_bundle: Any) -> None:
    def size(precision: str) -> int:
        return sum(
            (small_bundle("small-causal", precision) / f"{part}.weights").stat().st_size for part in TOWERS
        )

    TOWERS = ("image", "text")
    assert size("fp16") < 0.5 * size("fp32")
    assert size("int8") < 0.5 * size("fp32")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_nothing_tells_of_the_exporting_machine(precision: str, small_bundle: Any, small_model: Any) -> None:
    folder = small_bundle("small-causal", precision)
    here = [
        str(Path(__file__).parents[1]), str(Path(torch.__file__).parent), str(Path.home()), str(folder.parents[1]),
        str(small_model("small-causal").checkpoint.parent), "site-packages",
    ]  # fmt: skip
    for name in ("image.onnx", "text.onnx", "manifest.json"):
        content = (folder / name).read_bytes()
        assert [path for path in here if path.encode() in content] == []
        assert not re.search(rb"\.py[\"', :]", content), f"{name} names a source file"


# ---------------------------------------------------------------------- fingerprint


def test_fingerprint_is_the_same_in_every_precision(small_bundle: Any) -> None:
    assert (
        len({read_manifest(small_bundle("small-causal", precision)).fingerprint for precision in PRECISIONS})
        == 1
    )


def test_fingerprint_is_the_same_from_pickle_and_safetensors(small_bundle: Any, small_model: Any) -> None:
    again = load_source("small-causal", checkpoint=small_model("small-causal").safetensors)
    assert again.fingerprint() == read_manifest(small_bundle("small-causal")).fingerprint


def test_fingerprint_covers_the_model_and_not_its_name(small_bundle: Any) -> None:
    names = ["small-causal", "small-quickgelu", "small-noncausal"]
    assert len({read_manifest(small_bundle(name)).fingerprint for name in names}) == 3


@pytest.mark.parametrize("tensor", ["visual.proj", "token_embedding.weight", "logit_scale"])
def test_a_fine_tune_changes_the_fingerprint(tensor: str, small_model: Any, tmp_path: Path) -> None:
    original = small_model("small-causal").checkpoint
    state = torch.load(original, weights_only=True)
    state[tensor] = state[tensor] * (1 + 1e-6)
    torch.save(state, tmp_path / "tuned.pt")
    before, after = (
        load_source("small-causal", checkpoint=path) for path in (original, tmp_path / "tuned.pt")
    )
    assert before.fingerprint() != after.fingerprint()


@pytest.mark.usefixtures("quick_image_graph")
def test_a_second_export_writes_the_same_bytes(small_bundle: Any, small_model: Any, tmp_path: Path) -> None:
    first = small_bundle("small-causal")
    export_bundle("small-causal", tmp_path / "again", checkpoint=small_model("small-causal").checkpoint)
    for name in ("text.onnx", "text.weights", "tokenizer.json"):
        assert (tmp_path / "again" / name).read_bytes() == (first / name).read_bytes(), name
    assert read_manifest(tmp_path / "again").fingerprint == read_manifest(first).fingerprint


# ---------------------------------------------------------------------- sources and places


def test_a_tag_beside_a_checkpoint_says_how_it_was_trained(tmp_path: Path) -> None:
    """MobileCLIP's photos are not normalised, and OpenAI's activation is QuickGELU.

    Neither is in the weights.
    """
    for name, tag in (("MobileCLIP2-S0", "dfndr2b"), ("ViT-B-32", "openai")):
        weights = tmp_path / f"{name}.pt"
        torch.save(open_clip.create_model(name).state_dict(), weights)
        source = load_source(name, tag, weights)
        if name == "ViT-B-32":
            assert read_text_tower(source.model).activation == "quick_gelu"
            assert source.transform.interpolation == "bicubic"
        else:
            assert (source.transform.mean, source.transform.interpolation) == ((0, 0, 0), "bilinear")
        weights.unlink()


@pytest.mark.usefixtures("small_configs", "quick_image_graph")
def test_random_weights_are_marked_and_always_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(parity.BOUNDS, "fp32", {})  # the image graph of the fixture has other weights
    manifest = export_bundle("small-causal", tmp_path / "random")
    assert manifest.random_weights
    assert manifest.pretrained == ""
    assert read_manifest(tmp_path / "random") == manifest
    assert manifest.fingerprint == load_source("small-causal").fingerprint()


@pytest.mark.usefixtures("quick_image_graph")
@pytest.mark.parametrize("made", [False, True], ids=["absent", "empty"])
def test_an_absent_or_empty_folder_is_filled(made: bool, small_model: Any, tmp_path: Path) -> None:
    out = tmp_path / "parent" / "out"
    if made:
        out.mkdir(parents=True)
    export_bundle("small-causal", out, checkpoint=small_model("small-causal").checkpoint, licence="MIT")
    assert verify_hashes(out).licence == "MIT"
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    for path in [out, *out.iterdir()]:
        assert path.stat().st_mode & 0o444 == 0o444, f"{path.name} cannot be read by others"


@pytest.mark.usefixtures("quick_image_graph")
def test_parity_images_are_used(small_model: Any, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "photos" / "sub").mkdir(parents=True)
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 255, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / "sub" / f"{index}.png")
    (tmp_path / "photos" / "notes.txt").write_text("no photo", encoding="utf-8")
    checkpoint = small_model("small-causal").checkpoint
    manifest = export_bundle(
        "small-causal", tmp_path / "out", checkpoint=checkpoint, parity_images=tmp_path / "photos"
    )
    assert (manifest.parity["image_real"], manifest.parity["image_count"]) == (1, 3)
