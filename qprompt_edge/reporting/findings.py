"""What `check` found, in its own words, with pictures of the photos in question."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

from qprompt_edge.checking.findings import LearningCurve, Mislabelled, PoorPhoto
from qprompt_edge.checking.result import CheckResult
from qprompt_edge.checking.words import Section, curve_lines, sections
from qprompt_edge.reporting import words
from qprompt_edge.reporting.charts import chart, dot, figure, line
from qprompt_edge.reporting.gallery import Picture, gallery
from qprompt_edge.reporting.gallery import figure as pictured
from qprompt_edge.reporting.markup import element, named, shown, table
from qprompt_runtime.text import counted, percent

_MOST_PICTURES = 8  # of each kind
_MOST_ROWS = 8
_UNREADABLE = "unreadable"  # these stand among the photos that were left out
_RADIUS = 5.0


def photos_to_show(result: CheckResult) -> list[Path]:
    """The photos of which `findings` shows a picture: the first of each kind that is about single photos."""
    return list(dict.fromkeys(it.path for kind in _single(result).values() for it in kind[:_MOST_PICTURES]))


def _single(result: CheckResult) -> dict[str, tuple[Mislabelled | PoorPhoto, ...]]:
    """Findings that are about single photos, by their kind."""
    return {
        "mislabelled": result.mislabelled,
        "blurred": result.blurred,
        "dark": result.dark,
        "blown_out": result.blown_out,
    }


def findings(result: CheckResult, pictures: Mapping[Path, Picture], folder: Path) -> str:
    """All kinds of findings with what to do about them, and whether there are enough photos.

    Args:
        result: What was found.
        pictures: Of the photos that `photos_to_show` names.
        folder: Where the photos are; it is left out of their paths.
    """
    parts = [
        _section(section, result, pictures, folder)
        for section in sections(result)
        if section.kind != _UNREADABLE
    ]
    if not parts:
        photos, classes = counted(result.photos, "photo"), counted(len(result.classes), "class", "classes")
        parts.append(element("p", words.NOTHING_FOUND.format(photos=photos, classes=classes)))
    return "".join(parts) + enough(result)


def _section(section: Section, result: CheckResult, pictures: Mapping[Path, Picture], folder: Path) -> str:
    opening = element("h3", shown(section.title)) + element("p", shown(section.advice, 400))
    single = _single(result)
    if section.kind in single:
        first = single[section.kind][:_MOST_PICTURES]
        body = gallery([_photo(it, pictures[it.path]) for it in first])
    else:
        rows = [[shown(_within(cell, folder)) for cell in row] for row in section.rows[:_MOST_ROWS]]
        body = table(words.FINDINGS_CAPTION, [(shown(name), "") for name in section.columns], rows, "r-plain")
    listed = _MOST_PICTURES if section.kind in single else _MOST_ROWS
    left = len(section.rows) - listed
    more = words.FINDINGS_LEFT_OUT.format(shown=listed, left=left)
    return opening + body + (element("p", more, class_="r-muted") if left > 0 else "")


def _photo(finding: Mislabelled | PoorPhoto, picture: Picture) -> str:
    label = element("b", named(finding.label))
    if isinstance(finding, Mislabelled):
        other = element("b", named(finding.looks_like))
        label = words.LOOKS_LIKE.format(label=label, other=other, doubt=percent(finding.doubt))
    return pictured(picture, words.FINDING_ALT.format(label=shown(finding.label)), label)


def _within(cell: str, folder: Path) -> str:
    """A cell without the folder before the paths in it."""
    return cell.replace(f"{folder}{os.sep}", "")


def enough(result: CheckResult) -> str:
    """Whether more photos would help, in words and as a curve."""
    said = "".join(element("p", shown(text, 400)) for text in curve_lines(result))
    drawn = figure(curve_svg(result.curve), words.CURVE_CAPTION) if result.curve is not None else ""
    return element("h3", words.ENOUGH) + said + drawn


def curve_svg(curve: LearningCurve) -> str:
    """The learning curve: photos of a class from left to right (each step doubles them), accuracy upwards."""
    points = curve.points
    places = _places([it.photos for it in points])
    drawn = [
        line("r-gap", (x, further), (one.top1, other.top1))
        for (x, further), (one, other) in zip(pairwise(places), pairwise(points), strict=True)
    ]
    drawn += [line("r-whisker", (x, x), it.interval) for x, it in zip(places, points, strict=True)]
    drawn += [dot(x, it.top1, _RADIUS) for x, it in zip(places, points, strict=True)]
    alt = words.CURVE_ALT.format(
        points="; ".join(
            words.CURVE_POINT.format(accuracy=percent(it.top1), photos=f"{it.photos:.0f}") for it in points
        )
    )
    ticks = [(x, f"{it.photos:.0f}") for x, it in zip(places, points, strict=True)]
    return chart(drawn, alt, ticks, words.PHOTOS_AXIS, words.RIGHT_AXIS)


def _places(photos: Iterable[float]) -> list[float]:
    """Numbers of photos, ascending, as places from left to right by their logarithms."""
    logs = [math.log2(max(count, 1.0)) for count in photos]
    span = max(logs[-1] - logs[0], 1e-9)
    return [0.05 + 0.9 * (log - logs[0]) / span for log in logs]
