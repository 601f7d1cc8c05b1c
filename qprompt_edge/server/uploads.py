"""What is sent to a class: decoded within the limits of `adapt`, and kept as it came once it is proven to be a photo."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qprompt_edge.server.archive import unpacked
from qprompt_edge.server.limits import PHOTO_BYTES
from qprompt_edge.server.names import FROM_ARCHIVE, label_name
from qprompt_edge.server.photos import add_photos
from qprompt_edge.server.refusal import Refusal
from qprompt_edge.server.store import Store
from qprompt_edge.server.thumbnails import Thumbnails
from qprompt_runtime.errors import ImageError

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
