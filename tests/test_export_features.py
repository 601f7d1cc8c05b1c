"""Image features of an exported bundle, against open_clip's."""

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
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from scenes import write_photo

from qprompt_exporters import bundle_writer, parity
from qprompt_exporters.bundle_writer import export_bundle
from qprompt_exporters.embedded.backbones import EMBEDDED
from qprompt_exporters.image_graph import image_graph, to_int8
from qprompt_exporters.models import load_source
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.bundle import read_manifest, verify_hashes
from qprompt_runtime.errors import BundleError

pytestmark = pytest.mark.export


def noise(count: int, size: int = 32) -> np.ndarray:
    """Pixels that are smooth, like photos."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.normal(size=(count, 3, 6, 6)).astype(np.float32))
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").numpy()


# ---------------------------------------------------------------------- transformers


@pytest.mark.parametrize(
    ("name", "precision", "cosine"),
    [
        ("small-causal", "fp32", 1 - 1e-6),
        ("small-quickgelu", "fp32", 1 - 1e-6),
        ("small-noncausal", "fp32", 1 - 1e-6),
        ("small-causal", "fp16", 0.9999),
        ("small-causal", "int8", 0.999),
    ],
)
def test_image_features_equal_encode_image(
    name: str, precision: str, cosine: float, small_backbone: Any, small_model: Any
) -> None:
    pixels = noise(11)
    with torch.no_grad():
        expected = small_model(name).model.encode_image(torch.from_numpy(pixels), normalize=True).numpy()
    features = small_backbone(name, precision).encode_images(pixels)
    assert features.shape == (11, 32)
    assert features.dtype == np.float32
    assert np.linalg.norm(features, axis=1) == pytest.approx(1, abs=1e-5)
    worst = (features * expected).sum(axis=1).min()
    assert worst >= cosine, f"cosine {worst:.7f}"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_an_image_does_not_depend_on_its_batch(precision: str, small_backbone: Any) -> None:
    pixels = noise(9)
    pixels[3] *= 5  # an image of another range would move a scale that the batch shares
    backbone = small_backbone("small-causal", precision)
    together = backbone.encode_images(pixels)
    alone = np.concatenate([backbone.encode_images(pixels[i : i + 1]) for i in range(9)])
    if precision == "int8":
        assert together.tobytes() == alone.tobytes()
    gap = np.abs(together - alone).max()
    assert gap <= 1e-6, f"{gap:.2e}"


def test_no_images_give_no_features(small_backbone: Any) -> None:
    assert small_backbone("small-causal").encode_images(np.zeros((0, 3, 32, 32), np.float32)).shape == (0, 32)


def test_moving_a_bundle_does_not_break_it(small_bundle: Any, small_backbone: Any, tmp_path: Path) -> None:
    moved = shutil.copytree(small_bundle("small-causal"), tmp_path / "moved elsewhere")
    pixels = noise(1)
    there = type(small_backbone("small-causal")).load(moved)
    assert np.array_equal(there.encode_images(pixels), small_backbone("small-causal").encode_images(pixels))


# ---------------------------------------------------------------------- rounding to int8


def graph_features(graph: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    """Features of a graph, one image a run."""
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    return np.concatenate([session.run(None, {"pixels": row})[0] for row in np.split(pixels, len(pixels))])


def two_products(first: np.ndarray, last: np.ndarray) -> onnx.ModelProto:
    """pixels @ first @ last: the first product is the one that int8 rounds."""
    nodes = [
        helper.make_node("MatMul", ["pixels", "first"], ["between"]),
        helper.make_node("MatMul", ["between", "last"], ["features"]),
    ]
    weights = [numpy_helper.from_array(first, "first"), numpy_helper.from_array(last, "last")]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["B", len(first)])
    out = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["B", last.shape[1]])
    graph = helper.make_graph(nodes, "two products", [pixels], [out], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_int8_keeps_the_embedded_backbones_features() -> None:
    graph = image_graph(EMBEDDED["tiny"].load(), (64, 64))
    pixels = noise(16, 64)
    cosines = (graph_features(graph, pixels) * graph_features(to_int8(graph), pixels)).sum(axis=1)
    lost = 1 - cosines.mean()
    assert lost <= 1.5e-4, f"1 - cosine {lost:.2e}"


@pytest.mark.parametrize("rows", [192, 193])
def test_int8_weights_keep_more_than_seven_bits(rows: int) -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=(rows, 96)).astype(np.float32)
    pixels = rng.integers(0, 256, (8, rows)).astype(np.float32)
    pixels[:, :2] = [0, 255]  # a scale of 1: the activations are exact
    exact = pixels @ first
    gap = graph_features(to_int8(two_products(first, np.eye(96, dtype=np.float32))), pixels) - exact
    seven_bits = np.abs(first).max(axis=0) / 64 / np.sqrt(12) * np.linalg.norm(pixels, axis=1, keepdims=True)
    share = np.sqrt((gap**2).mean() / (seven_bits**2).mean())
    assert share <= 0.8, f"{share:.2f} of the noise of 7-bit weights"


@pytest.mark.parametrize("rows", [1, 6, 191, 192])
@pytest.mark.parametrize("high", [1.0, 1e-3])
def test_int8_products_do_not_saturate(rows: int, high: float) -> None:
    first = np.ones((rows, 40), np.float32)
    first[1::2] = high  # pairs of equal weights, and a large one beside a small one
    first[:, ::2] *= -1
    last = np.eye(40, dtype=np.float32)
    pixels = np.ones((1, rows), np.float32)
    ratio = graph_features(to_int8(two_products(first, last)), pixels) / (pixels @ first)
    assert ratio == pytest.approx(1, abs=0.01)


def test_the_last_product_is_not_rounded() -> None:
    rng = np.random.default_rng(0)
    first = np.full((4, 3), 127, np.float32)
    first[1::2] = 0  # whole numbers that int8 holds exactly
    last = rng.normal(size=(3, 5)).astype(np.float32)
    pixels = np.array([[0, 255, 17, 80]], np.float32)
    gap = np.abs(
        graph_features(to_int8(two_products(first, last)), pixels) / (pixels @ first @ last) - 1
    ).max()
    assert gap <= 1e-5, f"{gap:.2e}"


# ---------------------------------------------------------------------- convolutional towers


@pytest.fixture(scope="module")
def convolutional_graph(small_model: Any) -> onnx.ModelProto:
    return image_graph(small_model("small-convolutional").model, (64, 64))


def test_a_convolutional_tower_in_fp32(convolutional_graph: onnx.ModelProto, small_model: Any) -> None:
    pixels = noise(3, 64)
    with torch.no_grad():
        model = small_model("small-convolutional").model
        expected = model.encode_image(torch.from_numpy(pixels), normalize=True).numpy()
    session = onnxruntime.InferenceSession(convolutional_graph.SerializeToString())
    gap = np.abs(session.run(["features"], {"pixels": pixels})[0] - expected).max()
    assert gap <= 1e-5, f"{gap:.2e}"


def test_int8_of_a_convolutional_tower_needs_photos(
    convolutional_graph: onnx.ModelProto, small_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_writer, "image_graph", lambda *_arguments: convolutional_graph)
    checkpoint = small_model("small-convolutional").checkpoint
    with pytest.raises(BundleError, match=r"needs photos .*--quantize-with FOLDER, or --precision fp32"):
        export_bundle("small-convolutional", tmp_path / "out", checkpoint=checkpoint, precision="int8")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def convolutional_export(
    convolutional_graph: onnx.ModelProto, small_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """`convolutional_export(count, **options)`: a bundle whose scales as many photos fixed."""
    monkeypatch.setattr(bundle_writer, "image_graph", lambda *_arguments: convolutional_graph)
    photos, checkpoint = tmp_path / "photos", small_model("small-convolutional").checkpoint

    def export(count: int, **options: Any) -> Path:
        photos.mkdir()
        for number in range(count):
            colour = np.random.default_rng(number).integers(0, 255, 3)
            write_photo(photos / f"class {number % 2}" / f"{number:02}.png", colour, number)
        (photos / "notes.txt").write_text("no photo", encoding="utf-8")
        named = {"precision": "int8", "quantize_with": photos, **options}
        export_bundle("small-convolutional", tmp_path / "out", checkpoint=checkpoint, **named)
        return tmp_path / "out"

    return export


def test_int8_of_a_convolutional_tower(convolutional_export: Callable[..., Path], small_model: Any) -> None:
    manifest = verify_hashes(convolutional_export(24))
    assert (manifest.image_graph.precision, manifest.image_graph.max_batch) == ("int8", 1)
    assert (manifest.parity["image_real"], manifest.parity["image_count"]) == (1, 8)
    assert (
        manifest.fingerprint
        == load_source(
            "small-convolutional", checkpoint=small_model("small-convolutional").checkpoint
        ).fingerprint()
    )


def test_photos_that_fix_scales_are_not_compared_where_others_are_given(
    convolutional_export: Callable[..., Path], tmp_path: Path
) -> None:
    for number in range(3):
        write_photo(tmp_path / "others" / f"{number}.png", (90, 120, 30), 100 + number)
    manifest = read_manifest(convolutional_export(16, parity_images=tmp_path / "others"))
    assert manifest.parity["image_count"] == 3


def test_too_few_photos_for_scales(convolutional_export: Callable[..., Path]) -> None:
    with pytest.raises(BundleError, match=r"photos holds 15 readable photos; give at least 16, better 96"):
        convolutional_export(15)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_int8_tower_beside_another(convolutional_export: Callable[..., Path], precision: str) -> None:
    """It is over the same weights, is compared with torch as well, and answers nearly alike."""
    folder = convolutional_export(24, precision=precision)
    manifest = verify_hashes(folder)
    fast = manifest.int8_image_graph
    assert fast is not None
    assert (fast.file, fast.precision, fast.max_batch) == ("image-int8.onnx", "int8", 1)
    assert (manifest.image_graph.precision, manifest.image_graph.max_batch) == (precision, 0)
    assert manifest.parity["image_cosine_mean"] > manifest.parity["int8_image_cosine_mean"] > 0.995
    assert manifest.files[fast.file].bytes < manifest.files["image.weights"].bytes / 2
    exact, rounded = (Backbone.load(folder, precision=name) for name in ("float", "int8"))
    features = [backbone.encode_images(noise(3, 64)) for backbone in (exact, rounded)]
    assert 0.98 < (features[0] * features[1]).sum(axis=1).min() < 1 - 1e-6


def test_an_int8_tower_beside_another_that_is_too_far_is_not_written(
    convolutional_export: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(parity.BOUNDS["fp16"], "int8_image_cosine_mean", 1.1)
    with pytest.raises(BundleError, match=r"the fp16 bundle is too far .* int8_image_cosine_mean"):
        convolutional_export(16, precision="fp16")
    assert not (tmp_path / "out").exists()


def test_int8_too_far_from_the_original_is_not_written(
    convolutional_export: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(parity.BOUNDS, "static int8", {"image_cosine_mean": 1.1})
    with pytest.raises(BundleError, match=r"the static int8 bundle is too far .* nothing was written"):
        convolutional_export(16)
    assert not (tmp_path / "out").exists()
