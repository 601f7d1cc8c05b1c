"""The lists that published data sets come with: which photo is in which part, and of which class.

A list comes from a stranger. It is read whole, at most once, and only up to a size that a list can have.
Every entry is checked before it is used: its form, that its photo is in the image folder, and that labels and
class names agree. Every fault gives one line that says where.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from qprompt_edge.data.csv_files import class_label
from qprompt_runtime.errors import PhotosError
from qprompt_runtime.text import printable

PARTS = ("train", "val", "test")
MAX_LIST_BYTES = 64 * 10**6
"""Largest list that is read; the longest published one has 101,000 photos, in about 10 MB."""

MAX_CLASSES = 100_000
MAX_NAME = 200
"""Characters of a class name."""

_AGAIN = "download it again"

Entry = tuple[str, int, str]
"""One photo: its path below the image folder, its label, its class name."""


def read_split(path: Path) -> dict[str, list[Entry]]:
    """Read one of CoOp's split files.

    It is JSON: an object of the lists `train`, `val` and `test` of [path, label, class name].

    Returns:
        The entries of each part, in the file's order; labels are 0 or more.

    Raises:
        PhotosError: The file cannot be read, is not JSON, has another form, or a path leads out of the
            folder.
    """
    shown = printable(path)
    try:
        content = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise PhotosError(f"{shown}: not JSON ({error}); {_AGAIN}") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in PARTS):
        raise PhotosError(f"{shown}: expected an object with the lists train, val and test; {_AGAIN}")
    return {
        part: [
            _entry(item, f"{shown}, {part} entry {number}") for number, item in enumerate(content[part], 1)
        ]
        for part in PARTS
    }


def read_variants(
    variants: Path, lists: Mapping[str, Path]
) -> tuple[tuple[str, ...], dict[str, list[Entry]]]:
    """Read FGVC-Aircraft's text lists.

    Args:
        variants: One class name a line, in the order of the labels.
        lists: For each part, a list with a photo's id, a space, and its class name on each line.

    Returns:
        The class names, and the entries of each part; a photo is called by its id with `.jpg`.

    Raises:
        PhotosError: A list cannot be read, a variant is listed twice, a photo has none of them, or a path
            leads out.
    """
    classes = tuple(class_label(line, place) for place, line in _lines(variants))
    positions = {name: label for label, name in enumerate(classes)}
    if not classes or len(positions) < len(classes):
        raise PhotosError(f"{printable(variants)}: expected one variant a line, each once; {_AGAIN}")
    parts: dict[str, list[Entry]] = {part: [] for part in lists}
    for part, path in lists.items():
        for place, line in _lines(path):
            photo, _, name = line.partition(" ")
            _check_inside(photo, place)
            if name.strip() not in positions:
                raise PhotosError(f"{place}: {name!r} is not in {variants.name}; download both again")
            parts[part].append((f"{photo}.jpg", positions[name.strip()], name.strip()))
    return classes, parts


def read_wordnet_names(path: Path) -> dict[str, str]:
    """Read CoOp's `classnames.txt`: a WordNet id, a space, and a class name on each line.

    Returns:
        Class names by id, sorted by id: the order of ImageNet's labels, and of the folders of ImageNetV2.

    Raises:
        PhotosError: The list cannot be read, is empty, lacks a name, or is not sorted (or has an id twice).
    """
    names: dict[str, str] = {}
    before = ""
    for place, line in _lines(path):
        wordnet_id, _, name = line.partition(" ")
        if not name.strip() or wordnet_id <= before:
            raise PhotosError(
                f"{place}: expected an id and a name, sorted by id, found {line[:80]!r}; {_AGAIN}"
            )
        names[wordnet_id] = class_label(name.strip(), place)
        before = wordnet_id
    if not names:
        raise PhotosError(f"{printable(path)}: lists no classes; {_AGAIN}")
    return names


def names_by_label(path: Path, entries: Iterable[Entry]) -> tuple[str, ...]:
    """The class names in the order of their labels.

    Args:
        path: The list, for messages.
        entries: Those of all parts.

    Raises:
        PhotosError: There are no entries, the labels are not 0 to C-1, a label and a name are not of each
            other, or a photo is listed twice (so that it could be trained on and tested on).
    """
    shown = printable(path)
    names: dict[int, str] = {}
    labels: dict[str, int] = {}
    photos: set[PurePosixPath] = set()
    for photo, label, name in entries:
        if PurePosixPath(photo) in photos:
            raise PhotosError(f"{shown}: the photo {printable(photo)} is listed twice; {_AGAIN}")
        photos.add(PurePosixPath(photo))
        if names.setdefault(label, name) != name:
            raise PhotosError(
                f"{shown}: label {label} is both {printable(names[label])} and {printable(name)}; {_AGAIN}"
            )
        if labels.setdefault(name, label) != label:
            raise PhotosError(
                f"{shown}: class {printable(name)} has both label {labels[name]} and {label}; {_AGAIN}"
            )
    if not names:
        raise PhotosError(f"{shown}: lists no photos; {_AGAIN}")
    for expected, label in enumerate(sorted(names)):
        if label != expected:
            raise PhotosError(
                f"{shown}: expected labels from 0 to {len(names) - 1}, but {expected} is missing; {_AGAIN}"
            )
    return tuple(names[label] for label in range(len(names)))


def _check_inside(path: str, place: str) -> None:
    """Refuse a path that would lead out of the folder it starts from.

    Links in that folder are the user's own.
    """
    parts = PurePosixPath(path).parts
    if not parts or parts[0].startswith("/") or ".." in parts or "\0" in path:
        raise PhotosError(f"{place}: {path[:80]!r} is no path inside the image folder; {_AGAIN}")


def _lines(path: Path) -> list[tuple[str, str]]:
    """Place (for messages) and text of each line that is not empty."""
    lines = enumerate(_read_text(path).splitlines(), 1)
    return [(f"{printable(path)}, line {number}", line.strip()) for number, line in lines if line.strip()]


def _entry(item: object, place: str) -> Entry:
    if isinstance(item, list) and len(item) == 3:
        path, label, name = item
        if (
            isinstance(path, str)
            and type(label) is int  # and not bool, which is one too
            and 0 <= label < MAX_CLASSES
            and isinstance(name, str)
            and 0 < len(name.strip()) <= MAX_NAME
        ):
            _check_inside(path, place)
            return path, label, class_label(name, place)
    raise PhotosError(f"{place}: expected [path, label, class name], found {reprlib.repr(item)}; {_AGAIN}")


def _read_text(path: Path) -> str:
    shown = printable(path)
    try:
        if (size := path.stat().st_size) > MAX_LIST_BYTES:
            raise PhotosError(f"{shown}: {size} bytes, expected at most {MAX_LIST_BYTES}; {_AGAIN}")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise PhotosError(f"{shown}: cannot be read: {reason}; {_AGAIN}") from error
