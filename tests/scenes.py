"""Small photo sets that tests write: coloured noise, a colour for each class, no two photos alike."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("blue sky", "green grass", "red brick")
_COLOURS = ((40, 80, 220), (40, 200, 60), (210, 50, 40), (230, 220, 40), (200, 60, 210))


def write_photo(path: Path, colour: Sequence[int], seed: int, size: int = 80) -> None:
    """One photo: a coarse random pattern around a colour."""
    rng = np.random.default_rng(seed)
    coarse = np.clip(rng.normal(colour, 60, (8, 8, 3)), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:  # the suffix may say anything
        Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(file, "PNG")


def write_photos(folder: Path, classes: Sequence[str] = CLASSES, count: int = 6) -> Path:
    """A folder with `count` photos in a sub-folder for each class; returns `folder`."""
    for index, label in enumerate(classes):
        for number in range(count):
            write_photo(
                folder / label / f"{number:02}.png", _COLOURS[index % len(_COLOURS)], 1000 * index + number
            )
    return folder
