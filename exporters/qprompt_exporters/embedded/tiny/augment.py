"""Augmentation of whole batches in torch, and the order in which a run sees its images."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from qprompt_exporters.embedded.tiny.model import PREPROCESS


def augment(images: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    """Crops, flips and recolours a batch, every image in its own way, and normalises it.

    Two in five images change in brightness, contrast and saturation, one in twenty becomes grey. Half of them
    lose resolution, down to 0.3 to 0.7 of theirs (a factor a batch), since photographs and thumbnails differ
    in sharpness.

    Args:
        images: [B, 3, H, W] uint8.
        size: side of the result in pixels.
        generator: the source of all randomness.

    Returns:
        [B, 3, size, size] float32, by the mean and standard deviation of `PREPROCESS`.
    """
    batch = len(images)

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(batch, generator=generator) * (high - low) + low

    area, ratio = uniform(0.5, 1.0), uniform(-0.29, 0.29).exp()
    scale_x, scale_y = ((area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1))
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = scale_x * mirror, scale_y
    theta[:, 0, 2], theta[:, 1, 2] = uniform(-1, 1) * (1 - scale_x), uniform(-1, 1) * (1 - scale_y)
    grid = F.affine_grid(theta, [batch, 3, size, size], align_corners=False)
    x = F.grid_sample(images.float() / 255, grid, padding_mode="reflection", align_corners=False)
    low = round(size * (0.3 + 0.4 * torch.rand(1, generator=generator).item()))
    coarse = F.interpolate(x, (low, low), mode="bilinear", antialias=True)
    coarse = F.interpolate(coarse, (size, size), mode="bicubic")
    x = torch.where(uniform(0, 1).view(-1, 1, 1, 1) < 0.5, coarse, x)

    change = (uniform(0, 1) < 0.4).float()
    brightness = (1 + change * uniform(-0.3, 0.3)).view(-1, 1, 1, 1)
    contrast = (1 + change * uniform(-0.3, 0.3)).view(-1, 1, 1, 1)
    saturation = 1 + change * uniform(-0.4, 0.4)
    saturation = torch.where(uniform(0, 1) < 0.05, 0.0, saturation).view(-1, 1, 1, 1)
    grey = x.mean(dim=1, keepdim=True)
    middle = x.mean(dim=(1, 2, 3), keepdim=True)
    x = ((grey + (x - grey) * saturation) - middle) * contrast + middle * brightness
    return normalise(x.clamp(0, 1))


def normalise(x: torch.Tensor) -> torch.Tensor:
    """Shifts and scales [B, 3, H, W] in [0, 1] by the model's mean and standard deviation.

    Each is the same in all channels.
    """
    return (x - PREPROCESS["mean"][0]) / PREPROCESS["std"][0]


def batches(
    rows: NDArray[np.int64], size: int, epoch: int, seed: int, start: int = 0
) -> Iterator[torch.Tensor]:
    """Gives an epoch's full batches of row numbers, shuffled by seed and epoch, from the `start`-th on."""
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    for step in range(start, len(rows) // size):
        yield torch.from_numpy(order[step * size : (step + 1) * size])
