"""The embedded backbone `tiny`: an ordinary `open_clip.CLIP`, small, with a convolutional stem.

Four strided convolutions, a residual block after each but the first, stand where a ViT has its patch
embedding; open_clip's own forward code runs unchanged. A 64 x 64 image becomes 16 tokens. Convolutions learn
from few images and few passes what attention would need many for, and keep the blocks cheap.
"""

from typing import Any

import torch
from open_clip import CLIP, set_model_preprocess_cfg
from torch import nn

CONFIG: dict[str, Any] = {
    "embed_dim": 256,
    "vision_cfg": {
        "image_size": 64,
        "patch_size": 16,  # the stem's total stride
        "layers": 6,
        "width": 192,
        "head_width": 48,
        "mlp_ratio": 2.0,
        "pool_type": "avg",  # over the image's tokens; a class token learns too slowly in few epochs
    },
    "text_cfg": {
        "context_length": 32,
        "vocab_size": 49408,
        "width": 192,
        "heads": 4,
        "layers": 3,
    },
}
PREPROCESS: dict[str, Any] = {
    "size": (64, 64),
    "mode": "RGB",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.25, 0.25, 0.25),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside an identity, as in ResNet (He et al. 2015); [B, C, H, W] stays so."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Adds the block's answer to its input."""
        return torch.relu(x + self.body(x))


def build_stem(width: int) -> nn.Sequential:
    """Builds the stem: [B, 3, H, W] -> [B, width, H / 16, W / 16]."""
    return nn.Sequential(
        *_downsample(3, 32),
        *_downsample(32, 64),
        ResidualBlock(64),
        *_downsample(64, 128),
        ResidualBlock(128),
        *_downsample(128, width),
        ResidualBlock(width),
    )


def build_tiny() -> CLIP:
    """Builds the model with random weights, its preprocessing stated where open_clip keeps it."""
    model = CLIP(**CONFIG)
    model.visual.conv1 = build_stem(CONFIG["vision_cfg"]["width"])
    set_model_preprocess_cfg(model, PREPROCESS)
    return model


def _downsample(inputs: int, outputs: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]
