"""Images for training and evaluation, from zip files."""

import csv
import io
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image


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


def read_zip(
    path: Path, transform: Callable[[Image.Image], torch.Tensor], prefix: str = "", depth: int = 0
) -> Iterator[tuple[torch.Tensor, str]]:
    """Decodes the images of a zip file one by one.

    Args:
        path: a zip file of images in folders.
        transform: makes an image what a model sees, [3, H, W].
        prefix: only members that begin so.
        depth: which folder of a member's path names its class.

    Yields:
        An image and its class folder's name.
    """
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if name.startswith(prefix) and not name.endswith("/"):
                yield transform(Image.open(io.BytesIO(archive.read(name)))), name.split("/")[depth]


def few_shots(labels: list[str], shots: int, seed: int) -> tuple[list[int], list[int]]:
    """Draws `shots` rows of every class; gives them and the remaining rows."""
    chosen: list[int] = []
    for name in sorted(set(labels)):
        rows = [i for i, label in enumerate(labels) if label == name]
        chosen += random.Random(f"{seed}/{name}").sample(rows, min(shots, len(rows) - 1))
    taken = set(chosen)
    return chosen, [i for i in range(len(labels)) if i not in taken]
