"""Sources of a photo: a path, the bytes of a file, an open file, or a picture in memory.

Decoding always sees one stream that can be rewound. `Spliced` shows parts of a file as if they were all of
it. So parts that a decoder cannot handle are hidden from it without a copy of the file.
"""

from __future__ import annotations

import bisect
import io
import itertools
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from PIL import Image

from qprompt_runtime.errors import ImageError
from qprompt_runtime.text import printable

Source = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image | np.ndarray[Any, Any]
)
"""A path; the bytes of a file; a file open for reading bytes; a pillow image; or an array, uint8 [H,W,3]."""

CHANNELS = ("RGB", "BGR")
"""Orders in which an array may have its channels; OpenCV's is BGR."""


def name_of(source: Source) -> str:
    """How errors name a photo: by its path, where it has one."""
    if isinstance(source, str | os.PathLike):
        return printable(source)
    name = getattr(source, "name", None) if hasattr(source, "read") else None
    return printable(name) if isinstance(name, str) and name else "image"


def from_array(array: np.ndarray[Any, Any], channels: str = "RGB") -> Image.Image:
    """A picture from an array, as cameras give them.

    Args:
        array: uint8 [H,W,3]; it is copied.
        channels: Order of the last axis, one of `CHANNELS`.

    Raises:
        ImageError: The array is of another shape or type.
    """
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape or array.dtype != np.uint8:
        raise ImageError(
            f"an array of {array.dtype} {list(array.shape)}; expected uint8 [height, width, 3] with levels 0 "
            "to 255"
        )
    return Image.fromarray(np.ascontiguousarray(array[..., ::-1] if channels == "BGR" else array))


@contextmanager
def opened(source: Source) -> Iterator[BinaryIO]:
    """A stream over what a photo is read from, at its beginning; a file that was given open stays open.

    Raises:
        ImageError: It is no regular file, empty, or cannot be read; without a name before the reason.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        stream: Any = io.BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        with _open_file(source) as stream:
            yield stream
        return
    elif isinstance(source, io.TextIOBase):
        raise ImageError("is open as text; open it with mode 'rb'")
    elif hasattr(source, "read") and hasattr(source, "seek"):
        stream = source
    else:
        raise ImageError(
            f"cannot be read from {type(source).__name__}; give a path, the bytes of a file, an open file, a "
            "pillow image, or an array"
        )
    try:
        stream.seek(0, io.SEEK_END)
        size = stream.tell()
        stream.seek(0)
    except (OSError, ValueError, AttributeError) as error:  # a pipe, a closed file
        raise ImageError(f"cannot be rewound ({error}); read it, and give its bytes") from error
    if size == 0:
        raise ImageError("is empty (0 bytes)")
    yield stream


def _open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Only regular files with something in them."""
    try:
        status = Path(path).stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError("is a folder, not an image")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("is not a regular file")
        if status.st_size == 0:
            raise ImageError("is empty (0 bytes)")
        return Path(path).open("rb")
    except FileNotFoundError:
        raise ImageError("no such file") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot be opened: {getattr(error, 'strerror', None) or error}") from error


class Spliced(io.RawIOBase):
    """Parts of a stream, one behind the other, as a stream of their own.

    Args:
        stream: Where the parts are.
        parts: Offsets of the first byte of each, and of the one behind its last.
        tail: Bytes that follow them.
    """

    def __init__(self, stream: BinaryIO, parts: Sequence[tuple[int, int]], tail: bytes = b"") -> None:
        self._pieces = [(stream, *part) for part in parts] + [(io.BytesIO(tail), 0, len(tail))]
        self._ends = list(itertools.accumulate(end - begin for _, begin, end in self._pieces))
        self._position = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next byte is read from."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to an offset from the beginning, from here or from the end."""
        self._position = max(0, (0, self._position, self._ends[-1])[whence] + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read what one part holds here, at most as much as fits; 0 behind the last."""
        if self._position >= self._ends[-1]:
            return 0
        piece = bisect.bisect_right(self._ends, self._position)
        stream, _, end = self._pieces[piece]
        left = self._ends[piece] - self._position
        stream.seek(end - left)
        data = stream.read(min(len(buffer), left))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
