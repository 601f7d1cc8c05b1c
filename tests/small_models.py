"""Small models of random weights, exported once, for tests marked `export`.

Nothing here imports torch, open_clip or onnx unless a test asks for a model.
"""

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

from qprompt_runtime.backbone import Backbone

_VISION = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 3}
_NON_CAUSAL = {**_TEXT, "no_causal_mask": True}

SMALL_CONFIGS: dict[str, dict[str, Any]] = {
    "small-causal": {"embed_dim": 32, "vision_cfg": _VISION, "text_cfg": _TEXT},
    "small-quickgelu": {"embed_dim": 32, "quick_gelu": True, "vision_cfg": _VISION, "text_cfg": _TEXT},
    "small-noncausal": {
        "embed_dim": 32, "custom_text": True, "vision_cfg": _VISION, "text_cfg": _NON_CAUSAL,
    },
    "small-convolutional": {
        "embed_dim": 32, "text_cfg": _TEXT,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 2, 3], "width": 16, "patch_size": None},
    },
    "small-deep": {
        "embed_dim": 32, "text_cfg": {**_TEXT, "layers": 4},
        "vision_cfg": {**_VISION, "layers": 4, "pool_type": "avg"},
    },
    "small-embed-cls": {
        "embed_dim": 32, "custom_text": True, "vision_cfg": _VISION, "text_cfg": {**_TEXT, "embed_cls": True},
    },
}  # fmt: skip


@dataclass(frozen=True)
class SmallModel:
    """A model of random weights, in torch and as two files.

    Attributes:
        name: Its name in open_clip.
        model: The torch model, float32, in evaluation mode.
        checkpoint: Its state as a `.pt` file.
        safetensors: The same as a `.safetensors` file.
    """

    name: str
    model: Any
    checkpoint: Path
    safetensors: Path


@pytest.fixture(scope="session")
def small_configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small configurations, made known to open_clip; their folder."""
    import open_clip
    import torch

    torch.set_num_threads(1)  # for models this small, more threads only wait for each other
    folder = tmp_path_factory.mktemp("configs")
    for name, config in SMALL_CONFIGS.items():
        (folder / f"{name}.json").write_text(json.dumps(config), encoding="utf-8")
    open_clip.add_model_config(folder)
    return folder


@pytest.fixture(scope="session")
def small_model(small_configs: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], SmallModel]:
    """A small model by its name; made once."""
    import open_clip
    import safetensors.torch
    import torch

    @cache
    def make(name: str) -> SmallModel:
        torch.manual_seed(len(name))
        model = open_clip.create_model(name).eval()
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if parameter.ndim == 1:  # norms are 1 and biases 0 at first: an error there would not show
                    parameter += 0.2 * torch.randn_like(parameter)
                if "embedding" in key:
                    parameter *= 5  # so that words and places decide a feature
        folder = tmp_path_factory.mktemp("checkpoint")
        torch.save(model.state_dict(), folder / "weights.pt")
        state = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
        safetensors.torch.save_file(state, folder / "weights.safetensors")
        return SmallModel(name, model, folder / "weights.pt", folder / "weights.safetensors")

    return make


@pytest.fixture(scope="session")
def traced(small_configs: Path) -> Callable[[str], Any]:
    """`with traced(name):` what of a model torch traces, which takes seconds, is traced once in it."""
    import onnx

    from qprompt_exporters import bundle_writer

    kept: dict[tuple[Any, ...], onnx.ModelProto] = {}

    @contextmanager
    def once(name: str) -> Iterator[None]:
        def kept_or(plain: Callable[..., onnx.ModelProto], *arguments: Any) -> onnx.ModelProto:
            key = name, plain.__name__, *arguments[1:]
            if key not in kept:
                kept[key] = plain(*arguments)
            copied = onnx.ModelProto()
            copied.CopyFrom(kept[key])  # conversions change a graph in place
            return copied

        with pytest.MonkeyPatch.context() as patch:
            for part in ("image_graph", "stem_graph"):
                patch.setattr(bundle_writer, part, partial(kept_or, getattr(bundle_writer, part)))
            yield

    return once


@pytest.fixture(scope="session")
def small_bundle(
    small_model: Callable[[str], SmallModel],
    traced: Callable[[str], Any],
    of_all_workers: Path,
) -> Callable[..., Path]:
    """`small_bundle(name, precision="fp32", depth=0, merged=0)`: a small model's bundle; read only.

    It is exported once, by one of the workers.
    """
    from qprompt_exporters.bundle_writer import export_bundle

    bundles = of_all_workers / "bundles"
    bundles.mkdir(exist_ok=True)

    @cache
    def export(name: str, precision: str = "fp32", depth: int = 0, merged: int = 0) -> Path:
        out = bundles / f"{name}-{precision}-{depth}-{merged}"
        with out.with_suffix(".lock").open("w") as lock, traced(name):
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not out.exists():
                checkpoint = small_model(name).checkpoint
                export_bundle(
                    name,
                    out,
                    checkpoint=checkpoint,
                    precision=precision,
                    deep_prompts=depth,
                    merge_tokens=merged,
                )
        return out

    return export


@pytest.fixture(scope="session")
def small_backbone(small_bundle: Callable[..., Path]) -> Callable[..., Backbone]:
    """`small_backbone(name, precision="fp32")`: that bundle, opened once."""

    @cache
    def load(name: str, precision: str = "fp32") -> Backbone:
        return Backbone.load(small_bundle(name, precision), threads=1)

    return load


@pytest.fixture
def quick_image_graph(small_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The image graph of `small-causal` without tracing it again, which takes seconds."""
    import onnx

    from qprompt_exporters import bundle_writer

    graph = onnx.load(small_bundle("small-causal") / "image.onnx")
    monkeypatch.setattr(bundle_writer, "image_graph", lambda *_arguments: graph)
