"""How close a written bundle is to torch: measured at every export, stored, and bounded.

The text tower is compared with open_clip's own `encode_text` at full length; context vectors enter it through
a hook on the token embedding, and their gradient comes from autograd. So nothing of our graph is shared with
its reference.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from qprompt_exporters.merged import merged_features
from qprompt_exporters.models import SourceModel
from qprompt_exporters.prompted import prompted_features
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.deep_backbone import DeepBackbone
from qprompt_runtime.errors import BundleError
from qprompt_runtime.images import ImageTransform
from qprompt_runtime.manifest import MERGED_TOKENS
from qprompt_runtime.processor import INT8

_NAMES = ("cat", "fire engine", "grand piano", "snow leopard", "t-shirt", "bicycle built for two")
_TEMPLATE = ("", ".")
_CONTEXT = "a photo of a"
_DEEP_PHOTOS = 4
_SEED = 0
_STATIC_INT8 = 0.995
_OPTIONAL = ("deep_gradient_error", "int8_image_cosine_mean")

BOUNDS = {
    "fp32": {
        "image_cosine_mean": 0.99999,
        "text_cosine_min": 0.99999,
        "gradient_error": 1e-5,
        "deep_gradient_error": 1e-5,
        "int8_image_cosine_mean": _STATIC_INT8,
    },
    "fp16": {
        "image_cosine_mean": 0.999,
        "text_cosine_min": 0.999,
        "gradient_error": 0.05,
        "deep_gradient_error": 0.05,
        "int8_image_cosine_mean": _STATIC_INT8,
    },
    "int8": {"image_cosine_mean": 0.999, "text_cosine_min": 0.999, "gradient_error": 0.05},
    "static int8": {"image_cosine_mean": _STATIC_INT8, "text_cosine_min": 0.999, "gradient_error": 0.05},
    "merging int8": {"image_cosine_mean": 0.995, "text_cosine_min": 0.999, "gradient_error": 0.05},
}
"""By a bundle's precision: cosines at least, and relative gradient error at most, this.

`static int8` is int8 with scales that photos fixed. `merging int8` is int8 of a tower that merges tokens:
rounding now and then changes which ones.
"""


def bounds_of(precision: str, scales_fixed: bool, merged_tokens: int) -> str:
    """Which of `BOUNDS` hold for a bundle; `scales_fixed`: photos fixed the scales of an int8 image graph."""
    if precision != "int8" or not (scales_fixed or merged_tokens):
        return precision
    return "merging int8" if merged_tokens else "static int8"


def encode_text_with_context(model: nn.Module, ids: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    """open_clip's `encode_text` with context vectors in the places of the first words.

    Args:
        model: An open_clip model.
        ids: int64 [C,L] token ids, with any n ids behind the start token.
        context: float32 [n,D], or [C,n,D], which replaces those n embeddings.

    Returns:
        Unit class features [C,E], differentiable with respect to `context`.
    """
    embedding: Any = getattr(model, "text", model).token_embedding
    count = context.shape[-2]

    def replace(_module: nn.Module, _ids: Any, rows: torch.Tensor) -> torch.Tensor:
        return torch.cat([rows[:, :1], context.expand(len(rows), -1, -1), rows[:, 1 + count :]], dim=1)

    handle = embedding.register_forward_hook(replace)
    try:
        encoded: Any = model.encode_text(ids)
        return functional.normalize(encoded, dim=-1)
    finally:
        handle.remove()


def measure(source: SourceModel, backbone: Backbone, photos: Array | None) -> dict[str, float]:
    """Compare a bundle with the model it came from.

    Args:
        source: The torch model.
        backbone: The bundle, opened with its image tower in floating point, where it has two.
        photos: Pixels [N,3,H,W] of real photos to compare image features on; None takes noise.

    Returns:
        `image_cosine_mean`, `image_cosine_min`, `image_count`, `image_real` (1 for real photos),
        `text_cosine_min`, `gradient_error` (relative, L2), and `deep_gradient_error`, of the prompts of both
        towers, if the bundle has deep graphs. If it has a second image tower, and there are photos,
        `int8_image_cosine_mean` and `int8_image_cosine_min` are its own. If it merges tokens, torch merges as
        many, and there are `merged_tokens` and, beside torch without merging, `unmerged_cosine_mean` and
        `unmerged_cosine_min`.
    """
    pixels = noise(source.transform) if photos is None else photos
    found = backbone.encode_images(pixels)
    with torch.no_grad():
        inputs = torch.from_numpy(pixels)
        plain = functional.normalize(source.model.encode_image(inputs), dim=-1)
        merged = source.merged_tokens
        expected = merged_features(source.model, inputs, merged) if merged else plain
    cosines, unmerged = ((rows.numpy() * found).sum(axis=1) for rows in (expected, plain))
    text_cosine, gradient_error = _text_parity(source, backbone)
    deep = {}
    if isinstance(backbone, DeepBackbone):
        deep = {"deep_gradient_error": _deep_gradient_error(source, backbone, pixels[:_DEEP_PHOTOS])}
    return {
        "image_cosine_mean": float(cosines.mean()),
        "image_cosine_min": float(cosines.min()),
        "image_count": float(len(pixels)),
        "image_real": float(photos is not None),
        "text_cosine_min": text_cosine,
        "gradient_error": gradient_error,
        **deep,
        **_int8(backbone, plain.numpy(), photos),
        **(_merging(merged, unmerged) if merged else {}),
    }


def _int8(backbone: Backbone, expected: Array, photos: Array | None) -> dict[str, float]:
    """What `measure` adds for an int8 image tower beside the other."""
    if backbone.manifest.int8_image_graph is None or photos is None:
        return {}
    fast = Backbone.load(backbone.folder, "cpu", precision=INT8)
    cosines = (expected * fast.encode_images(photos)).sum(axis=1)
    return {
        "int8_image_cosine_mean": float(cosines.mean()),
        "int8_image_cosine_min": float(cosines.min()),
    }


def _merging(merged: int, unmerged: Array) -> dict[str, float]:
    """What `measure` adds for a tower that merges tokens, from its cosines with one that does not."""
    return {
        MERGED_TOKENS: float(merged),
        "unmerged_cosine_mean": float(unmerged.mean()),
        "unmerged_cosine_min": float(unmerged.min()),
    }


def check(parity: dict[str, float], precision: str) -> None:
    """Refuse a bundle that is farther from torch than its precision's bounds.

    Raises:
        BundleError: Names the measure, its value and its bound.
    """
    for name, bound in BOUNDS[precision].items():
        if name in _OPTIONAL and name not in parity:
            continue
        good = parity[name] <= bound if name.endswith("error") else parity[name] >= bound
        if not good:
            raise BundleError(
                f"the {precision} bundle is too far from the original: {name} is {parity[name]:.6g}, the "
                f"bound {bound:g}; nothing was written. Try --precision fp32"
            )


def _text_parity(source: SourceModel, backbone: Backbone) -> tuple[float, float]:
    """Least cosine of class features, and the relative error of a loss's gradient."""
    rng = np.random.default_rng(_SEED)
    context = backbone.embed_text(_CONTEXT)
    image = rng.normal(size=(8, backbone.manifest.embed_dim)).astype(np.float32)
    image /= np.linalg.norm(image, axis=1, keepdims=True)
    targets = np.eye(len(_NAMES), dtype=np.float32)[rng.integers(len(_NAMES), size=8)] / np.float32(8)
    tokens = backbone.tokenize(_NAMES, _TEMPLATE, len(context))
    features = backbone.encode_classes(context[None], tokens)
    _, gradient = backbone.loss_and_gradient(context[None], tokens, image, targets, source.logit_scale)

    leaf = torch.tensor(context, requires_grad=True)
    ids = source.tokenizer([f"{_CONTEXT} {name}." for name in _NAMES], int(source.model.context_length))
    expected = encode_text_with_context(source.model, ids, leaf)
    log_p = torch.log_softmax(source.logit_scale * torch.from_numpy(image) @ expected.T, dim=-1)
    (reference,) = torch.autograd.grad(-(torch.from_numpy(targets) * log_p).sum(), leaf)
    cosine = (expected.detach().numpy() * features).sum(axis=1).min()
    error = np.linalg.norm(gradient[0] - reference.numpy()) / np.linalg.norm(reference.numpy())
    return float(cosine), float(error)


def _deep_gradient_error(source: SourceModel, backbone: DeepBackbone, pixels: Array) -> float:
    """The larger of the relative errors at the text prompts and at the image prompts."""
    rng = np.random.default_rng(_SEED)
    depth, count = backbone.deep.depth, 2
    context = backbone.embed_text("a photo")
    spread = context.std()
    text = rng.normal(0, spread, (depth, count, context.shape[1])).astype(np.float32)
    text[0] = context
    image = rng.normal(0, 1, (depth, count, backbone.deep.image_width)).astype(np.float32) * spread
    labels = rng.integers(len(_NAMES), size=len(pixels))
    targets = np.eye(len(_NAMES), dtype=np.float32)[labels] / np.float32(len(pixels))
    tokens = backbone.tokenize(_NAMES, ("of a", "."), count)
    _, d_text, d_image = backbone.loss_and_deep_gradients(
        text, image, tokens, backbone.encode_stem(pixels), targets, source.logit_scale
    )
    leaves = [torch.tensor(array, requires_grad=True) for array in (text, image)]
    ids = source.tokenizer([f"{_CONTEXT} {name}." for name in _NAMES], int(source.model.context_length))
    classes, images = prompted_features(source.model, ids, torch.from_numpy(pixels), *leaves)
    loss = functional.cross_entropy(source.logit_scale * images @ classes.T, torch.from_numpy(labels))
    expected = [gradient.numpy() for gradient in torch.autograd.grad(loss, leaves)]
    return max(
        float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
        for ours, theirs in zip((d_text, d_image), expected, strict=True)
    )


def noise(transform: ImageTransform) -> Array:
    """Smooth noise, float32 [8,3,H,W], where no photos are given."""
    rng = np.random.default_rng(_SEED)
    coarse = torch.from_numpy(rng.normal(size=(8, 3, 8, 8)).astype(np.float32))
    return functional.interpolate(coarse, size=transform.size, mode="bicubic").numpy()
