"""The two towers of an open_clip model, as the exporters need them.

open_clip builds CLIP in two shapes: `CLIP` keeps the text transformer's parts on the model itself,
`CustomTextCLIP` keeps them under `.text`. Here both become one `TextTower`: plain arrays and the few facts
that decide the graph. What the graph cannot express exactly is refused with the reason.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, TextTransformer, VisionTransformer
from torch import nn
from torch.nn import functional

from qprompt_runtime.errors import BundleError

VOCABULARY = 49408
"""Entries of CLIP's BPE vocabulary, the two special tokens included."""


@dataclass(frozen=True)
class TextTower:
    """The text transformer of a CLIP.

    Attributes:
        weights: float32 arrays by the names of open_clip's `TextTransformer`: `token_embedding.weight` [V,D],
            `positional_embedding` [L,D], `transformer.resblocks.<i>.*`, `ln_final.*`, `text_projection`
            [D,E].
        layers: Number of residual attention blocks.
        heads: Attention heads of a block.
        causal: Whether a position sees only itself and what stands before it.
        activation: Of the MLP: `gelu` (exact) or `quick_gelu` (x * sigmoid(1.702 x)).
        epsilon: Of every layer normalisation.
    """

    weights: dict[str, NDArray[np.float32]]
    layers: int
    heads: int
    causal: bool
    activation: str
    epsilon: float

    @property
    def width(self) -> int:
        """Width D of the token embeddings, and of a context vector."""
        return int(self.weights["token_embedding.weight"].shape[1])

    @property
    def embed_dim(self) -> int:
        """Width E of the features that both towers share."""
        return int(self.weights["text_projection"].shape[1])

    @property
    def context_length(self) -> int:
        """The most tokens that the tower reads, start and end token included."""
        return int(self.weights["positional_embedding"].shape[0])


def read_text_tower(model: nn.Module) -> TextTower:
    """Take the text tower out of an open_clip model.

    Args:
        model: An `open_clip.CLIP` or `open_clip.CustomTextCLIP` in evaluation mode.

    Raises:
        BundleError: The text tower is of a kind that the text graph cannot express exactly; says which.
    """
    text: Any = getattr(model, "text", model)
    if hasattr(model, "text") and not isinstance(text, TextTransformer):
        raise BundleError(
            f"the text tower is a {type(text).__name__}; supported are open_clip's own text transformers "
            "with CLIP's tokenizer (SigLIP, Hugging Face and multimodal text towers are not)"
        )
    block = text.transformer.resblocks[0]
    _check_supported(text, block)
    parts = ("token_embedding", "positional_embedding", "transformer", "ln_final", "text_projection")
    weights = {
        name: tensor.detach().float().cpu().numpy()
        for name, tensor in text.state_dict().items()
        if name.split(".")[0] in parts
    }
    return TextTower(
        weights=weights,
        layers=len(text.transformer.resblocks),
        heads=int(block.attn.num_heads),
        causal=text.attn_mask is not None,
        activation="quick_gelu" if isinstance(block.mlp.gelu, QuickGELU) else "gelu",
        epsilon=float(block.ln_1.eps),
    )


def _check_supported(text: Any, block: nn.Module) -> None:
    """Refuse what the text graph does not express: each check names the open_clip option behind it."""
    pool = getattr(text, "pool_type", None) or getattr(text, "text_pool_type", None)
    activation = block.mlp.gelu if isinstance(block, ResidualAttentionBlock) else None
    problems = {
        f"blocks of type {type(block).__name__} (block_type)": not isinstance(block, ResidualAttentionBlock),
        f"activation {activation}": not _is_known(activation),
        "layer scale (ls_init_value)": isinstance(block, ResidualAttentionBlock)
        and not isinstance(block.ls_1, nn.Identity),
        "a class embedding (embed_cls)": getattr(text, "cls_emb", None) is not None,
        "a padding mask (use_pad_mask)": bool(getattr(text, "use_pad_mask", False)),
        f"pooling '{pool}' (pool_type); only 'argmax' is": pool != "argmax",
        "a projection that is not a plain matrix (proj_type, proj_bias)": not isinstance(
            text.text_projection, torch.Tensor
        ),
        f"a vocabulary of {text.vocab_size} entries, not CLIP's {VOCABULARY}": text.vocab_size != VOCABULARY,
    }
    found = [name for name, present in problems.items() if present]
    if found:
        raise BundleError("this text tower is not supported: it has " + "; ".join(found))


def _is_known(activation: object) -> bool:
    """Whether the graphs can express an MLP's activation."""
    exact = isinstance(activation, nn.GELU) and activation.approximate == "none"
    return exact or isinstance(activation, QuickGELU)


@dataclass(frozen=True)
class ImageTransformer:
    """The transformer of a ViT image tower: everything behind its patches.

    Attributes:
        weights: float32 arrays by the names of open_clip's `VisionTransformer`: `ln_pre.*`,
            `transformer.resblocks.<i>.*`, `ln_post.*`, `proj` [D,E].
        layers: Number of residual attention blocks.
        heads: Attention heads of a block.
        activation: Of the MLP: `gelu` (exact) or `quick_gelu`.
        epsilon: Of every layer normalisation.
        average: Whether the feature is the mean over patches instead of the class token.
        norm_before: Whether a normalisation stands before the first block.
        tokens: Tokens of an image, the class token included.
    """

    weights: dict[str, NDArray[np.float32]]
    layers: int
    heads: int
    activation: str
    epsilon: float
    average: bool
    norm_before: bool
    tokens: int

    @property
    def width(self) -> int:
        """Width D of a token, and of a prompt."""
        return int(self.weights["proj"].shape[0])

    @property
    def embed_dim(self) -> int:
        """Width E of the features that both towers share."""
        return int(self.weights["proj"].shape[1])


def read_image_transformer(
    model: nn.Module, option: str = "--deep-prompts", asked: str = "take deep prompts"
) -> ImageTransformer:
    """Take the image tower's transformer out of an open_clip model.

    Args:
        model: An open_clip model in evaluation mode.
        option: The option that needs a plain ViT, for the error.
        asked: What it asks of the tower, for the error.

    Raises:
        BundleError: The image tower is no ViT, or has a part that `vit_graph.py` cannot express exactly.
    """
    visual: Any = getattr(model, "visual", None)
    problems = beyond_plain_vit(model)
    if problems:
        raise BundleError(
            f"this image tower ({type(visual).__name__}) cannot {asked}: it has "
            f"{'; '.join(problems)}; export it without {option}"
        )
    block = visual.transformer.resblocks[0]
    parts = ("ln_pre", "transformer", "ln_post", "proj")
    return ImageTransformer(
        weights={
            name: tensor.detach().float().cpu().numpy()
            for name, tensor in visual.state_dict().items()
            if name.split(".")[0] in parts
        },
        layers=len(visual.transformer.resblocks),
        heads=int(block.attn.num_heads),
        activation="quick_gelu" if isinstance(block.mlp.gelu, QuickGELU) else "gelu",
        epsilon=float(block.ln_1.eps),
        average=visual.pool_type == "avg",
        norm_before=not isinstance(visual.ln_pre, nn.Identity),
        tokens=int(visual.positional_embedding.shape[0]),
    )


def beyond_plain_vit(model: nn.Module) -> list[str]:
    """What an image tower has beyond a plain ViT, as `vit_graph.py` writes it.

    Empty for a plain ViT.
    """
    visual: Any = getattr(model, "visual", None)
    if not isinstance(visual, VisionTransformer):
        return ["no tokens of a ViT"]
    block = visual.transformer.resblocks[0]
    plain = isinstance(block, ResidualAttentionBlock)
    activation = block.mlp.gelu if plain else None
    problems = {
        f"blocks of type {type(block).__name__}": not plain,
        f"activation {activation}": plain and not _is_known(activation),
        "layer scale (ls_init_value)": plain and not isinstance(block.ls_1, nn.Identity),
        "attentional pooling": visual.attn_pool is not None,
        "a normalisation behind the pooling (final_ln_after_pool)": visual.final_ln_after_pool,
        f"pooling {visual.pool_type!r}": visual.pool_type not in ("tok", "avg"),
        "no projection": visual.proj is None,
    }
    return [name for name, present in problems.items() if present]


class ImageStem(nn.Module):
    """Pixels [B,3,H,W] to the tokens [B,T,D] of a ViT.

    The class token comes first; positions are added; nothing is normalised yet. The tokens are the tower's
    own, also where a subclass of `VisionTransformer` makes them in another way.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        visual: Any = copy.copy(model.visual)
        # a new table of parts: the copy's own is still the model's
        visual._modules = {**visual._modules, "ln_pre": nn.Identity()}
        self.visual = visual

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Cut normalised pixels into tokens."""
        return self.visual._embeds(pixels)


class ImageTower(nn.Module):
    """Pixels [B,3,H,W] to unit image features [B,E], as a module with one tensor in and one out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.visual = model.visual

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode normalised pixels.

        Args:
            pixels: Float tensor [B,3,H,W], already resized and normalised.

        Returns:
            Float tensor [B,E], rows of length 1.
        """
        return functional.normalize(self.visual(pixels), dim=-1)
