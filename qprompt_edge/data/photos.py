"""From folders or a list to labelled photos.

The idea: a class is a sub-folder, its label is the folder's name, and every file anywhere below it is one of
its photos. What a file is, its content decides, so nothing is opened here: whoever decodes the photos hands
back those that failed, and `drop_unreadable` moves them to `skipped`, where the user sees each with its
reason. What systems and programs put beside photos is known by its name (`folders`).

Order never depends on the file system: photos are sorted by their path below the folder, and names are
compared in Unicode's composed form (NFC), because macOS stores "é" as two characters where others store one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.data.csv_files import class_label, composed, read_table
from qprompt_edge.data.folders import Entry, Problem, folders_above, list_folder, look_at, real_path, walk
from qprompt_runtime.errors import PhotosError
from qprompt_runtime.text import printable

_PART = re.compile(
    r"(train|val|valid|validation|test|dev|eval|holdout)(ing)?([ _-]?(set|data|images|photos))?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class SkippedPhoto:
    """A file that was left out, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class LabelledPhotos:
    """Photos with their classes, in an order that is the same on every machine.

    Attributes:
        paths: The N photos.
        labels: [N] int64, index of each photo's class in `classes`.
        classes: Labels, sorted; each has at least one photo, unless photos were selected or empty classes
            kept.
        skipped: What was found but left out.
    """

    paths: tuple[Path, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    skipped: tuple[SkippedPhoto, ...] = ()

    def select(self, indices: Sequence[int] | NDArray[np.int64]) -> LabelledPhotos:
        """The photos at these positions, in this order; classes stay as they are."""
        chosen = np.asarray(indices, dtype=np.int64)
        return replace(self, paths=tuple(self.paths[i] for i in chosen), labels=self.labels[chosen])


def find_photos(folder: Path, *, min_classes: int = 2, keep_empty: bool = False) -> LabelledPhotos:
    """Read a folder with one sub-folder per class.

    Args:
        folder: Photos are found at any depth below `folder/<label>/`. Links are followed, each folder is read
            once; hidden files, `folders.SYSTEM_NAMES` and, below a class, `folders.SIDECARS` are passed over
            in silence; files beside the class folders are listed as skipped.
        min_classes: Fewer classes are an error (1 for a test set of some of the trained classes).
        keep_empty: Whether a class folder without photos is a class like others, and no error.

    Returns:
        All candidates, not yet opened.

    Raises:
        PhotosError: There is no such folder, something in it cannot be read, it holds no class folders, too
            few of them, an empty one, or only such as `train` and `val`.
    """
    shown = printable(folder)
    entries = _entries(folder)
    class_folders = [entry.path for entry in entries if entry.is_folder]
    beside = [entry for entry in entries if not entry.is_folder]
    if not class_folders:
        found = f"holds {len(beside)} files but no class folders" if beside else "is empty"
        raise PhotosError(
            f"{shown}: {found}; put the photos of each class into a sub-folder of the class's name"
        )
    _check_parts(class_folders, shown)
    items: list[tuple[str, Path, str]] = []
    problems = [(e.path, e.problem or "lies beside the class folders, not in one") for e in beside]
    empty: dict[str, str] = {}
    outside = folders_above(folder) | {real_path(folder)}
    for class_folder in class_folders:
        label = class_label(class_folder.name, printable(class_folder))
        files, unread = walk(class_folder, outside)
        items += [(file.relative_to(folder).as_posix(), file, label) for file in files]
        problems += unread
        if not files:
            empty[label] = _nothing_in(class_folder, unread)
    return _labelled(items, problems, empty, min_classes, shown, keep_empty)


def _entries(folder: Path) -> list[Entry]:
    """What lies in a folder of class folders.

    Raises:
        PhotosError: It is no folder, or something in it may be a class and cannot be read.
    """
    shown, itself = printable(folder), look_at(folder)
    if itself.unknown:
        raise PhotosError(f"{shown}: {itself.problem}; check that its drive or network share is connected")
    if not itself.is_folder:
        wrong = "is a file" if itself.problem is None else "no such folder"
        raise PhotosError(f"{shown}: {wrong}; give a folder with one sub-folder of photos per class")
    entries, problems = list_folder(folder)
    if problems:
        raise PhotosError(f"{shown}: {problems[0][1]}; give a folder that you may read")
    for entry in entries:
        if entry.unknown:
            raise PhotosError(
                f"{printable(entry.path)}: {entry.problem}; it may be a class: make it readable, or remove it"
            )
    return entries


def _nothing_in(class_folder: Path, unread: Sequence[Problem]) -> str:
    """Why a class folder gave no file."""
    if unread:
        return f"{printable(unread[0][0])}: {unread[0][1]}"
    return "its folder holds no photos" if list_folder(class_folder)[0] else "its folder is empty"


def _check_parts(class_folders: Sequence[Path], shown: str) -> None:
    """Refuse the folder above `train` and `val`, whose classes would be these two."""
    names = [path.name for path in class_folders]
    train = next((name for name in names if name.lower().startswith("train")), None)
    if train is None or len(names) < 2 or not all(_PART.fullmatch(name) for name in names):
        return
    other = next(name for name in names if name != train)
    raise PhotosError(
        f"{shown}: its folders {', '.join(map(printable, names))} are parts of a data set, not classes; give "
        f"{printable(class_folders[0].parent / train)} as the folder of photos, and "
        f"{printable(class_folders[0].parent / other)} as the test photos (if they are classes, rename them)"
    )


def read_labels_csv(
    csv_path: Path, base: Path | None = None, *, min_classes: int = 2, keep_empty: bool = False
) -> LabelledPhotos:
    """Read a list of photos, as `csv_files.read_table` does: columns `path,label`.

    Args:
        csv_path: The list.
        base: Folder that relative paths start from; the list's own folder if None.
        min_classes: As for `find_photos`.
        keep_empty: Whether a class of which no photo exists is a class like others, and no error.

    Returns:
        Each photo once; files that do not exist are listed as skipped.

    Raises:
        PhotosError: The list cannot be read, has other columns, an empty field, or one photo under two
            labels; or too few classes, or a class without an existing photo.
    """
    root = csv_path.parent if base is None else base
    items: dict[str, tuple[str, Path, str]] = {}
    problems: dict[str, Problem] = {}
    empty: dict[str, str] = {}
    for line, (name, raw_label) in read_table(csv_path, ("path", "label")):
        label = class_label(raw_label, f"{printable(csv_path)}, line {line}")
        path = root / name
        key = composed(Path(os.path.normpath(name)).as_posix())
        if key in items and items[key][2] != label:
            pair = " and ".join(printable(text) for text in sorted((items[key][2], label)))
            raise PhotosError(f"{printable(csv_path)}: {printable(name)} is listed under two labels: {pair}")
        found = look_at(path)
        reason = "is a folder" if found.is_folder else found.problem
        if reason is None:
            items[key] = (key, path, label)
        else:
            problems[key] = (path, reason)
            empty.setdefault(label, f"{printable(name)}: {reason}")
    for _, _, label in items.values():
        empty.pop(label, None)
    return _labelled(
        items.values(), list(problems.values()), empty, min_classes, printable(csv_path), keep_empty
    )


def find_labelled(
    images: Path, labels: Path | None, *, min_classes: int = 2, keep_empty: bool = False
) -> LabelledPhotos:
    """`read_labels_csv` where a list is given, else `find_photos`."""
    if labels is None:
        return find_photos(images, min_classes=min_classes, keep_empty=keep_empty)
    return read_labels_csv(labels, images, min_classes=min_classes, keep_empty=keep_empty)


def list_images(given: Sequence[Path]) -> tuple[list[Path], list[SkippedPhoto]]:
    """Files as given, and every file below the folders among them; what a file is shows when it is read.

    Returns:
        The files, and what lies in the folders but cannot be read.

    Raises:
        PhotosError: Something given does not exist, or nothing is left.
    """
    found: list[Path] = []
    problems: list[Problem] = []
    for path in given:
        entry = look_at(path)
        if entry.is_folder:
            files, unread = walk(path, folders_above(path))
            found += sorted(files)
            problems += sorted(unread)
        elif entry.problem:
            raise PhotosError(f"{printable(path)}: {entry.problem}")
        else:
            found.append(path)
    if not found and problems:
        raise PhotosError(f"{printable(problems[0][0])}: {problems[0][1]}")
    if not found:
        raise PhotosError(f"no photos in {', '.join(printable(path) for path in given)}")
    return found, [SkippedPhoto(path, reason) for path, reason in problems]


def drop_unreadable(photos: LabelledPhotos, failures: Mapping[int, str]) -> LabelledPhotos:
    """Move the photos that could not be decoded to `skipped`.

    Args:
        photos: What was found.
        failures: Position in `photos.paths` to reason, without the path.

    Raises:
        PhotosError: A class is left without a photo; the message names it and the first reason.
    """
    skipped: dict[int, SkippedPhoto] = {}
    for index in sorted(failures):
        path = photos.paths[index]
        skipped[index] = SkippedPhoto(path, failures[index])
    rest = photos.select([index for index in range(len(photos.paths)) if index not in skipped])
    left = set(rest.labels.tolist())
    for index, skip in skipped.items():
        if photos.labels[index] not in left:
            label = photos.classes[photos.labels[index]]
            raise _left_empty(label, f"{printable(skip.path)}: {skip.reason}")
    return replace(rest, skipped=photos.skipped + tuple(skipped.values()))


def _left_empty(label: str, reason: str) -> PhotosError:
    return PhotosError(
        f"class {printable(label)} has no readable image ({reason}); add photos or remove the class"
    )


def _labelled(
    items: Iterable[tuple[str, Path, str]],
    problems: Sequence[Problem],
    empty: Mapping[str, str],
    min_classes: int,
    shown: str,
    keep_empty: bool,
) -> LabelledPhotos:
    """Sort (key, path, label) triples into the result, or say which class is missing."""
    ordered = sorted(items, key=lambda item: (composed(item[0]), item[0]))
    classes = tuple(sorted({label for _, _, label in ordered} | (set(empty) if keep_empty else set())))
    for label in sorted(set(empty) - set(classes)):
        raise _left_empty(label, empty[label])
    if len(classes) < min_classes:
        found = f"only one class, {printable(classes[0])}" if classes else "no photos"
        raise PhotosError(f"{shown}: {found}; at least {min_classes} classes are needed to tell them apart")
    positions = {label: index for index, label in enumerate(classes)}
    labels = np.array([positions[label] for _, _, label in ordered], dtype=np.int64)
    skipped = tuple(SkippedPhoto(path, reason) for path, reason in sorted(problems))
    return LabelledPhotos(tuple(path for _, path, _ in ordered), labels, classes, skipped)
