"""The chunks of a PNG that its pixels need.

A PNG may carry texts, colour profiles and an animation of any size. A decoder that fails on them refuses the
picture. So it sees only what the pixels need, and the chunk that says how the photo was held.
"""

from __future__ import annotations

import zlib
from typing import BinaryIO

_SIGNATURE = 8
_CRITICAL = (
    0x20  # the bit that makes a name's first letter small: the chunk may be left out (PNG, section 5.4)
)
_MOST_BYTES = 1 << 20  # of what is kept besides; pillow refuses texts beyond it
_ORIENTATION = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
"""Texts in which a photo's orientation may be; by them pillow turns it."""


def needed_parts(stream: BinaryIO) -> list[tuple[int, int]]:
    """Where the chunks are that make the picture.

    Args:
        stream: A PNG.

    Returns:
        Begin and end of each part, neighbours joined: the signature, all critical chunks, and whole ones of
        transparency and orientation. From the first thing on that is no chunk it is all that follows.
    """
    size = stream.seek(0, 2)
    parts, offset = [(0, _SIGNATURE)], _SIGNATURE
    while offset + 12 <= size:
        stream.seek(offset)
        head = stream.read(8)
        name, end = head[4:], offset + 12 + int.from_bytes(head[:4], "big")
        if end > size or not name.isalpha():
            break
        if not name[0] & _CRITICAL or _is_of_use(stream, name, end - offset - 12):
            begin = parts.pop()[0] if parts[-1][1] == offset else offset
            parts.append((begin, end))
        offset = end
        if name == b"IEND":
            return parts
    return [*parts, (offset, size)]


def _is_of_use(stream: BinaryIO, name: bytes, length: int) -> bool:
    """Whether a chunk that may be left out says what a picture looks like, and is whole."""
    if name not in (b"tRNS", b"eXIf", b"tEXt", b"zTXt", b"iTXt") or length > _MOST_BYTES:
        return False
    data, check = stream.read(length), stream.read(4)
    if zlib.crc32(name + data) != int.from_bytes(check, "big"):
        return False
    if name in (b"tRNS", b"eXIf"):
        return True
    keyword, _, text = data.partition(b"\0")
    if keyword + b"\0" not in _ORIENTATION:
        return False
    packed = name == b"zTXt" or (name == b"iTXt" and text[:1] == b"\1")
    return not packed or _unpacks(text[1:] if name == b"zTXt" else text[2:].split(b"\0", 2)[-1])


def _unpacks(data: bytes) -> bool:
    """Whether data unpack to no more than is kept."""
    try:
        return len(zlib.decompressobj().decompress(data, _MOST_BYTES + 1)) <= _MOST_BYTES
    except zlib.error:
        return True  # pillow passes over them
