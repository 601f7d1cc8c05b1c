"""The mistakes as pictures, with what they were taken for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qprompt_edge.data.thumbnails import data_uri, thumbnail
from qprompt_edge.evaluation.mistakes import Mistake
from qprompt_edge.reporter import Reporter
from qprompt_edge.reporting import words
from qprompt_edge.reporting.markup import element, named, path_within, shown
from qprompt_runtime.errors import ImageError
from qprompt_runtime.text import counted, percent

MOST_MISTAKES = 36
"""Pictures of mistakes on a page: at 160 pixels, each is about 7 KB, and 16 KB at most."""

_SIDE = 160
_NAME_LETTERS = 60


@dataclass(frozen=True)
class Picture:
    """A photo to show.

    Attributes:
        name: How people find it: its path.
        address: What the browser loads: a data URI, or an address on the page's own server. None shows
            `problem` instead.
        problem: Why there is no picture.
    """

    name: str | os.PathLike[str]
    address: str | None
    problem: str = ""


def pictures_of(
    paths: Sequence[Path], folder: Path, reporter: Reporter, max_memory: float | None = None
) -> list[Picture]:
    """Photos as pictures that are parts of the page, in their order.

    Args:
        paths: The photos.
        folder: Where they are; names of those in it are their paths from there.
        reporter: Told how far it is.
        max_memory: Limit on the resident memory of the process, in MB of 10^6 bytes. A photo that takes
            more has no picture.
    """
    pictures = []
    for path in paths:
        name = path_within(path, folder)
        try:
            pictures.append(Picture(name, data_uri(thumbnail(path, _SIDE, max_memory))))
        except ImageError as error:
            pictures.append(Picture(name, None, error.reason))
        reporter.stage("reducing photos for the report", len(pictures), len(paths))
    return pictures


def mistakes(found: Sequence[Mistake], pictures: Sequence[Picture]) -> str:
    """Mistakes, each with its picture.

    Args:
        found: All mistakes, in the order in which they are shown.
        pictures: Of the first ones.
    """
    if not found:
        return element("p", words.NO_MISTAKES)
    said = words.MISTAKES_COUNTED.format(mistakes=counted(len(found), "photo"))
    left = len(found) - len(pictures)
    said += " " + words.MISTAKES_LEFT_OUT.format(shown=len(pictures), left=left) if left else ""
    figures = []
    for mistake, picture in zip(found, pictures, strict=False):
        label, predicted = shown(mistake.label), shown(mistake.predicted)
        alt = words.PICTURE_ALT.format(label=label, predicted=predicted)
        taken = words.TAKEN_FOR.format(
            label=element("b", named(mistake.label)),
            predicted=element("b", named(mistake.predicted)),
            probability=percent(mistake.probability),
        )
        figures.append(figure(picture, alt, taken))
    return element("p", said) + gallery(figures)


def figure(picture: Picture, alt: str, caption: str) -> str:
    """One picture with a caption and its name; all texts are HTML already."""
    if picture.address is None:
        image = element("div", words.LOST_PICTURE.format(reason=shown(picture.problem)), class_="r-lost")
    else:
        image = f'<img src="{shown(picture.address, len(picture.address) + 3)}" alt="{alt}"/>'
    name = element("small", shown(picture.name, _NAME_LETTERS))
    return element("figure", image + element("figcaption", caption + name))


def gallery(figures: Sequence[str]) -> str:
    """Figures side by side, as many as the page is wide."""
    return element("ul", "".join(element("li", it) for it in figures), class_="r-gallery")
