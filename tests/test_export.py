"""The exporter: what a bundle says, how close it is to open_clip, and what is refused."""

import pickle
import re
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
import open_clip
import torch

from qprompt_exporters import bundle_writer, parity
from qprompt_exporters.bundle_writer import export_bundle
from qprompt_exporters.image_graph import image_graph
from qprompt_exporters.models import load_source
from qprompt_exporters.towers import read_text_tower
from qprompt_runtime.bundle import add_bundle, read_manifest, verify_hashes
from qprompt_runtime.errors import BundleError, OutputError
from qprompt_runtime.manifest import Manifest

pytestmark = pytest.mark.export

PRECISIONS = ["fp32", "fp16", "int8"]


def noise(count: int, size: int = 32) -> np.ndarray:
    """Pixels that are smooth, like photos."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.normal(size=(count, 3, 6, 6)).astype(np.float32))
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").numpy()


@pytest.fixture
def quick_image_graph(small_bundle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image graph of `small-causal` without tracing it again, which takes seconds."""
    graph = onnx.load(small_bundle("small-causal") / "image.onnx")
    monkeypatch.setattr(bundle_writer, "image_graph", lambda _model, _size: graph)


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
    assert set(manifest.text_graph.outputs) == {"features", "embeddings", "loss", "gradient"}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_bundle_is_complete_and_its_hashes_are_right(precision: str, small_bundle: Any) -> None:
    folder = small_bundle("small-causal", precision)
    manifest = verify_hashes(folder)
    assert set(manifest.files) == {path.name for path in folder.iterdir()} - {"manifest.json"}
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert add_bundle(folder).is_dir()


@pytest.mark.parametrize(
    ("precision", "image", "text", "max_batch"),
    [("fp32", "fp32", "fp32", 0), ("fp16", "fp16", "fp16", 0), ("int8", "int8", "fp32", 1)],
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
def test_graphs_are_what_old_runtimes_read(precision: str, small_bundle: Any) -> None:
    for part in ("image", "text"):
        graph = onnx.load(small_bundle("small-causal", precision) / f"{part}.onnx", load_external_data=False)
        assert graph.ir_version <= 9
        opsets = {entry.domain: entry.version for entry in graph.opset_import}
        assert opsets.get("") == 18, opsets
        domains = {node.domain for node in graph.graph.node}
        assert domains <= {"", "com.microsoft"}, domains


@pytest.mark.parametrize("precision", PRECISIONS)
def test_nothing_tells_of_the_exporting_machine(precision: str, small_bundle: Any, small_model: Any) -> None:
    folder = small_bundle("small-causal", precision)
    here = [
        str(Path(__file__).parents[1]), str(Path(torch.__file__).parent), str(Path.home()), str(folder.parent),
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


# ---------------------------------------------------------------------- image features


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


@pytest.mark.parametrize("precision", PRECISIONS)
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


# ---------------------------------------------------------------------- refusals


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


def test_int8_of_a_convolutional_tower_is_refused(
    convolutional_graph: onnx.ModelProto, small_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_writer, "image_graph", lambda _model, _size: convolutional_graph)
    checkpoint = small_model("small-convolutional").checkpoint
    with pytest.raises(BundleError, match=r"int8 covers matrix products, .*--precision fp32 or fp16"):
        export_bundle("small-convolutional", tmp_path / "out", checkpoint=checkpoint, precision="int8")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("roberta-ViT-B-32", "Hugging Face text tower 'roberta-base'"),
        ("ViT-B-16-SigLIP", "tokenizer 'timm/ViT-B-16-SigLIP'"),
        ("coca_ViT-B-32", "multimodal text tower"),
        ("small-embed-cls", r"a class embedding \(embed_cls\)"),
    ],
)
@pytest.mark.usefixtures("small_configs")
def test_unsupported_text_towers_are_refused_with_a_reason(
    name: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def refuse(*_arguments: Any, **_named: Any) -> None:
        pytest.fail("reached for the hub")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(BundleError, match=f"supported.*{reason}"):
        export_bundle(name, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ({"ls_init_value": 1e-4}, "layer scale"),
        ({"pool_type": "last"}, "pooling 'last'"),
        ({"proj_bias": True}, "not a plain matrix"),
        ({"vocab_size": 1000}, "a vocabulary of 1000 entries"),
        ({"act_kwargs": {"approximate": "tanh"}}, "activation GELU"),
        ({"block_type": "custom"}, "block_type"),
    ],
)
def test_each_option_that_the_graph_lacks_is_refused(option: dict[str, Any], reason: str) -> None:
    text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1, **option}
    vision = {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8}
    model = open_clip.CustomTextCLIP(embed_dim=8, vision_cfg=vision, text_cfg=text)
    with pytest.raises(BundleError, match=reason):
        read_text_tower(model)


def test_unknown_model(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"open_clip has no model 'ViT-B-33'; it has .*ViT-B-32"):
        export_bundle("ViT-B-33", tmp_path / "out")


def test_unknown_pretrained_tag(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no pretrained tag 'opanai'; it has .*openai"):
        export_bundle("ViT-B-32", tmp_path / "out", pretrained="opanai")


def test_unknown_precision(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="precision 'int4' is not one of fp32, fp16, int8"):
        export_bundle("ViT-B-32", tmp_path / "out", precision="int4")


def test_a_tag_beside_a_checkpoint_says_how_it_was_trained(tmp_path: Path) -> None:
    """MobileCLIP's photos are not normalised and OpenAI's activation is QuickGELU; neither is in the weights."""
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


@pytest.mark.usefixtures("small_configs")
def test_absent_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no such checkpoint: .*absent\.pt"):
        export_bundle("small-causal", tmp_path / "out", checkpoint=tmp_path / "absent.pt")


@pytest.mark.usefixtures("small_configs")
@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 no zip"])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_checkpoint_that_cannot_be_read(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"bad.{suffix}"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"cannot load small-causal") as error:
        export_bundle("small-causal", tmp_path / "out", checkpoint=path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("small_configs")
def test_a_checkpoint_of_another_model(small_model: Any, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot load small-convolutional"):
        export_bundle(
            "small-convolutional", tmp_path / "out", checkpoint=small_model("small-causal").checkpoint
        )


class Payload:
    """Runs code when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Path.touch, (self.marker,))


@pytest.mark.usefixtures("small_configs")
@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_pickle_that_would_run_code_is_refused(write: Callable[..., Any], tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    write({"state_dict": Payload(marker)}, tmp_path / "evil.pt")
    with pytest.raises(BundleError, match="cannot load small-causal"):
        export_bundle("small-causal", tmp_path / "out", checkpoint=tmp_path / "evil.pt")
    assert not marker.exists()
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------- writing


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


@pytest.mark.usefixtures("small_configs")
def test_a_folder_that_is_taken_keeps_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious", encoding="utf-8")
    with pytest.raises(OutputError, match="not an empty folder"):
        export_bundle("small-causal", tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text(encoding="utf-8") == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.usefixtures("small_configs")
def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious", encoding="utf-8")
    with pytest.raises(OutputError, match="not an empty folder"):
        export_bundle("small-causal", tmp_path / "out")
    assert (tmp_path / "out").read_text(encoding="utf-8") == "precious"


@pytest.mark.usefixtures("small_configs")
def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot write"):
        export_bundle("small-causal", tmp_path / "file" / "out")


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
@pytest.mark.parametrize(
    ("measure", "bound"),
    [("image_cosine_mean", 1.1), ("text_cosine_min", 1.1), ("gradient_error", 0.0)],
)
def test_a_bundle_too_far_from_the_original_is_not_written(
    measure: str, bound: float, small_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(parity.BOUNDS, "fp32", {measure: bound})
    with pytest.raises(BundleError, match=f"{measure} is .*, the bound {bound:g}; nothing was written"):
        export_bundle("small-causal", tmp_path / "out", checkpoint=small_model("small-causal").checkpoint)
    assert list(tmp_path.iterdir()) == []


def test_a_defect_while_writing_leaves_nothing(
    small_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle_writer, "image_graph", full)
    with pytest.raises(OutputError, match="No space left on device"):
        export_bundle("small-causal", tmp_path / "out", checkpoint=small_model("small-causal").checkpoint)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick_image_graph")
def test_calibration_photos_are_used(small_model: Any, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "photos" / "sub").mkdir(parents=True)
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 255, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / "sub" / f"{index}.png")
    (tmp_path / "photos" / "notes.txt").write_text("no photo", encoding="utf-8")
    checkpoint = small_model("small-causal").checkpoint
    manifest = export_bundle(
        "small-causal", tmp_path / "out", checkpoint=checkpoint, calibration=tmp_path / "photos"
    )
    assert (manifest.parity["image_real"], manifest.parity["image_count"]) == (1, 3)


@pytest.mark.usefixtures("quick_image_graph")
def test_calibration_without_a_photo(small_model: Any, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    checkpoint = small_model("small-causal").checkpoint
    with pytest.raises(BundleError, match="holds no readable photo"):
        export_bundle(
            "small-causal", tmp_path / "out", checkpoint=checkpoint, calibration=tmp_path / "photos"
        )
    assert not (tmp_path / "out").exists()


def test_moving_a_bundle_does_not_break_it(small_bundle: Any, small_backbone: Any, tmp_path: Path) -> None:
    moved = shutil.copytree(small_bundle("small-causal"), tmp_path / "moved elsewhere")
    pixels = noise(1)
    there = type(small_backbone("small-causal")).load(moved)
    assert np.array_equal(there.encode_images(pixels), small_backbone("small-causal").encode_images(pixels))
