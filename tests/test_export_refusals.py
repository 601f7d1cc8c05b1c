"""What the exporter refuses: one clear error each, and nothing is written."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("open_clip")
pytest.importorskip("onnx")

import open_clip
import torch

from qprompt_exporters import bundle_writer, parity
from qprompt_exporters.bundle_writer import export_bundle
from qprompt_exporters.embedded.backbones import EmbeddedModel
from qprompt_exporters.models import load_source
from qprompt_exporters.towers import read_text_tower
from qprompt_runtime.errors import BundleError, OutputError

pytestmark = pytest.mark.export


def test_after_a_refusal_the_process_ends_without_a_word(tmp_path: Path) -> None:
    """Libraries of torch's tell of what is not taken apart when Python ends, in dozens of lines."""
    command = [
        sys.executable,
        "-m",
        "qprompt_edge",
        "export",
        "--model",
        "no-such",
        "--out",
        tmp_path / "out",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: open_clip has no model 'no-such'"


# ---------------------------------------------------------------------- models


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


# ---------------------------------------------------------------------- checkpoints


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


# ---------------------------------------------------------------------- places, bounds, parity images


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
def test_parity_images_without_a_photo(small_model: Any, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    checkpoint = small_model("small-causal").checkpoint
    with pytest.raises(BundleError, match="holds no readable photo"):
        export_bundle(
            "small-causal", tmp_path / "out", checkpoint=checkpoint, parity_images=tmp_path / "photos"
        )
    assert not (tmp_path / "out").exists()


def test_an_embedded_backbone_takes_no_tag() -> None:
    with pytest.raises(BundleError, match="small has weights of its own; leave --pretrained 'openai' out"):
        load_source("small", pretrained="openai")


def test_an_embedded_backbone_whose_weights_are_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EmbeddedModel, "weights", property(lambda _model: tmp_path / "weights.safetensors"))
    with pytest.raises(BundleError, match="the weights of tiny are in a checkout of the project only"):
        load_source("tiny")
