"""From folders or a list to labelled photos.

The idea: a class is a sub-folder, its label is the folder's name, and every file anywhere below it is one of its
photos. What a file is, its content decides, so nothing is opened here: whoever decodes the photos hands back those
that failed, and `drop_unreadable` moves them to `skipped`, where the user sees each with its reason.

Order never depends on the file system: photos are sorted by their path below the folder, and names are compared in
Unicode's composed form (NFC), because macOS stores "é" as two characters where others store one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.data.csv_files import class_label, composed, read_table
from qprompt_runtime.errors import PhotosError
from qprompt_runtime.text import printable

IGNORED_NAMES = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir"})
"""What file managers leave behind (in lower case), passed over like names that begin with a dot."""

Problem = tuple[Path, str]


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
        classes: Labels, sorted; each has at least one photo unless photos were selected from the whole.
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


def find_photos(folder: Path, *, min_classes: int = 2) -> LabelledPhotos:
    """Read a folder with one sub-folder per class.

    Args:
        folder: Photos are found at any depth below `folder/<label>/`. Links are followed, each folder is read
            once; hidden files and `IGNORED_NAMES` are passed over in silence; files beside the class folders
            are listed as skipped.
        min_classes: Fewer classes are an error (1 for a test set of some of the trained classes).

    Returns:
        All candidates, not yet opened.

    Raises:
        PhotosError: There is no such folder, it holds no class folders, too few of them, or an empty one.
    """
    shown = printable(folder)
    if not _is_folder(folder):
        wrong = "is a file" if _file_problem(folder) is None else "no such folder"
        raise PhotosError(f"{shown}: {wrong}; give a folder with one sub-folder of photos per class")
    entries, problems = _listing(folder)
    if problems:
        raise PhotosError(f"{shown}: {problems[0][1]}; give a folder that you may read")
    class_folders = [entry for entry in entries if _is_folder(entry)]
    beside = [entry for entry in entries if entry not in class_folders]
    if not class_folders:
        found = f"holds {len(beside)} files but no class folders" if beside else "is empty"
        raise PhotosError(
            f"{shown}: {found}; put the photos of each class into a sub-folder of the class's name"
        )
    items: list[tuple[str, Path, str]] = []
    problems = [(path, "lies beside the class folders, not in one") for path in beside]
    empty: dict[str, str] = {}
    for class_folder in class_folders:
        label = class_label(class_folder.name, printable(class_folder))
        files, unread = _walk(class_folder, folder)
        items += [(file.relative_to(folder).as_posix(), file, label) for file in files]
        problems += unread
        if not files:
            empty[label] = unread[0][1] if unread else "its folder is empty"
    return _labelled(items, problems, empty, min_classes, shown)


def read_labels_csv(csv_path: Path, base: Path | None = None, *, min_classes: int = 2) -> LabelledPhotos:
    """Read a list of photos: UTF-8 (with or without a byte-order mark), comma-separated, columns `path,label`.

    Args:
        csv_path: The list.
        base: Folder that relative paths start from; the list's own folder if None.
        min_classes: As for `find_photos`.

    Returns:
        Each photo once; files that do not exist are listed as skipped.

    Raises:
        PhotosError: The list cannot be read, has other columns, an empty field, or one photo under two labels;
            or too few classes, or a class without an existing photo.
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
        reason = _file_problem(path)
        if reason is None:
            items[key] = (key, path, label)
        else:
            problems[key] = (path, reason)
            empty.setdefault(label, f"{printable(name)}: {reason}")
    for _, _, label in items.values():
        empty.pop(label, None)
    return _labelled(items.values(), list(problems.values()), empty, min_classes, printable(csv_path))


def find_labelled(images: Path, labels: Path | None, *, min_classes: int = 2) -> LabelledPhotos:
    """`read_labels_csv` where a list is given, else `find_photos`."""
    if labels is None:
        return find_photos(images, min_classes=min_classes)
    return read_labels_csv(labels, images, min_classes=min_classes)


def list_images(given: Sequence[Path]) -> list[Path]:
    """Files as given, and every file below the folders among them; what a file is shows when it is read.

    Raises:
        PhotosError: Something given does not exist, or nothing is left.
    """
    found: list[Path] = []
    for path in given:
        if _is_folder(path):
            found += sorted(_walk(path, path.parent)[0])
        elif problem := _file_problem(path):
            raise PhotosError(f"{printable(path)}: {problem}")
        else:
            found.append(path)
    if not found:
        raise PhotosError(f"no files in {', '.join(printable(path) for path in given)}")
    return found


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
) -> LabelledPhotos:
    """Sort (key, path, label) triples into the result, or say which class is missing."""
    ordered = sorted(items, key=lambda item: (composed(item[0]), item[0]))
    classes = tuple(sorted({label for _, _, label in ordered}))
    for label in sorted(set(empty) - set(classes)):
        raise _left_empty(label, empty[label])
    if len(classes) < min_classes:
        found = f"only one class, {printable(classes[0])}" if classes else "no photos"
        raise PhotosError(f"{shown}: {found}; at least {min_classes} classes are needed to tell them apart")
    positions = {label: index for index, label in enumerate(classes)}
    labels = np.array([positions[label] for _, _, label in ordered], dtype=np.int64)
    skipped = tuple(SkippedPhoto(path, reason) for path, reason in sorted(problems))
    return LabelledPhotos(tuple(path for _, path, _ in ordered), labels, classes, skipped)


def _listing(folder: Path) -> tuple[list[Path], list[Problem]]:
    """Entries of one folder, sorted, without the hidden ones; and the reason if it cannot be read."""
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        return [], [(folder, f"cannot be read: {error.strerror or error}")]
    return [folder / n for n in names if not n.startswith(".") and n.lower() not in IGNORED_NAMES], []


def _walk(class_folder: Path, root: Path) -> tuple[list[Path], list[Problem]]:
    """All files below a class folder; each folder once, and none above it, so circular links end."""
    files: list[Path] = []
    problems: list[Problem] = []
    seen = {_identity(above) for above in (root, *root.resolve().parents)}
    waiting = [class_folder]
    while waiting:
        folder = waiting.pop()
        if _identity(folder) in seen:
            continue
        seen.add(_identity(folder))
        entries, unread = _listing(folder)
        problems += unread
        for entry in entries:
            if _is_folder(entry):
                waiting.append(entry)
            elif reason := _file_problem(entry):
                problems.append((entry, reason))
            else:
                files.append(entry)
    return files, problems


def _is_folder(path: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return path.is_dir()
    return False


def _identity(folder: Path) -> tuple[int, int]:
    with contextlib.suppress(OSError):
        status = folder.stat()
        return status.st_dev, status.st_ino
    return -1, -1


def _file_problem(path: Path) -> str | None:
    """Why `path` cannot be opened as a file, or None; its content is not looked at."""
    try:
        if path.is_file():
            return None
        if path.is_symlink():
            return "is a link that leads nowhere"
        return "is not a regular file" if path.exists() else "no such file"
    except (OSError, ValueError) as error:  # a name too long, or with a zero byte
        return f"cannot be opened: {getattr(error, 'strerror', None) or error}"
