"""Images for training and evaluation: zip files decoded once, and augmentation of whole batches in torch."""

import csv
import io
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from qprompt_exporters.tiny.model import PREPROCESS


def read_class_names(data: Path) -> dict[str, list[str]]:
    """Reads the names of the 200 training classes by WordNet id, in the file's order."""
    with (data / "tiny-imagenet-classes.tsv").open(newline="", encoding="utf-8") as file:
        return {wnid: names.split(", ") for wnid, names in csv.reader(file, delimiter="\t")}


def cache_training_images(data: Path, folder: Path, wnids: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Decodes the training split once into `folder`; later calls map it into memory.

    Args:
        data: where `tiny-imagenet-train.zip` lies.
        folder: takes `images.npy` (1.2 GB) and `labels.npy`.
        wnids: the classes; an image's label is its class's place in this list.

    Returns:
        Images [N, 3, 64, 64] uint8 (mapped, not to be written to) and labels [N] int64.
    """
    images_file, labels_file = folder / "images.npy", folder / "labels.npy"
    if not labels_file.exists():
        with zipfile.ZipFile(data / "tiny-imagenet-train.zip") as archive:
            members = sorted(name for name in archive.namelist() if name.endswith(".webp"))
            shape = (len(members), 3, 64, 64)
            images = np.lib.format.open_memmap(images_file, mode="w+", dtype=np.uint8, shape=shape)
            for row, name in enumerate(members):
                picture = Image.open(io.BytesIO(archive.read(name))).convert("RGB")
                images[row] = np.asarray(picture).transpose(2, 0, 1)
            images.flush()
        labels = np.array([wnids.index(name.split("/")[1]) for name in members])
        np.save(folder / "labels.part.npy", labels)
        (folder / "labels.part.npy").rename(labels_file)
    return torch.from_numpy(np.load(images_file, mmap_mode="c")), torch.from_numpy(np.load(labels_file))


def augment(images: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    """Crops, flips and recolours a batch, every image in its own way, and normalises it.

    Two in five images change in brightness, contrast and saturation, one in twenty becomes grey. Half of them lose
    resolution, down to 0.3 to 0.7 of theirs (a factor a batch), since photographs and thumbnails differ in sharpness.

    Args:
        images: [B, 3, H, W] uint8.
        size: side of the result in pixels.
        generator: the source of all randomness.

    Returns:
        [B, 3, size, size] float32, by the mean and deviation of `PREPROCESS`.
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
    """Shifts and scales [B, 3, H, W] in [0, 1] by the model's mean and deviation (each the same in all channels)."""
    return (x - PREPROCESS["mean"][0]) / PREPROCESS["std"][0]


def batches(
    rows: NDArray[np.int64], size: int, epoch: int, seed: int, start: int = 0
) -> Iterator[torch.Tensor]:
    """Gives an epoch's full batches of row numbers, shuffled by seed and epoch, from the `start`-th on."""
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    for step in range(start, len(rows) // size):
        yield torch.from_numpy(order[step * size : (step + 1) * size])


def read_zip(path: Path, prefix: str = "", depth: int = 0) -> tuple[torch.Tensor, list[str]]:
    """Decodes the images of a zip file as the model sees them.

    Args:
        path: a zip file of images in folders.
        prefix: only members that begin so.
        depth: which folder of a member's path names its class.

    Returns:
        Images [N, 3, 64, 64] float32, normalised, and N class folders' names.
    """
    transform = image_transform_v2(PreprocessCfg(**PREPROCESS), is_train=False)
    images, labels = [], []
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if name.startswith(prefix) and not name.endswith("/"):
                images.append(transform(Image.open(io.BytesIO(archive.read(name)))))
                labels.append(name.split("/")[depth])
    return torch.stack(images), labels


def few_shots(labels: list[str], shots: int, seed: int) -> tuple[list[int], list[int]]:
    """Draws `shots` rows of every class; gives them and the remaining rows."""
    chosen: list[int] = []
    for name in sorted(set(labels)):
        rows = [i for i, label in enumerate(labels) if label == name]
        chosen += random.Random(f"{seed}/{name}").sample(rows, min(shots, len(rows) - 1))
    taken = set(chosen)
    return chosen, [i for i in range(len(labels)) if i not in taken]
