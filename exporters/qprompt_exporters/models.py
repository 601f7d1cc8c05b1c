"""Source models by name: open_clip's, with pretrained or local or random weights, and the embedded ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import nn

from qprompt_exporters.embedded.backbones import EMBEDDED
from qprompt_exporters.tokenizer import check_tokenizer
from qprompt_runtime.errors import BundleError
from qprompt_runtime.images import ImageTransform
from qprompt_runtime.manifest import CLEANING, FINGERPRINT_BYTES, POOLING

_RANDOM_SEED = 0
_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")


@dataclass(frozen=True)
class SourceModel:
    """An open_clip model with what belongs to it.

    Attributes:
        name: open_clip's model name, or an embedded backbone's.
        pretrained: Tag or file name of the weights; empty for random ones.
        model: The model, float32, in evaluation mode.
        tokenizer: CLIP's tokenizer.
        transform: How photos become pixels.
        licence: Of the weights, if it is known here.
        accuracy: What was measured on real data, by name.
        merged_tokens: Tokens that each block of the image tower merges, see `merging`.
    """

    name: str
    pretrained: str
    model: nn.Module
    tokenizer: SimpleTokenizer
    transform: ImageTransform
    licence: str = "unknown"
    accuracy: dict[str, float] = field(default_factory=dict)
    merged_tokens: int = 0

    def merging(self, tokens: int) -> SourceModel:
        """The model as one that merges tokens: of another name, another fingerprint, and not yet measured."""
        return replace(self, name=f"{self.name}-merge{tokens}", accuracy={}, merged_tokens=tokens)

    @property
    def logit_scale(self) -> float:
        """s in softmax(s * cos)."""
        return float(self.model.logit_scale.detach().exp())

    def fingerprint(self) -> str:
        """Hexadecimal fingerprint, byte for byte as `docs/bundle.md` defines it.

        It covers what decides features, and nothing of how a bundle stores them. The logit scale is among the
        tensors, as its logarithm: its exponential is not the same float32 on every processor.
        """
        digest = hashlib.sha256()
        tensors: dict[str, torch.Tensor] = self.model.state_dict()
        for name in sorted(tensors):
            array = tensors[name].detach().to("cpu", torch.float32).numpy()
            digest.update(_canonical_json([name, list(array.shape)]) + b"\n")
            digest.update(np.ascontiguousarray(array, "<f4").tobytes())
        facts = {
            "cleaning": CLEANING,
            "context_length": int(self.model.context_length),
            "image_transform": asdict(self.transform),
            "merges": [" ".join(pair) for pair in self.tokenizer.bpe_ranks],
            "pooling": POOLING,
            "vocabulary": list(self.tokenizer.encoder),
        }
        if self.merged_tokens:
            facts["merged_tokens"] = self.merged_tokens
        digest.update(_canonical_json(facts))
        return digest.digest()[:FINGERPRINT_BYTES].hex()


def _canonical_json(value: Any) -> bytes:
    """One text for one value.

    Keys are sorted; no spaces, ASCII only, floats in the shortest form that keeps them.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode("ascii")


def load_source(name: str, pretrained: str | None = None, checkpoint: Path | None = None) -> SourceModel:
    """Load a model by name.

    Args:
        name: A name that `open_clip.list_models()` knows, or an embedded backbone's.
        pretrained: A pretrained tag of that model; open_clip fetches the weights if they are not cached.
        checkpoint: A local file of weights; a tag beside it then says only how those weights were trained
            (preprocessing and activation), and nothing is fetched. Pickles are read as tensors only.

    Raises:
        BundleError: Unknown name or tag, weights that cannot be had or do not fit, or a model that is not
            supported.
    """
    if checkpoint and not checkpoint.is_file():
        raise BundleError(f"no such checkpoint: {checkpoint}")
    if name in EMBEDDED:
        if pretrained:
            raise BundleError(f"{name} has weights of its own; leave --pretrained {pretrained!r} out")
        return _load_embedded(name, checkpoint)
    model = _load_open_clip(name, pretrained, checkpoint).float().eval()
    return SourceModel(
        name=name,
        pretrained=checkpoint.name if checkpoint else pretrained or "",
        model=model,
        tokenizer=check_tokenizer(open_clip.get_tokenizer(name)),
        transform=_transform(model.visual.preprocess_cfg),
    )


def _load_embedded(name: str, checkpoint: Path | None) -> SourceModel:
    """An embedded backbone; only its own weights have figures."""
    embedded = EMBEDDED[name]
    if checkpoint is None and not embedded.weights.is_file():
        raise BundleError(f"the weights of {name} are in a checkout of the project only; export it there")
    try:
        model: Any = embedded.load(checkpoint)
    except Exception as error:  # torch and safetensors raise what they like
        raise BundleError(
            f"cannot load {name} ({checkpoint or 'its own weights'}): {_first_line(error)}"
        ) from error
    return SourceModel(
        name=name,
        pretrained=checkpoint.name if checkpoint else name,
        model=model,
        tokenizer=SimpleTokenizer(),
        transform=_transform(model.visual.preprocess_cfg),
        licence="unknown" if checkpoint else embedded.licence,
        accuracy={} if checkpoint else embedded.zero_shot_results(),
    )


def _load_open_clip(name: str, pretrained: str | None, checkpoint: Path | None) -> Any:
    if name not in open_clip.list_models():
        close = [known for known in open_clip.list_models() if known.lower().startswith(name.lower()[:5])]
        raise BundleError(
            f"open_clip has no model {name!r}" + (f"; it has {', '.join(close)}" if close else "")
        )
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained and pretrained not in tags:
        raise BundleError(f"{name} has no pretrained tag {pretrained!r}; it has {', '.join(tags) or 'none'}")
    _check_config(name)
    trained = open_clip.get_pretrained_cfg(name, pretrained) if pretrained else {}
    torch.manual_seed(_RANDOM_SEED)
    try:
        return open_clip.create_model(
            name,
            pretrained=str(checkpoint) if checkpoint else pretrained,
            force_quick_gelu=bool(trained.get("quick_gelu")),
            force_preprocess_cfg={key: trained[key] for key in _PREPROCESSING if key in trained},
        )
    except Exception as error:  # open_clip, torch and the hub client raise what they like
        raise BundleError(f"cannot load {name} ({checkpoint or pretrained}): {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _check_config(name: str) -> None:
    """Refuse what open_clip would fetch from a hub only for its text tower to be refused afterwards."""
    config = open_clip.get_model_config(name) or {}
    text = config.get("text_cfg", {})
    for option, what in (("hf_model_name", "Hugging Face text tower"), ("hf_tokenizer_name", "tokenizer")):
        if text.get(option):
            raise BundleError(
                f"{name} is not supported: it has the {what} {text[option]!r} ({option}); supported are "
                "open_clip's own text transformers with CLIP's tokenizer"
            )
    if "multimodal_cfg" in config:
        raise BundleError(f"{name} is not supported: it has a multimodal text tower (multimodal_cfg)")


def _transform(config: dict[str, Any]) -> ImageTransform:
    """open_clip's preprocessing configuration as ours."""
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else size
    return ImageTransform(
        size=(int(height), int(width)),
        resize_mode=str(config["resize_mode"]),
        interpolation=str(config["interpolation"]),
        mean=_rgb(config["mean"]),
        std=_rgb(config["std"]),
        fill_color=int(config["fill_color"]),
    )


def _rgb(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)
