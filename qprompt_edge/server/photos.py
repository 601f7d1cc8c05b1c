"""Classes and photos of a task: listed as `adapt` finds them, moved and deleted, with undo."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qprompt_edge.data.csv_files import composed
from qprompt_edge.data.folders import SIDECARS, is_sidecar, is_systems
from qprompt_edge.server.journal import Journal, Move
from qprompt_edge.server.limits import CLASSES
from qprompt_edge.server.names import inside, label_name
from qprompt_edge.server.refusal import Refusal
from qprompt_runtime.text import counted, printable

_DEEPEST = 16


@dataclass(frozen=True)
class Photo:
    """A file that may be a photo.

    Attributes:
        id: Its path below the task's folder, with `/`.
        label: Its class.
        bytes: Its size.
        modified: When it was last written, in seconds since 1970.
    """

    id: str
    label: str
    bytes: int
    modified: float

    def to_json(self) -> dict[str, Any]:
        """As the interface gives it."""
        name = self.id.rpartition("/")[2]
        return {
            "id": self.id,
            "class": self.label,
            "name": name,
            "bytes": self.bytes,
            "modified": self.modified,
        }


def class_folders(folder: Path) -> dict[str, Path]:
    """The folders of a task's classes by label, sorted."""
    found = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and not is_systems(entry.name) and _is_text(entry.name):
                found[composed(entry.name)] = Path(entry.path)
    return dict(sorted(found.items()))


def photos_of(folder: Path, label: str | None = None) -> list[Photo]:
    """The photos of a task, or of one of its classes, by class, in each the newest first."""
    folders = class_folders(folder)
    if label is not None:
        folders = {label: _class(folders, label)}
    found, skip = [], len(os.fspath(folder)) + 1
    for name, place in folders.items():
        mine = []
        for entry in _files(place, 0):
            with contextlib.suppress(OSError):  # gone since
                status = entry.stat(follow_symlinks=False)
                mine.append(Photo(entry.path[skip:], name, status.st_size, status.st_mtime))
        found += sorted(mine, key=lambda photo: (-photo.modified, photo.id))
    return found


def counts(folder: Path) -> dict[str, int]:
    """How many photos each class has."""
    return {label: sum(1 for _ in _files(place, 0)) for label, place in class_folders(folder).items()}


def photo_path(folder: Path, photo: str) -> Path:
    """A photo's file.

    Raises:
        Refusal: There is no such photo.
    """
    if "/" not in photo:
        raise Refusal(404, f"there is no photo {printable(photo)[:200]!r}; expected CLASS/NAME")
    return inside(folder, photo)


def make_class(folder: Path, journal: Journal, label: str) -> str:
    """Make a class; its label.

    Raises:
        Refusal: There is one already, or too many.
    """
    label, folders = label_name(label), class_folders(folder)
    if label in folders:
        raise Refusal(409, f"there is a class {label!r} already")
    if len(folders) >= CLASSES:
        raise Refusal(409, f"there are {CLASSES} classes already; delete one first")
    class_folder_name(folder, label)
    journal.do(f"class {label} made", lambda _: (), (label,))
    return label


def rename_class(folder: Path, journal: Journal, label: str, new: str) -> str:
    """Give a class another label.

    Raises:
        Refusal: There is no such class, or that label is taken.
    """
    new, folders = label_name(new), class_folders(folder)
    place = _class(folders, label)
    if new == label:
        return new
    if new in folders:
        raise Refusal(409, f"there is a class {new!r} already; move the photos instead")
    journal.do(f"class {label} renamed to {new}", lambda _: [(place.name, new)])
    return new


def delete_class(folder: Path, journal: Journal, label: str) -> None:
    """Delete a class with its photos.

    Raises:
        Refusal: There is no such class.
    """
    place = _class(class_folders(folder), label)
    journal.do(f"class {label} deleted", lambda trash: [(place.name, f"{trash}/{place.name}")])


def move_photos(folder: Path, journal: Journal, photos: Sequence[str], label: str) -> list[Move]:
    """Move photos to a class, which is made if it is missing; their ids before and after.

    Raises:
        Refusal: One is not there; nothing is moved then.
    """
    target = class_folder_name(folder, label)
    chosen = dict.fromkeys(photos)
    moves: list[Move] = []
    taken: set[str] = set()
    for photo in chosen:
        path = photo_path(folder, photo)
        if path.parent != folder / target:
            moves.append((photo, f"{target}/{free_name(folder / target, path.name, taken)}"))
    if moves:
        journal.do(f"{counted(len(moves), 'photo')} moved to {composed(target)}", lambda _: moves, (target,))
    return moves


def delete_photos(folder: Path, journal: Journal, photos: Sequence[str]) -> int:
    """Delete photos; how many.

    Raises:
        Refusal: One is not there; nothing is deleted then.
    """
    chosen = list(dict.fromkeys(photos))
    for photo in chosen:
        photo_path(folder, photo)
    if chosen:
        journal.do(
            f"{counted(len(chosen), 'photo')} deleted", lambda trash: [(it, f"{trash}/{it}") for it in chosen]
        )
    return len(chosen)


def class_folder_name(folder: Path, label: str) -> str:
    """The name of a class's folder, whether it is there or not.

    Raises:
        Refusal: It cannot be a class.
    """
    place = class_folders(folder).get(composed(label))
    if place is not None:
        return place.name
    name = label_name(label)
    if os.path.lexists(folder / name):
        raise Refusal(409, f"{name!r} is a link or a file beside the classes; take another name")
    return name


def free_name(folder: Path, name: str, taken: set[str]) -> str:
    """A file name that nothing has in a folder; it is added to `taken`."""
    stem, dot, ending = name.rpartition(".") if "." in name else (name, "", "")
    candidate, number = name, 2
    while candidate in taken or os.path.lexists(folder / candidate):
        candidate, number = f"{stem}-{number}{dot}{ending}", number + 1
    taken.add(candidate)
    return candidate


def _class(folders: dict[str, Path], label: str) -> Path:
    place = folders.get(composed(label))
    if place is None:
        raise Refusal(404, f"there is no class {printable(label)[:80]!r}")
    return place


def _files(folder: str | Path, depth: int) -> Iterator[os.DirEntry[str]]:
    """Files below a class's folder that `adapt` would read; links are passed over."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if is_systems(entry.name) or not _is_text(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                if depth < _DEEPEST:
                    yield from _files(entry.path, depth + 1)
            elif entry.is_file(follow_symlinks=False) and not _is_sidecar(entry):
                yield entry


def _is_sidecar(entry: os.DirEntry[str]) -> bool:
    _, dot, ending = entry.name.rpartition(".")
    return f"{dot}{ending}".lower() in SIDECARS and is_sidecar(Path(entry.path))


def _is_text(name: str) -> bool:
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)
