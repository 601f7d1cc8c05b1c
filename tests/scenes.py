"""Small photo sets that tests write (coloured noise, a colour for each class), and what a refusal says."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qprompt_runtime.errors import PhotosError

CLASSES = ("blue sky", "green grass", "red brick")
_COLOURS = ((40, 80, 220), (40, 200, 60), (210, 50, 40), (230, 220, 40), (200, 60, 210))


def write_photo(path: Path, colour: Sequence[int], seed: int, size: int = 80) -> None:
    """One photo: a coarse random pattern around a colour."""
    rng = np.random.default_rng(seed)
    coarse = np.clip(rng.normal(colour, 60, (8, 8, 3)), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:  # the suffix may say anything
        Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(file, "PNG")


def write_photos(folder: Path, classes: Sequence[str] = CLASSES, count: int = 6, first: int = 0) -> Path:
    """A folder with `count` photos in a sub-folder for each class.

    Another `first` number gives other photos. Returns `folder`.
    """
    for index, label in enumerate(classes):
        for number in range(first, first + count):
            write_photo(
                folder / label / f"{number:02}.png", _COLOURS[index % len(_COLOURS)], 1000 * index + number
            )
    return folder


def complaint(call: Callable[..., object], *arguments: object) -> str:
    """The message of the `PhotosError` that a call raises; it must be fit to print on one line."""
    with pytest.raises(PhotosError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert message.isprintable()
    return message
