"""Decode any photo to upright 8-bit RGB.

The first bytes of a file decide what it is, not its name. Every fault ends as an `ImageError` of one line
that names the file.

- A folder of photos is hostile input. The size is read from the header. The memory for decoding is compared
  with a cap and with the free memory, before anything is decoded. Only formats of photographs are tried (none
  that starts another program), and no limit or option of pillow is changed for the rest of the process.
- Cameras write many more pixels than a model reads. JPEG can be decoded at 1/2, 1/4 or 1/8 of its size for a
  fraction of time and memory. This is done while three times the needed resolution remains, so the last step
  is still done by the resampling filter that the model knows.
- Faults outside of the picture do no harm. A JPEG without an end marker is read if all its rows are there
  (`jpeg_scans`). Of a PNG, pillow sees only the chunks that make the picture (`png_chunks`).
- Transparent pixels become white, as in a viewer. (open_clip drops the alpha channel, which uncovers the
  colour that the invisible pixels happen to have.) Colour profiles are ignored, as in open_clip.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from PIL import Image

from qprompt_runtime.decode_cost import check_room, load_bytes
from qprompt_runtime.errors import ImageError
from qprompt_runtime.jpeg_markers import JpegError, is_terminated
from qprompt_runtime.photo_formats import formats_of, open_header
from qprompt_runtime.photo_sources import CHANNELS, Source, Spliced, from_array, name_of, opened
from qprompt_runtime.png_chunks import needed_parts
from qprompt_runtime.text import printable

__all__ = ["DRAFT_MARGIN", "MAX_PIXELS", "Needed", "Source", "decode", "decoding_bytes", "image_errors"]

MAX_PIXELS = 120_000_000
"""Most pixels that are decoded.

Phones of 108 megapixels and medium-format cameras of 102 megapixels fit at full size.
"""

DRAFT_MARGIN = 3
"""A JPEG is decoded at reduced size only where this many times the needed width and height remain.

Measured on 60 photographs at several sizes (cosine of the resized pixels, reduced against full): at least
0.9998 from 3 times on, 0.9994 from 2, 0.990 below; and down to 0.97 where the reduction does not divide the
size, which shifts the image by a part of a pixel, so it has to; unless the photo is too large to be decoded
otherwise, where that part is one of thousands.
"""

Needed = Callable[[int, int], tuple[int, int]]
"""From the height and width of a photo to the height and width that it will be resized to."""

_ORIENTATION_TAG = 0x0112  # EXIF 2.3, section 4.6.4; the values below undo what the tag says
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_READ_WHOLE = ("WEBP", "AVIF", "HEIF")  # pillow takes the file into memory
_BAND_PIXELS = 1 << 20
_END_MARKER = b"\xff\xd9"


def decode(source: Source, needed: Needed | None = None, channels: str = "RGB") -> Image.Image:
    """Decode a photo to upright RGB.

    Args:
        source: A path; the bytes of a file; a file open for reading bytes, which is read from its beginning
            and stays open; a pillow image (of any mode; it is not changed); or an array, uint8 [H,W,3].
        needed: What size the photo will be resized to: large JPEGs are then decoded at a size that still
            loses nothing. None decodes at full size.
        channels: Of an array, the order of its last axis: `RGB`, or `BGR` as OpenCV gives them.

    Returns:
        An image of mode RGB, orientation applied, transparent pixels white. Grey levels of 16 bits are scaled
        from 0..65535 to 0..255. Of several frames it is the first.

    Raises:
        ImageError: Missing, empty, not an image, damaged, incomplete, too large for the cap or for the memory
            there is, or a kind that is not read; one line that begins with the path.
    """
    with image_errors(name_of(source)):
        if channels not in CHANNELS or (channels != "RGB" and not isinstance(source, np.ndarray)):
            raise ImageError(f"channels {channels!r}: expected 'RGB', or 'BGR' for an array")
        if isinstance(source, np.ndarray):
            return from_array(source, channels)
        if isinstance(source, Image.Image):
            return _upright_rgb(source)
        with opened(source) as stream:
            if "JPEG" in formats_of(stream):
                stream = _whole_jpeg(stream)
            with _header(stream, needed) as image:
                check_room(_cost(image, stream))
                image.load()
                return _upright_rgb(image)


def decoding_bytes(source: Source, needed: Needed | None = None) -> int:
    """Most memory that `decode` takes for a photo, from its header alone; 0 for a picture that is in memory.

    Raises:
        ImageError: As `decode`, as far as the header shows it.
    """
    if isinstance(source, Image.Image | np.ndarray):
        return 0
    with image_errors(name_of(source)), opened(source) as stream, _header(stream, needed) as image:
        return _cost(image, stream)


@contextmanager
def image_errors(name: str) -> Iterator[None]:
    """Whatever goes wrong with a photo becomes an `ImageError` that names it."""
    try:
        yield
    except ImageError as error:
        raise ImageError(error.reason, name) from error
    except MemoryError as error:
        raise ImageError("too large to decode in the memory there is; shrink it first", name) from error
    # Decoders answer damage with nearly any type of exception, and one bad photo must not stop a run.
    except Exception as error:
        raise ImageError(f"damaged or incomplete ({_one_line(error)})", name) from error


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return printable(text)[:120] or type(error).__name__


def _whole_jpeg(stream: BinaryIO) -> BinaryIO:
    """The file itself if its picture ends in an end marker.

    Otherwise the picture with an end marker added, if every row is there.
    """
    try:
        if is_terminated(stream):
            return stream
    except JpegError:
        return stream  # pillow is more patient with headers, and says what is wrong
    from qprompt_runtime.jpeg_scans import picture_end  # seldom needed, and slow to import

    try:
        end = picture_end(stream)
    except JpegError as error:
        raise ImageError(f"damaged or incomplete (no end marker, and {error})") from error
    return io.BufferedReader(Spliced(stream, [(0, end)], _END_MARKER))


def _header(stream: BinaryIO, needed: Needed | None) -> Image.Image:
    """Open a photo and set the size at which it will be decoded.

    That size is checked; no pixel is decoded yet.
    """
    formats = formats_of(stream)
    if formats[0] in _READ_WHOLE:
        check_room(stream.seek(0, io.SEEK_END))
    if formats[0] == "PNG":
        stream = io.BufferedReader(Spliced(stream, needed_parts(stream)))
    image = open_header(stream)
    width, height = image.size
    if needed is not None and image.format in ("JPEG", "MPO"):
        _draft(image, needed)
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(
            f"has more than {MAX_PIXELS // 10**6} million pixels; shrink it first (it claims {width} x "
            f"{height})"
        )
    return image


def _cost(image: Image.Image, stream: BinaryIO) -> int:
    unknown = (
        image.format == "PNG" and "exif" not in image.info
    )  # pillow would decode it to look behind the pixels
    return load_bytes(image, stream, turned=not unknown and _orientation(image) in _TO_UPRIGHT)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; a damaged EXIF block counts as upright."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # the photo itself may well be whole
        return 1
    return value if value in _TO_UPRIGHT else 1


def _draft(image: Image.Image, needed: Needed) -> None:
    """Have the JPEG decoded at 1/8, 1/4 or 1/2 of its size where that divides it and leaves enough."""
    width, height = image.size
    # Transposing a needed size of a transposed photo brings it back to the order of the file.
    least = needed(width, height)[::-1] if _orientation(image) >= 5 else needed(height, width)
    for scale in (8, 4, 2):
        fits = (height % scale == 0 and width % scale == 0) or width * height > MAX_PIXELS
        if fits and height >= DRAFT_MARGIN * scale * least[0] and width >= DRAFT_MARGIN * scale * least[1]:
            image.draft(None, (width // scale, height // scale))
            return


def _upright_rgb(image: Image.Image) -> Image.Image:
    orientation = _orientation(image)  # after loading: pillow turns TIFF by itself and then drops the tag
    image = _to_rgb(image)
    if orientation in _TO_UPRIGHT:
        image = image.transpose(_TO_UPRIGHT[orientation])
        image.info = {}  # or the tag would be copied along and turn the image a second time
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB: 16 bits scaled, transparency on white, palettes and CMYK by pillow's rules."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise ImageError("holds floating-point pixels; save it with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _eight_bits(image).convert("RGB")
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=image)
        return white
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Levels of 16 bits to grey levels of 8, a band of rows at a time, which spares memory."""
    grey = Image.new("L", image.size)
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        levels = np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))
        if levels.min() < 0 or levels.max() > 65535:
            raise ImageError("holds 32-bit pixels; save it with 8 or 16 bits")
        grey.paste(Image.fromarray(((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)), (0, top))
    return grey
