"""Which formats of photographs are read, and the header of a photo: its first bytes decide what it is."""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import struct
import warnings
from collections.abc import Iterator
from threading import Lock
from typing import BinaryIO

from PIL import Image

from qprompt_runtime.errors import ImageError
from qprompt_runtime.text import printable

FORMATS = ("JPEG", "PNG", "WEBP", "HEIF", "AVIF", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000")
"""Pillow's names of the formats that are tried."""

_PLUGINS = ("Jpeg", "Png", "WebP", "Avif", "Bmp", "Gif", "Tiff", "Ppm", "Jpeg2K")
"""Pillow's modules that read them; to import all of its forty would take longer than to decode a photo."""

_ALONE = {b"\xff\xd8\xff": ("Jpeg",), b"\x89PNG\r\n\x1a\n": ("Png",)}
"""First bytes that one module alone accepts: the others are not imported for such a file."""

_HEAD_BYTES = 16
_NOT_READ = (
    "unsupported",
    "cannot handle",
)  # how pillow begins what it says of a file that may well be whole
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _BANDS = 256, 257, 258, 259, 277  # TIFF 6.0, section 8

_WARNINGS_LOCK = Lock()  # the filters of `warnings` belong to the whole process


@functools.cache
def _formats(plugins: tuple[str, ...] = _PLUGINS) -> list[str]:
    """Formats of `FORMATS` that this pillow reads with these modules; HEIC where pillow-heif is installed."""
    for name in plugins:
        with contextlib.suppress(ImportError):  # AVIF is not in every pillow
            importlib.import_module(f"PIL.{name}ImagePlugin")
    if plugins == _PLUGINS:
        with contextlib.suppress(ImportError):
            importlib.import_module("pillow_heif").register_heif_opener()
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # or what it logs goes to stderr
    return [name for name in FORMATS if name in Image.OPEN]


def _kind(head: bytes) -> str | None:
    """What a file claims to be, for the wording of errors."""
    if head[4:8] == b"ftyp":
        brands = {b"av": "AVIF", b"he": "HEIC", b"mi": "HEIC", b"ms": "HEIC"}
        return brands.get(head[8:10])
    if head[:4] == b"RIFF":
        return "WebP" if head[8:12] == b"WEBP" else None
    starts = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"GIF8": "GIF", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
    return next((kind for start, kind in starts.items() if head.startswith(start)), None)


def formats_of(stream: BinaryIO) -> list[str]:
    """Pillow's names of the formats that a file's first bytes allow; no more of it is read.

    Raises:
        ImageError: None of those that are read.
    """
    stream.seek(0)
    head = stream.read(_HEAD_BYTES)
    kind = _kind(head)
    plugins = next((alone for start, alone in _ALONE.items() if head.startswith(start)), _PLUGINS)
    found = [name for name in _formats(plugins) if _allows(name, head)]
    if found:
        return found
    if kind == "HEIC":
        raise ImageError("is a HEIC photo, which needs one more package: pip install 'qprompt-edge[heic]'")
    if kind in ("AVIF", "WebP") and kind.upper() not in _formats():
        raise ImageError(f"is a {kind} image, which the installed pillow cannot read: pip install -U pillow")
    raise ImageError(f"damaged or incomplete {kind} file" if kind else "is not an image")


def _allows(name: str, head: bytes) -> bool:
    accept = Image.OPEN[name][1]
    try:
        answer = accept is None or accept(head)
    except (struct.error, IndexError):  # shorter than any header
        return False
    return bool(answer) and not isinstance(answer, str)  # a text says why the format is not there


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings: what matters becomes an error."""
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def open_header(stream: BinaryIO) -> Image.Image:
    """Read type and size; no pixel is decoded yet, and pillow's own limit on the size is not asked.

    Raises:
        ImageError: The file is damaged, or of a kind that is not read.
    """
    failures = {}
    for name in formats_of(stream):
        stream.seek(0)
        try:
            with _quiet():
                return Image.OPEN[name][0](stream, "")
        except (SyntaxError, IndexError, TypeError, KeyError, struct.error, OSError) as error:
            failures[name] = " ".join(str(error).split())
    name, reason = next(iter(failures.items()))
    detail = (
        _tiff_kind(stream) if name == "TIFF" else reason if reason.lower().startswith(_NOT_READ) else None
    )
    if detail:
        raise ImageError(
            f"is a {name} file of a kind that is not read ({printable(detail)[:80]}); save it as RGB with 8 "
            "bits for each channel"
        )
    raise ImageError(f"damaged or incomplete {name} file")


def _tiff_kind(stream: BinaryIO) -> str | None:
    """What a TIFF says that it holds, if its directory is whole."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    with contextlib.suppress(Exception), _quiet():  # only words in an error
        stream.seek(0)
        head = stream.read(8)
        tags = ImageFileDirectory_v2(head + (stream.read(8) if b"+" in head[2:4] else b""))
        stream.seek(tags.next)
        tags.load(stream)
        bands, bits = tags.get(_BANDS, 1), tags[_BITS]
        if tags[_WIDTH] and tags[_HEIGHT] and len(bits) in (1, bands):
            named = "band" if bands == 1 else "bands"
            return f"{bands} {named} of {bits[0]} bits, compression {tags.get(_COMPRESSION, 1)}"
    return None
