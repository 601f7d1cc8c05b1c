"""What is sent to a class: decoded within the limits of `adapt`, and kept as it came if it is a photo."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qprompt_edge.data.csv_files import composed
from qprompt_edge.data.feature_cache import content_key
from qprompt_edge.server.archive import unpacked
from qprompt_edge.server.journal import Journal, Move, stamp
from qprompt_edge.server.limits import CLASSES, PHOTO_BYTES, PHOTOS
from qprompt_edge.server.names import FROM_ARCHIVE, label_name
from qprompt_edge.server.photos import class_folder_name, class_folders, counts
from qprompt_edge.server.refusal import Refusal
from qprompt_edge.server.store import Store
from qprompt_edge.server.thumbnail_cache import Thumbnails
from qprompt_runtime.errors import ImageError
from qprompt_runtime.photo_formats import formats_of
from qprompt_runtime.text import counted

_ENDINGS = {
    "JPEG": "jpg", "PNG": "png", "WEBP": "webp", "HEIF": "heic", "AVIF": "avif", "BMP": "bmp", "DIB": "bmp", "GIF": "gif",
    "TIFF": "tif", "PPM": "ppm", "JPEG2000": "jp2",
}  # fmt: skip
_HEX = 8
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")


@dataclass(frozen=True)
class Added:
    """What became of an upload.

    Attributes:
        ids: The photos that were added.
        skipped: Name and reason of each file that was not.
        repeated: How many were there already.
    """

    ids: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    repeated: int


def take_upload(store: Store, thumbnails: Thumbnails, task: str, label: str, upload: Path) -> Added:
    """Add a photo, or the photos of a zip archive, to a class.

    Args:
        store: The tasks.
        thumbnails: Decodes.
        task: The task.
        label: The class; `-` takes the folders of an archive as classes.
        upload: What was received; it is moved or stays.

    Raises:
        Refusal: Nothing of it could be added.
    """
    if label != FROM_ARCHIVE:
        label = label_name(label)
    with upload.open("rb") as file:
        is_zip = file.read(4) in _ZIP_STARTS
    if is_zip:
        return _take_archive(store, thumbnails, task, label, upload)
    if label == FROM_ARCHIVE:
        raise Refusal(422, "only a zip archive brings its own classes; name the class of a photo")
    size = upload.stat().st_size
    if size > PHOTO_BYTES:
        raise Refusal(413, f"the photo has {size // 2**20} MB; expected at most {PHOTO_BYTES // 2**20}")
    try:
        thumbnails.prove(upload)
    except ImageError as error:
        raise Refusal(415, f"this photo cannot be used: {error.reason}") from error
    with store.locked(task) as folder:
        ids, repeated = add_photos(folder, store.journal(task), [(upload, label)])
    return Added(tuple(ids), (), repeated)


def _take_archive(store: Store, thumbnails: Thumbnails, task: str, label: str, upload: Path) -> Added:
    """All photos of an archive, as one change."""
    skipped: list[tuple[str, str]] = []
    received: list[tuple[Path, str]] = []
    with _scratch(store) as scratch:
        for name, mine, found in unpacked(upload, label, scratch):
            store.check_room(0)
            if isinstance(found, str):
                skipped.append((name, found))
                continue
            try:
                chosen = label_name(mine)
                thumbnails.prove(found)
            except (ImageError, Refusal) as error:
                found.unlink()
                skipped.append((name, error.reason if isinstance(error, ImageError) else str(error)))
            else:
                received.append((found, chosen))
        if not received:
            reason = f"{skipped[0][0]}: {skipped[0][1]}" if skipped else "it is empty"
            raise Refusal(422, f"the archive has no photo to add ({reason})")
        with store.locked(task) as folder:
            ids, repeated = add_photos(folder, store.journal(task), received)
    return Added(tuple(ids), tuple(skipped), repeated)


@contextlib.contextmanager
def _scratch(store: Store) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=store.incoming))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def add_photos(folder: Path, journal: Journal, received: Sequence[tuple[Path, str]]) -> tuple[list[str], int]:
    """Put received files, proven to be photos, into classes, which are made if they are missing.

    Args:
        folder: The task's folder.
        journal: Its changes.
        received: Each file, on the same file system, and its class.

    Returns:
        Ids of the photos that were added, and how many were in their class already.

    Raises:
        Refusal: The task would have too many photos or classes.
    """
    if sum(counts(folder).values()) + len(received) > PHOTOS:
        raise Refusal(409, f"a task has at most {PHOTOS} photos; delete some first")
    moves: list[tuple[Path, str]] = []
    taken: set[str] = set()
    repeated = 0
    for path, label in received:
        target = class_folder_name(folder, label)
        name = _named(path)
        if _has_content(folder / target, name, path) or f"{target}/{name}" in taken:
            repeated += 1
            continue
        taken.add(f"{target}/{name}")
        moves.append((path, f"{target}/{name}"))
    if (
        len({*map(composed, class_folders(folder)), *(target.partition("/")[0] for _, target in moves)})
        > CLASSES
    ):
        raise Refusal(409, f"a task has at most {CLASSES} classes")
    if moves:
        _take_in(folder, journal, moves)
    return [target for _, target in moves], repeated


def _take_in(folder: Path, journal: Journal, moves: Sequence[tuple[Path, str]]) -> None:
    """Move received files into the change's trash, where undoing brings them back to, and from there in."""

    def from_trash(trash: str) -> list[Move]:
        for path, target in moves:
            place = folder / trash / target
            place.parent.mkdir(parents=True, exist_ok=True)
            path.rename(place)
        return [(f"{trash}/{target}", target) for _, target in moves]

    labels = sorted({target.partition("/")[0] for _, target in moves})
    where = composed(labels[0]) if len(labels) == 1 else counted(len(labels), "class", "classes")
    journal.do(f"{counted(len(moves), 'photo')} added to {where}", from_trash, labels)


def _named(path: Path) -> str:
    """The name that a received photo gets: when it came, and what it is."""
    with path.open("rb") as file:
        ending = _ENDINGS[formats_of(file)[0]]
        digest = content_key(file).hex()
    return f"{stamp()}-{digest[:_HEX]}.{ending}"


def _key(path: Path) -> bytes:
    with path.open("rb") as file:
        return content_key(file)


def _has_content(folder: Path, name: str, path: Path) -> bool:
    """Whether a class has a photo of this content already, among those that were received."""
    end, size = name.rpartition("-")[2], path.stat().st_size
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(f"-{end}") and entry.stat(follow_symlinks=False).st_size == size:
                return _key(Path(entry.path)) == _key(path)
    return False
