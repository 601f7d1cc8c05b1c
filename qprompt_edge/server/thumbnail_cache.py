"""Small pictures of photos (`data.thumbnails`), kept on disk.

A file keeps its inode, size and time when it is moved or renamed, so its thumbnails stay; a changed file gets
others.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from threading import BoundedSemaphore, Lock

from qprompt_edge.data.thumbnails import thumbnail
from qprompt_edge.server.limits import THUMBNAIL_BYTES
from qprompt_runtime.errors import OutputError
from qprompt_runtime.files import write_atomic
from qprompt_runtime.memory_left import give_back

SIZES = (160, 320)
LARGE = 1600
"""Pixels of the longer side."""
_DECODERS = 2
_CHECK_EVERY = 1_000
_LARGE_FILE = 2_000_000  # bytes; what decoding such a photo took is handed back


class Thumbnails:
    """Pictures of at most some size, as JPEG.

    Args:
        folder: Where they are kept; it may be deleted at any time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._turn = BoundedSemaphore(_DECODERS)
        self._written, self._lock = 0, Lock()
        self._bound()

    def get(self, photo: Path, size: int) -> bytes:
        """A photo's thumbnail.

        Args:
            photo: The file.
            size: One of `SIZES`.

        Raises:
            ImageError: The photo cannot be read.
        """
        place = self._place(photo, size)
        with contextlib.suppress(OSError):
            return place.read_bytes()
        data = self.picture(photo, size)
        self._keep(place, data)
        return data

    def picture(self, photo: Path, size: int) -> bytes:
        """A photo upright, at most `size` pixels wide and high, as JPEG; it is not kept.

        Raises:
            ImageError: The photo cannot be read.
        """
        with self._turn:
            data = thumbnail(photo, size)
        if photo.stat().st_size > _LARGE_FILE:
            give_back()
        return data

    def prove(self, photo: Path) -> None:
        """Decode a file that has just come, and keep its thumbnail.

        Raises:
            ImageError: It is no photo, or not a whole one, or takes too much memory.
        """
        data = self.picture(photo, SIZES[-1])
        self._keep(self._place(photo, SIZES[-1]), data)

    def tag(self, photo: Path, size: int) -> str:
        """What changes with a photo's content.

        Raises:
            OSError: The file is not there.
        """
        status = photo.stat()
        facts = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, size)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]

    def _place(self, photo: Path, size: int) -> Path:
        tag = self.tag(photo, size)
        return self._folder / tag[:2] / f"{tag}.jpg"

    def _keep(self, place: Path, data: bytes) -> None:
        with contextlib.suppress(OutputError):  # a full disk: it is made anew each time
            write_atomic(place, data)
        with self._lock:
            self._written += 1
            if self._written % _CHECK_EVERY == 0:
                self._bound()

    def _bound(self) -> None:
        """Remove the oldest while they take too much."""
        found = []
        for base, _, names in os.walk(self._folder):
            for name in names:
                with contextlib.suppress(OSError):
                    status = (Path(base) / name).stat()
                    found.append((status.st_mtime, status.st_size, Path(base) / name))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= THUMBNAIL_BYTES:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size
