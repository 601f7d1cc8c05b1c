"""Token merging in torch, the reference of its graph.

The blocks are open_clip's own modules; the matching is that of its authors' code (Bolya et al. 2023).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional


def merged_features(model: Any, pixels: torch.Tensor, merged: int) -> torch.Tensor:
    """Unit image features of a plain ViT that merges tokens.

    Args:
        model: An open_clip model with a plain ViT image tower, in evaluation mode.
        pixels: Normalised pixels [B,3,H,W].
        merged: Tokens merged in every block but the last, R.

    Returns:
        [B,E], rows of length 1.
    """
    visual = model.visual
    x = visual._embeds(pixels)
    patches = x.shape[1] - 1
    sizes = x.new_ones(*x.shape[:2], 1)
    for number, block in enumerate(visual.transformer.resblocks):
        attended, metric = _attend(block.attn, block.ln_1(x), sizes)
        x = x + attended
        if number < len(visual.transformer.resblocks) - 1:
            x, sizes = _merge(x, sizes, metric, merged)
        x = x + block.mlp(block.ln_2(x))
    x = visual.ln_post(x)
    pooled = (x * sizes)[:, 1:].sum(dim=1) / patches if visual.pool_type == "avg" else x[:, 0]
    return functional.normalize(pooled @ visual.proj, dim=-1)


def _attend(attention: Any, x: torch.Tensor, sizes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention in which a key counts as often as it stands for, and the keys' mean over heads."""
    joined = functional.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = joined.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + sizes.log()[:, None, None, :, 0]
    out = (scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)
    return attention.out_proj(out), k.mean(dim=1)


def _merge(
    x: torch.Tensor, sizes: torch.Tensor, metric: torch.Tensor, merged: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The authors' `bipartite_soft_matching` and `merge_wavg`, with a class token."""
    metric = metric / metric.norm(dim=-1, keepdim=True)
    scores = metric[:, ::2] @ metric[:, 1::2].transpose(-1, -2)
    scores[:, 0] = -torch.inf
    best, target = scores.max(dim=-1)
    order = best.argsort(dim=-1, descending=True)
    taken, kept = order[:, :merged], order[:, merged:].sort(dim=-1).values
    target = target.gather(1, taken)

    def sums(values: torch.Tensor) -> torch.Tensor:
        def at(numbers: torch.Tensor) -> torch.Tensor:
            return numbers[..., None].expand(-1, -1, values.shape[-1])

        set_a, set_b = values[:, ::2], values[:, 1::2]
        set_b = set_b.scatter_add(1, at(target), set_a.gather(1, at(taken)))
        return torch.cat([set_a.gather(1, at(kept)), set_b], dim=1)

    total, counts = sums(x * sizes), sums(sizes)
    return total / counts, counts
