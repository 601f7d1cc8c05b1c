"""From any photo to upright 8-bit RGB.

The idea: what a file is, its content decides, not its name; and everything that can be wrong with it ends as an
`ImageError` of one line that names the file.

- A folder of photos from the wild is hostile input: the number of pixels is read from the header and capped before
  anything is decoded, only formats of photographs are tried (none that starts another program), and no limit or
  option of pillow is changed for the rest of the process.
- Cameras write many more pixels than a model reads. JPEG can be decoded at 1/2, 1/4 or 1/8 of its size for a
  fraction of time and memory; this is done while three times the needed resolution remains, so the resampling
  filter that the model knows still does the last step.
- Transparent pixels become white, as a viewer would show them. (open_clip drops the alpha channel, which uncovers
  whatever colour the invisible pixels happen to hold.) Colour profiles are ignored, as in open_clip.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import os
import stat
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from qprompt_runtime.errors import ImageError
from qprompt_runtime.text import printable

MAX_PIXELS = 120_000_000
"""Largest photo that is decoded: a 108-megapixel phone or a 102-megapixel medium-format camera fits."""

DRAFT_MARGIN = 3
"""A JPEG is decoded at reduced size only where this many times the needed width and height remain.

Measured on 60 photographs at several sizes (cosine of the resized pixels, reduced against full): at least 0.9998
from 3 times on, 0.9994 from 2, 0.990 below; and down to 0.97 where the reduction does not divide the size, which
shifts the image by a part of a pixel, so it has to.
"""

FORMATS = ("JPEG", "PNG", "WEBP", "HEIF", "AVIF", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000")
"""Pillow's names of the formats that are tried."""

_PLUGINS = ("Jpeg", "Png", "WebP", "Avif", "Bmp", "Gif", "Tiff", "Ppm", "Jpeg2K")
"""Pillow's modules that read them; to import all of its forty would take longer than to decode a photo."""

Source = str | os.PathLike[str] | bytes | Image.Image
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
_WARNINGS_LOCK = threading.Lock()  # the filters of `warnings` belong to the whole process


def decode(source: Source, needed: Needed | None = None) -> Image.Image:
    """Decode a photo to upright RGB.

    Args:
        source: A path, the bytes of a file, or a pillow image (of any mode; it is not changed).
        needed: What size the photo will be resized to: large JPEGs are then decoded at a size that still loses
            nothing. None decodes at full size.

    Returns:
        An image of mode RGB, orientation applied, transparent pixels white. Grey levels of 16 bits are scaled
        from 0..65535 to 0..255. Of several frames it is the first.

    Raises:
        ImageError: Missing, empty, not an image, damaged, incomplete, too many pixels, or a kind that is not
            read; one line that begins with the path.
    """
    name = "image" if isinstance(source, bytes | Image.Image) else printable(source)
    try:
        if isinstance(source, Image.Image):
            return _upright_rgb(source)
        with _stream(source) as stream, _open(stream) as image:
            if needed is not None and image.format in ("JPEG", "MPO"):
                _draft(image, needed)
            image.load()
            return _upright_rgb(image)
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


def _stream(source: str | os.PathLike[str] | bytes) -> BinaryIO:
    """Open what a photo is read from; only regular files with something in them."""
    if isinstance(source, bytes):
        if not source:
            raise ImageError("is empty (0 bytes)")
        return io.BytesIO(source)
    try:
        status = Path(source).stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError("is a folder, not an image")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("is not a regular file")
        if status.st_size == 0:
            raise ImageError("is empty (0 bytes)")
        return Path(source).open("rb")
    except FileNotFoundError:
        raise ImageError("no such file") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot be opened: {getattr(error, 'strerror', None) or error}") from error


@functools.cache
def _formats() -> list[str]:
    """Formats of `FORMATS` that this pillow reads; HEIC where pillow-heif is installed."""
    for name in _PLUGINS:
        with contextlib.suppress(ImportError):  # AVIF is not in every pillow
            importlib.import_module(f"PIL.{name}ImagePlugin")
    with contextlib.suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
    return [name for name in FORMATS if name in Image.OPEN]


def _kind(head: bytes) -> str | None:
    """What a file claims to be by its first bytes, for the wording of errors."""
    if head[4:8] == b"ftyp":
        brands = {b"av": "AVIF", b"he": "HEIC", b"mi": "HEIC", b"ms": "HEIC"}
        return brands.get(head[8:10])
    if head[:4] == b"RIFF":
        return "WebP" if head[8:12] == b"WEBP" else None
    starts = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"GIF8": "GIF", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
    return next((kind for start, kind in starts.items() if head.startswith(start)), None)


def _open(stream: BinaryIO) -> Image.Image:
    """Read the header: type and size are known and checked, no pixel is decoded yet."""
    kind = _kind(stream.read(16))
    stream.seek(0)
    formats = _formats()
    needed = {"HEIC": "HEIF", "AVIF": "AVIF", "WebP": "WEBP"}.get(kind or "")
    if kind == "HEIC" and needed not in formats:
        raise ImageError("is a HEIC photo, which needs one more package: pip install 'qprompt-edge[heic]'")
    if needed is not None and needed not in formats:
        raise ImageError(f"is a {kind} image, which the installed pillow cannot read: pip install -U pillow")
    bomb = f"has more than {MAX_PIXELS // 10**6} million pixels; shrink it first"
    try:
        # Pillow warns from 89 million pixels on (and raises from 179); the cap below replaces both.
        with _WARNINGS_LOCK, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(stream, formats=formats)
    except Image.DecompressionBombError as error:
        raise ImageError(bomb) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"damaged or incomplete {kind} file" if kind else "is not an image") from error
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(f"{bomb} (it claims {image.width} x {image.height})")
    return image


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
        exact = height % scale == 0 and width % scale == 0
        if exact and height >= DRAFT_MARGIN * scale * least[0] and width >= DRAFT_MARGIN * scale * least[1]:
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
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() > 65535:
            raise ImageError("holds 32-bit pixels; save it with 8 or 16 bits")
        levels = (levels.astype(np.uint32) + 128) // 257
        return Image.fromarray(levels.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image.convert("RGB")
