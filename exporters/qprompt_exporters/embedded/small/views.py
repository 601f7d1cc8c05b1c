"""Views of training photos: a clean crop, and the same crop as a worse camera would have taken it."""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from qprompt_exporters.embedded.small.trunk import MEAN, SIZE, STD


def read_photos(path: Path) -> tuple[list[torch.Tensor], list[str]]:
    """Decodes the photographs of a zip file.

    Args:
        path: a zip file whose members are named `<wnid>_<name>.<ending>`.

    Returns:
        N images [3, H, W] uint8, and their WordNet ids.
    """
    images, wnids = [], []
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if not name.endswith("/"):
                picture = Image.open(io.BytesIO(archive.read(name))).convert("RGB")
                images.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous())
                wnids.append(name.split("/")[-1].split("_")[0])
    return images, wnids


def normalise(x: torch.Tensor) -> torch.Tensor:
    """Shifts and scales [B, 3, H, W] in [0, 1] as the trunk expects it."""
    return (x - MEAN) / STD


def centre(image: torch.Tensor) -> torch.Tensor:
    """Gives the view that a user's photo gets: shorter side to 224, centre; [3, 224, 224] in [0, 1]."""
    height, width = image.shape[1:]
    scale = SIZE / min(height, width)
    shape = (max(SIZE, round(height * scale)), max(SIZE, round(width * scale)))
    x = F.interpolate(image[None].float() / 255, shape, mode="bicubic", antialias=True)[0].clamp(0, 1)
    top, left = (shape[0] - SIZE) // 2, (shape[1] - SIZE) // 2
    return x[:, top : top + SIZE, left : left + SIZE]


def crop(image: torch.Tensor, least: float, rng: np.random.Generator) -> torch.Tensor:
    """Crops `least` to all of an image's area at random, and mirrors half of the crops.

    Returns [3, 224, 224] in [0, 1].
    """
    height, width = image.shape[1:]
    area = rng.uniform(least, 1.0) * height * width
    ratio = np.exp(rng.uniform(-0.29, 0.29))
    high, wide = min(height, round((area / ratio) ** 0.5)), min(width, round((area * ratio) ** 0.5))
    top, left = rng.integers(height - high + 1), rng.integers(width - wide + 1)
    part = image[:, top : top + high, left : left + wide]
    x = F.interpolate(part[None].float() / 255, (SIZE, SIZE), mode="bicubic", antialias=True)[0].clamp(0, 1)
    return x.flip(2) if rng.random() < 0.5 else x


def coarse(x: torch.Tensor, side: int, rng: np.random.Generator) -> torch.Tensor:
    """Loses resolution: down to `side` pixels and up again, as thumbnails and cheap sensors do."""
    small = F.interpolate(x[None], (side, side), mode="bilinear", antialias=True)
    mode = "bicubic" if rng.random() < 0.7 else "bilinear"
    return F.interpolate(small, x.shape[1:], mode=mode)[0].clamp(0, 1)


def recolour(x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Changes brightness, contrast and saturation; one in six loses all colour."""
    bright, contrast = rng.uniform(0.6, 1.4), rng.uniform(0.6, 1.4)
    saturation = 0.0 if rng.random() < 1 / 6 else rng.uniform(0.5, 1.5)
    grey = x.mean(dim=0, keepdim=True)
    middle = x.mean()
    return (((grey + (x - grey) * saturation) - middle) * contrast + middle * bright).clamp(0, 1)


def draw(x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Makes a drawing: dark edges on white, or a few flat colours."""
    side = int(rng.integers(64, SIZE))
    soft = F.interpolate(x[None], (side, side), mode="bilinear", antialias=True)
    if rng.random() < 0.5:
        grey = F.pad(soft.mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        down = grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
        right = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]
        edges = (down.square() + right.square()).sqrt()
        flat = (1 - edges * rng.uniform(2.0, 6.0)).clamp(0, 1).expand(1, 3, -1, -1)
    else:
        levels = int(rng.integers(3, 7))
        flat = (F.avg_pool2d(soft, 3, 1, 1, count_include_pad=False) * levels).round() / levels
    return F.interpolate(flat, x.shape[1:], mode="bicubic")[0].clamp(0, 1)


def worsen(x: torch.Tensor, least_side: int, most_side: int, rng: np.random.Generator) -> torch.Tensor:
    """Gives the view of a worse camera, or now and then a drawing.

    Args:
        x: [3, 224, 224] in [0, 1].
        least_side: the smallest resolution, in pixels a side.
        most_side: the largest.
        rng: the source of randomness.
    """
    if rng.random() < 0.12:
        return draw(x, rng)
    if rng.random() < 0.35:
        x = recolour(x, rng)
    if rng.random() < 0.6:
        side = round(float(np.exp(rng.uniform(np.log(least_side), np.log(most_side)))))
        x = coarse(x, side, rng)
    return x


def batch_of(views: Sequence[torch.Tensor]) -> torch.Tensor:
    """Stacks and normalises views, channels last."""
    return normalise(torch.stack(list(views))).contiguous(memory_format=torch.channels_last)
