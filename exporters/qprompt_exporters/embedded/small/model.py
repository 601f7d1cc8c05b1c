"""The embedded backbone `small`: an `open_clip.CLIP` whose image tower stands on a convolutional trunk.

The trunk's 7 x 7 grid becomes 49 tokens; the class token is a linear map of its pooled features. Two blocks
of a ViT follow, whose last matrices start at zero: without training the feature is that linear map, as in a
plain convolutional CLIP. Deep image prompts enter the blocks, so tuning them never runs the trunk again.
"""

from typing import Any

import torch
from open_clip import CLIP, set_model_preprocess_cfg
from open_clip.transformer import VisionTransformer
from torch import nn

from qprompt_exporters.embedded.small.trunk import MEAN, POOLED_WIDTH, SIZE, STAGE_WIDTH, STD, Trunk

EMBED_DIM = 256
WIDTH = 256
"""Of a token; the class token passes the features through."""
BLOCKS = 2
CONFIG: dict[str, Any] = {
    "embed_dim": EMBED_DIM,
    "vision_cfg": {"image_size": SIZE, "patch_size": 32, "layers": BLOCKS, "width": WIDTH, "head_width": 64},
    "text_cfg": {
        "context_length": 32,
        "vocab_size": 49408,
        "width": 192,
        "heads": 4,
        "layers": 3,
    },
}
PREPROCESS: dict[str, Any] = {
    "size": (SIZE, SIZE),
    "mode": "RGB",
    "mean": (MEAN,) * 3,
    "std": (STD,) * 3,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}


class TrunkTransformer(VisionTransformer):
    """A ViT behind the trunk: pixels [B, 3, 224, 224] to features [B, 256]."""

    def __init__(self) -> None:
        super().__init__(
            image_size=SIZE, patch_size=32, width=WIDTH, layers=BLOCKS, heads=4, mlp_ratio=2.0,
            output_dim=EMBED_DIM, no_ln_pre=True,
        )  # fmt: skip
        self.conv1 = Trunk()
        self.patches = nn.Linear(STAGE_WIDTH, WIDTH)
        self.pooled = nn.Linear(POOLED_WIDTH, WIDTH, bias=False)

    def _embeds(self, x: torch.Tensor) -> torch.Tensor:
        """Gives the blocks' tokens, [B, 50, 256], the class token first."""
        grid = self.conv1.grid(x)
        return self.tokens(grid, self.conv1.pool(grid))

    def tokens(self, grid: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        """Gives the blocks' tokens [B, 50, 256] of a grid [B, 320, 7, 7] and pooled features [B, 1280]."""
        start = self.class_embedding + self.pooled(pooled)
        patches = self.patches(grid.flatten(2).transpose(1, 2))
        return self.ln_pre(torch.cat([start[:, None], patches], dim=1) + self.positional_embedding)

    def features(self, tokens: torch.Tensor) -> torch.Tensor:
        """Runs what stands behind the trunk: [B, 50, 256] to [B, 256], not yet of length 1."""
        pooled, _ = self._pool(self.transformer(tokens))
        return pooled @ self.proj


def build_small() -> CLIP:
    """Builds the model with random weights, its preprocessing stated where open_clip keeps it."""
    model = CLIP(**CONFIG)
    model.visual = TrunkTransformer()
    set_model_preprocess_cfg(model, PREPROCESS)
    return model
