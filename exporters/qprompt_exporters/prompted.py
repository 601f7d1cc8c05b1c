"""MaPLe in torch, the reference of the deep graphs: prompts enter open_clip's own towers through hooks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def _prompted(model: Any, text_prompts: torch.Tensor, image_prompts: torch.Tensor) -> Iterator[None]:
    """Let `encode_text` and `encode_image` see the prompts inside of the block.

    They do as MaPLe's code does (Khattak et al. 2023).
    """
    count, own = text_prompts.shape[1], model.visual.positional_embedding.shape[0]
    text, visual = getattr(model, "text", model), model.visual

    def behind_start(x: Any, layer: int) -> Any:
        inner = text_prompts[layer].expand(len(x), -1, -1)
        return torch.cat([x[:, :1], inner, x[:, 1 + count :]], dim=1)

    def behind_patches(x: Any, layer: int) -> Any:
        return torch.cat([x[:, :own], image_prompts[layer].expand(len(x), -1, -1)], dim=1)

    def before(block: Any, put: Any, layer: int) -> Any:
        return block.register_forward_pre_hook(lambda _m, x: (put(x[0], layer), *x[1:]))

    handles = [
        text.token_embedding.register_forward_hook(lambda _m, _i, x: behind_start(x, 0)),
        before(visual.ln_pre, behind_patches, 0),
        visual.ln_post.register_forward_pre_hook(lambda _m, x: (x[0][:, :own],)),
    ]
    for layer in range(1, len(text_prompts)):
        handles.append(before(text.transformer.resblocks[layer], behind_start, layer))
        handles.append(before(visual.transformer.resblocks[layer], behind_patches, layer))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def prompted_features(
    model: Any,
    ids: torch.Tensor,
    pixels: torch.Tensor,
    text_prompts: torch.Tensor,
    image_prompts: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit features of both towers with deep prompts.

    Args:
        model: An open_clip model with a ViT image tower.
        ids: int64 [C,L] token ids, with any n ids behind the start token.
        pixels: Normalised pixels [B,3,H,W].
        text_prompts: [J,n,D]; the first replace those n embeddings.
        image_prompts: [J,n,V].

    Returns:
        Features of classes [C,E] and of images [B,E], differentiable with respect to the prompts.
    """
    with _prompted(model, text_prompts, image_prompts):
        encoded = model.encode_text(ids), model.encode_image(pixels)
    classes, images = (torch.nn.functional.normalize(rows, dim=-1) for rows in encoded)
    return classes, images
