"""The deep graphs and their hand-written gradients, against torch autograd through open_clip's own towers.

The reference runs in double precision and shares nothing with the graphs (`prompted.py`).
"""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("open_clip")
pytest.importorskip("onnx")

import onnx
import torch
from bundles import change

from qprompt_exporters import parity
from qprompt_exporters.bundle_writer import export_bundle
from qprompt_exporters.image_graph import with_stem
from qprompt_exporters.prompted import prompted_features
from qprompt_runtime.bundle import file_record, read_manifest, verify_hashes
from qprompt_runtime.deep_backbone import DeepBackbone
from qprompt_runtime.errors import BundleError
from qprompt_runtime.manifest import Manifest
from qprompt_runtime.tokenizer import ClassTokens

pytestmark = pytest.mark.export

WORDS = ["cat", "fire engine", "grand piano", "t-shirt", "snow leopard"]
TEMPLATE = ("of a ", ".")
SCALE = 20.0


def relative(value: Any, expected: Any) -> float:
    return float(np.linalg.norm(np.subtract(value, expected)) / np.linalg.norm(expected))


def inputs(
    backbone: DeepBackbone, count: int
) -> tuple[np.ndarray, np.ndarray, ClassTokens, np.ndarray, np.ndarray]:
    """Prompts of both towers, tokens, pixels and targets."""
    rng = np.random.default_rng(count)
    deep, layout = backbone.deep, backbone.manifest.text
    text = rng.normal(0, 0.3, (deep.depth, count, layout.width)).astype(np.float32)
    image = rng.normal(0, 0.3, (deep.depth, count, deep.image_width)).astype(np.float32)
    pixels = rng.normal(0, 1, (7, 3, *backbone.manifest.image_transform.size)).astype(np.float32)
    targets = np.eye(len(WORDS), dtype=np.float32)[rng.integers(len(WORDS), size=7)] / np.float32(7)
    return text, image, backbone.tokenize(WORDS, TEMPLATE, count), pixels, targets


def check(backbone: DeepBackbone, model: Any, tokenizer: Any, count: int) -> None:
    """Features to 1e-5 and gradients to 1e-5 of their length."""
    text, image, tokens, pixels, targets = inputs(backbone, count)
    stems = backbone.encode_stem(pixels)
    loss, d_text, d_image = backbone.loss_and_deep_gradients(text, image, tokens, stems, targets, SCALE)
    filler = " ".join(["a"] * count)
    ids = tokenizer([f"{filler} of a {word}." for word in WORDS])
    leaves = [torch.tensor(array, dtype=torch.float64, requires_grad=True) for array in (text, image)]
    exact = copy.deepcopy(model).double()
    classes, images = prompted_features(exact, ids, torch.from_numpy(pixels).double(), *leaves)
    log_p = (SCALE * images @ classes.T).log_softmax(dim=1)
    expected = -(torch.from_numpy(targets) * log_p).sum()
    expected.backward()
    assert np.abs(backbone.encode_prompted_classes(text, tokens) - classes.detach().numpy()).max() < 1e-5
    assert np.abs(backbone.encode_prompted_images(pixels, image) - images.detach().numpy()).max() < 1e-5
    assert loss == pytest.approx(float(expected), rel=1e-5)
    assert relative(d_text, leaves[0].grad.numpy()) < 1e-5
    assert relative(d_image, leaves[1].grad.numpy()) < 1e-5
    for part, whole in zip((*d_text, *d_image), (*leaves[0].grad, *leaves[1].grad), strict=True):
        assert relative(part, whole.numpy()) < 1e-4  # every layer's by itself; a small one has larger errors


@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_gradients_at_every_depth(small_model: Any, small_bundle: Any, depth: int, count: int) -> None:
    import open_clip

    backbone = DeepBackbone.load(small_bundle("small-deep", "fp32", depth), threads=1)
    assert isinstance(backbone, DeepBackbone)
    check(backbone, small_model("small-deep").model, open_clip.get_tokenizer("small-deep"), count)


@pytest.mark.parametrize("name", ["small-quickgelu", "small-noncausal"])
def test_gradients_of_other_towers(small_model: Any, small_bundle: Any, name: str) -> None:
    import open_clip

    backbone = DeepBackbone.load(small_bundle(name, "fp32", 2), threads=1)
    assert isinstance(backbone, DeepBackbone)
    check(backbone, small_model(name).model, open_clip.get_tokenizer(name), 2)


def test_parts_give_what_the_whole_gives(small_bundle: Any) -> None:
    whole = DeepBackbone(small_bundle("small-deep", "fp32", 4), threads=1)
    parts = DeepBackbone(small_bundle("small-deep", "fp32", 4), threads=1)
    parts.activation_bytes = 1
    text, image, tokens, pixels, targets = inputs(whole, 2)
    one, other = (
        backbone.loss_and_deep_gradients(text, image, tokens, backbone.encode_stem(pixels), targets, SCALE)
        for backbone in (whole, parts)
    )
    assert other[0] == pytest.approx(one[0], rel=1e-5)
    for a, b in zip(one[1:], other[1:], strict=True):
        assert relative(b, a) < 1e-5


@pytest.fixture
def version_3(small_bundle: Any, tmp_path: Path) -> Path:
    """The bundle of `small-deep` at depth 4 as it was in version 3.

    The stem is inside of the deep image graph.
    """
    folder = tmp_path / "version-3"
    shutil.copytree(small_bundle("small-deep", "fp32", 4), folder)
    stem, blocks = (onnx.load(folder / f"image-{part}.onnx") for part in ("stem", "deep"))
    onnx.save(with_stem(stem, blocks), folder / "image-deep.onnx")
    (folder / "image-stem.onnx").unlink()

    def older(raw: dict[str, Any]) -> None:
        raw["format_version"] = 3
        del raw["int8_image_graph"]
        del raw["deep"]["stem_graph"], raw["files"]["image-stem.onnx"]
        raw["deep"]["image_graph"]["inputs"]["pixels"] = raw["deep"]["image_graph"]["inputs"].pop("tokens")
        raw["files"]["image-deep.onnx"] = vars(file_record(folder / "image-deep.onnx"))

    change(folder, older)
    return folder


def test_version_3_gives_the_same(small_bundle: Any, version_3: Path) -> None:
    older, newer = (
        DeepBackbone(path, threads=1) for path in (version_3, small_bundle("small-deep", "fp32", 4))
    )
    text, image, tokens, pixels, targets = inputs(newer, 2)
    assert older.encode_stem(pixels) is pixels
    assert (older.stem_shape, newer.stem_shape) == ((3, 32, 32), (17, 64))
    assert newer.encode_stem(pixels).shape == (7, 17, 64)
    seen = [backbone.encode_prompted_images(pixels, image) for backbone in (older, newer)]
    np.testing.assert_allclose(seen[1], seen[0], atol=1e-6)
    one, other = (
        backbone.loss_and_deep_gradients(text, image, tokens, backbone.encode_stem(pixels), targets, SCALE)
        for backbone in (older, newer)
    )
    assert other[0] == pytest.approx(one[0], rel=1e-6)
    for a, b in zip(one[1:], other[1:], strict=True):
        assert relative(b, a) < 1e-6


def test_no_photos_have_no_stems(small_bundle: Any) -> None:
    backbone = DeepBackbone(small_bundle("small-deep", "fp32", 4), threads=1)
    assert backbone.encode_stem(np.zeros((0, 3, 32, 32), np.float32)).shape == (0, 17, 64)


def test_the_stem_is_open_only_while_it_is_needed(small_bundle: Any) -> None:
    backbone = DeepBackbone(small_bundle("small-deep", "fp32", 4), threads=1)
    pixels = inputs(backbone, 2)[3]
    backbone.open_for_deep_tuning()
    assert backbone._stem_session is None
    first = backbone.encode_stem(pixels)
    assert backbone._stem_session is not None
    backbone.close_stem()
    assert backbone._stem_session is None
    np.testing.assert_array_equal(backbone.encode_stem(pixels), first)


def test_the_manifest_tells_what_the_two_parts_read_and_give(small_bundle: Any) -> None:
    manifest = read_manifest(small_bundle("small-deep", "fp32", 4))
    assert manifest.deep is not None
    stem, blocks = manifest.deep.stem_graph, manifest.deep.image_graph
    assert stem is not None
    assert (stem.file, stem.inputs, stem.outputs) == (
        "image-stem.onnx", {"pixels": ["B", 3, 32, 32]}, {"tokens": ["B", 17, 64]},
    )  # fmt: skip
    assert blocks.inputs["tokens"] == ["B", 17, 64]
    assert "pixels" not in blocks.inputs
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_deep_graphs_add_little_to_a_bundle(small_bundle: Any) -> None:
    """The weights of both pairs of graphs lie on disk once."""
    sizes = [
        {
            name: record.bytes
            for name, record in verify_hashes(small_bundle("small-deep", "fp16", depth)).files.items()
        }
        for depth in (0, 4)
    ]
    assert sizes[1]["text.weights"] == sizes[0]["text.weights"]
    assert sizes[1]["image.weights"] <= 1.1 * sizes[0]["image.weights"]


def test_without_deep_graphs_the_error_says_what_to_do(small_bundle: Any) -> None:
    with pytest.raises(BundleError, match="--deep-prompts"):
        DeepBackbone(small_bundle("small-causal"))


def test_a_deep_gradient_beyond_its_bound_is_refused(
    small_model: Callable[[str], Any],
    traced: Callable[[str], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(parity.BOUNDS, "fp32", {"deep_gradient_error": 0.0})
    checkpoint = small_model("small-deep").checkpoint
    with traced("small-deep"), pytest.raises(BundleError, match="deep_gradient_error is"):
        export_bundle("small-deep", tmp_path / "bundle", checkpoint=checkpoint, deep_prompts=1)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "small-causal",
            {"deep_prompts": 3},
            "--deep-prompts 3 does not fit small-causal, whose shorter tower has 2 blocks",
        ),
        ("small-causal", {"deep_prompts": -1}, "--deep-prompts -1"),
        ("small-convolutional", {"deep_prompts": 1}, "cannot take deep prompts: it has no tokens of a ViT"),
        ("small-causal", {"deep_prompts": 1, "precision": "int8"}, "no gradient for deep prompts"),
    ],
)
def test_refusals(
    small_model: Callable[[str], Any], tmp_path: Path, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        export_bundle(name, tmp_path / "bundle", checkpoint=small_model(name).checkpoint, **options)
    assert not (tmp_path / "bundle").exists()
