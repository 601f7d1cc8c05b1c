"""Pieces about files: what was left out, and how large the prompt is beside what else could be shipped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from qprompt_edge.data.photos import SkippedPhoto
from qprompt_edge.data.same_photos import SamePhoto
from qprompt_edge.reporting import words
from qprompt_edge.reporting.markup import bullets, element, path_within, shown, table
from qprompt_runtime.manifest import Manifest
from qprompt_runtime.text import counted

_MOST_FILES = 20
_MOST_PLACES = 4
_COOP_VECTORS, _COOP_WIDTH = 16, 512  # of CoOp's released checkpoints for ViT-B/16
_LEAST_BYTES = 10.0  # where the logarithmic bars begin
_BAR = 200


def left_out(
    skipped: Sequence[SkippedPhoto], same: Sequence[SamePhoto], folder: Path, *, judged: bool
) -> str:
    """Files that were skipped, and photos that are in several classes; nothing where there are none.

    Args:
        skipped: All of them; the first few are shown.
        same: All of them; the first few are shown.
        folder: Where the photos are; names of those in it are their paths from there.
        judged: Whether the photos in several classes count in the accuracies.
    """
    parts = []
    if skipped:
        rows = [(shown(path_within(it.path, folder)), shown(it.reason, 200)) for it in skipped[:_MOST_FILES]]
        caption = words.LEFT_OUT_CAPTION.format(shown=len(rows), all=len(skipped))
        parts.append(table(caption, [(name, "") for name in words.LEFT_OUT_COLUMNS], rows, "r-plain"))
    if same:
        parts.append(element("p", words.SAME_COUNTED if judged else words.SAME))
        items = [_places(it.paths, folder) for it in same[:_MOST_FILES]]
        more = len(same) - len(items)
        parts.append(bullets([*items, words.AND_MORE.format(count=more)] if more > 0 else items))
    return "".join(parts)


def _places(paths: Sequence[Path], folder: Path) -> str:
    places = " = ".join(shown(path_within(path, folder)) for path in paths[:_MOST_PLACES])
    more = len(paths) - _MOST_PLACES
    return places + (f" {words.AND_MORE.format(count=more)}" if more > 0 else "")


def neighbours(prompt_bytes: int, classes: int, manifest: Manifest) -> list[int]:
    """Bytes of what could be shipped, in the order of `words.SIZES`.

    Args:
        prompt_bytes: Of the prompt file.
        classes: How many.
        manifest: The backbone's, for the width of its features and the size of its image tower.
    """
    numbers = (manifest.embed_dim + 1) * classes
    tower = sum(record.bytes for name, record in manifest.files.items() if Path(name).stem == "image")
    return [prompt_bytes, 2 * numbers, 4 * numbers, 4 * _COOP_VECTORS * _COOP_WIDTH, tower]


def sizes(prompt_bytes: int, classes: int, manifest: Manifest) -> str:
    """The size of the prompt file beside that of other ways to ship the classes, with the arithmetic.

    Args:
        prompt_bytes: Of the prompt file.
        classes: How many.
        manifest: The backbone's.
    """
    found = neighbours(prompt_bytes, classes, manifest)
    most = math.log10(max(found) / _LEAST_BYTES)
    rows = []
    for (name, how), size in zip(words.SIZES, found, strict=True):
        how = how.format(width=f"{manifest.embed_dim:,}", classes=f"{classes:,}")
        width = _BAR * max(0.01, math.log10(max(size, _LEAST_BYTES) / _LEAST_BYTES) / most)
        line = (
            f'<svg class="r-bar" viewBox="0 0 {_BAR} 6" aria-hidden="true"><rect class="r-track" width="{_BAR}" '
            f'height="6" rx="3"/><rect class="r-fill" width="{width:.1f}" height="6" rx="3"/></svg>'
        )
        times = size / prompt_bytes
        beside = words.TIMES.format(times=f"{times:,.0f}" if times >= 10 else f"{times:.1f}")
        beside = element("small", beside) if size != prompt_bytes else ""
        rows.append((f"{name}<small>{how}</small>{line}", f"{size:,}{beside}"))
    caption = words.SIZE_CAPTION.format(
        classes=counted(classes, "class", "classes"), backbone=shown(manifest.name)
    )
    kinds = ("", "r-number")
    return table(caption, list(zip(words.SIZE_COLUMNS, kinds, strict=True)), rows)
