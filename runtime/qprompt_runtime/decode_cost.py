"""The peak memory of decoding a photo, and whether that much is free.

Measured on photos of 40 megapixels in every format. For JPEG, PNG and TIFF, the figures follow from how
pillow works.
"""

from __future__ import annotations

import io
from contextlib import AbstractContextManager, nullcontext
from threading import Lock, Semaphore
from typing import BinaryIO

from PIL import Image

from qprompt_runtime.errors import ImageError
from qprompt_runtime.jpeg_markers import JpegError, coefficient_bytes
from qprompt_runtime.memory_left import memory_left

LARGE_BYTES = 64_000_000
"""Photos that take more are decoded one at a time, and only if there is as much memory."""

_MEDIUM_BYTES = 16_000_000  # of these, two at a time

_ROOM = 0.85  # of the memory that is left, for one photo
_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}  # 4 in all other modes
_DECODER_BYTES = {"WEBP": 12, "AVIF": 6, "HEIF": 8, "JPEG2000": 16}  # for each pixel, beside the picture
_RGB, _GREY = 4, 1
_BITS_PER_SAMPLE, _COMPRESSION, _ROWS_PER_STRIP = 258, 259, 278  # TIFF 6.0, section 8


class Turns:
    """Threads that decode photos at the same time wait for each other where the photos are large."""

    def __init__(self) -> None:
        self._large, self._medium = Lock(), Semaphore(2)

    def of(self, needed: int) -> AbstractContextManager[object]:
        """Within, a photo may be decoded that takes so many bytes of memory."""
        if needed > LARGE_BYTES:
            return self._large
        return self._medium if needed > _MEDIUM_BYTES else nullcontext()


def load_bytes(image: Image.Image, stream: BinaryIO, turned: bool) -> int:
    """Most memory that decoding takes, with what turns it to upright RGB.

    Args:
        image: As its header was read, set to the size at which it will be decoded.
        stream: The file.
        turned: Whether it has to be turned.
    """
    pixels = image.width * image.height
    each = _PIXEL_BYTES.get(image.mode, 4) + _DECODER_BYTES.get(image.format or "", 0)
    if image.mode in ("RGBA", "RGBa"):
        each += _RGB
    elif "transparency" in image.info or image.mode in ("LA", "La", "PA"):
        each += 2 * _RGB
    elif image.mode.startswith("I"):
        each += _GREY + _RGB
    elif image.mode != "RGB":
        each += _RGB
    if turned:
        each += _RGB
    return pixels * each + _decoder_bytes(image, stream)


def _decoder_bytes(image: Image.Image, stream: BinaryIO) -> int:
    """What a decoder keeps that does not go with the size at which it decodes."""
    if image.format in ("JPEG", "MPO"):
        try:
            return coefficient_bytes(stream)
        except JpegError:
            return 0  # pillow will say what is wrong
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        if tags.get(_COMPRESSION, 1) == 1:
            return 0
        rows = min(image.height, tags.get(_ROWS_PER_STRIP, image.height))
        strip = rows * image.width * sum(tags.get(_BITS_PER_SAMPLE, (1,))) // 8
        return int(strip) + stream.seek(0, io.SEEK_END)  # libtiff maps the file
    return 0


def check_room(needed: int) -> None:
    """Refuse what takes more memory than there is.

    Raises:
        ImageError: Says how much it takes and how much there is.
    """
    left = memory_left() if needed > LARGE_BYTES else None
    if left is not None and needed > _ROOM * left:
        raise ImageError(
            f"takes {needed / 1e6:.0f} MB of memory to decode, but only {_ROOM * left / 1e6:.0f} MB of the "
            "free memory may be used; shrink it first"
        )
