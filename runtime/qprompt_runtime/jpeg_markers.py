"""The markers of a JPEG: what its header says, and whether the picture ends in an end marker.

Markers are found without decoding, in blocks, so this costs little compared with decoding. They say how much
memory a decoder will need, and whether the file is complete. Phones and cameras also write pictures without
an end marker, with other data right after them. ITU-T T.81, annex B, names the markers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

SOI, EOI, SOS, DQT, DHT, DRI = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDD
BASELINE, PROGRESSIVE = (0xC0, 0xC1), 0xC2
_FRAMES = frozenset(range(0xC0, 0xD0)) - {DHT, 0xC8, 0xCC}
BETWEEN_SCANS = frozenset({DHT, DQT, DRI, 0xDC, 0xFE, SOS, *range(0xE0, 0xF0)})
"""Segments that may stand between two scans; anything else there belongs to no picture."""

_BLOCK = 1 << 18
_OVERLAP = 12  # what is searched for is at most this long
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)  # restarts are part of the coded data
_VIDEO = re.compile(rb"\x00\x00\x00[\x08-\xff]ftyp[ -~]{4}", re.DOTALL)  # the first box of an MP4


class JpegError(Exception):
    """The markers are not those of a picture that is whole."""


@dataclass(frozen=True)
class Component:
    """One of the frame's colour planes.

    Attributes:
        key: Its identifier in scans.
        across: Samples across for each sampling unit, 1 to 4.
        down: Samples down.
        table: Its quantization table.
    """

    key: int
    across: int
    down: int
    table: int


@dataclass(frozen=True)
class Frame:
    """What the header says.

    Attributes:
        kind: Marker of the frame: baseline, progressive or another process.
        height: In pixels.
        width: In pixels.
        components: One for each colour plane.
    """

    kind: int
    height: int
    width: int
    components: tuple[Component, ...]

    @property
    def units(self) -> tuple[int, int]:
        """Units across and down of a scan of several planes."""
        across, down = self._most
        return -(-self.width // (8 * across)), -(-self.height // (8 * down))

    def blocks(self, plane: int) -> tuple[int, int]:
        """Blocks across and down of a scan of one plane."""
        (across, down), component = self._most, self.components[plane]
        width, height = -(-self.width * component.across // across), -(-self.height * component.down // down)
        return -(-width // 8), -(-height // 8)

    @property
    def samples(self) -> int:
        """Samples of all planes, with those that fill up the last units."""
        blocks = sum(component.across * component.down for component in self.components)
        return 64 * self.units[0] * self.units[1] * blocks

    @property
    def _most(self) -> tuple[int, int]:
        parts = self.components
        return max(part.across for part in parts), max(part.down for part in parts)


@dataclass(frozen=True)
class Segment:
    """A marker with what belongs to it.

    Attributes:
        marker: Its second byte.
        body: What follows its length; of a scan the header only.
        end: Offset in the file of what follows.
    """

    marker: int
    body: bytes
    end: int


def read_segment(stream: BinaryIO, offset: int) -> Segment:
    """The segment at an offset; of markers without a body (SOI, EOI) just the marker.

    Raises:
        JpegError: There is no marker, or it is cut short.
    """
    stream.seek(offset)
    fill = 0
    byte = stream.read(1)
    if byte != b"\xff":
        raise JpegError("no marker")
    while byte == b"\xff":  # any number of them may fill up
        fill += 1
        byte = stream.read(1)
    if not byte or byte == b"\0":
        raise JpegError("no marker")
    marker = byte[0]
    if marker in (SOI, EOI, 0x01) or 0xD0 <= marker <= 0xD7:
        return Segment(marker, b"", offset + fill + 1)
    length = int.from_bytes(stream.read(2), "big")
    body = stream.read(max(0, length - 2))
    if length < 2 or len(body) < length - 2:
        raise JpegError("a segment is cut short")
    return Segment(marker, body, offset + fill + 1 + length)


def header(stream: BinaryIO) -> Iterator[Segment]:
    """The segments behind the first marker, up to the first scan's and with it.

    Raises:
        JpegError: They are not those of a picture.
    """
    offset = read_segment(stream, 0).end
    while True:
        segment = read_segment(stream, offset)
        yield segment
        if segment.marker == SOS:
            return
        if segment.marker in (SOI, EOI):
            raise JpegError("no scan")
        offset = segment.end


def frame_of(segment: Segment) -> Frame | None:
    """The frame that a segment describes, if it does.

    Raises:
        JpegError: It is cut short.
    """
    if segment.marker not in _FRAMES:
        return None
    body = segment.body
    if len(body) < 6 or len(body) < 6 + 3 * body[5] or body[5] == 0:
        raise JpegError("the frame is cut short")
    found = []
    for i in range(6, 6 + 3 * body[5], 3):
        across, down = body[i + 1] >> 4, body[i + 1] & 15
        if across not in range(1, 5) or down not in range(1, 5):
            raise JpegError("invalid sampling factors")
        found.append(Component(body[i], across, down, body[i + 2]))
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    return Frame(segment.marker, height, width, tuple(found))


def coefficient_bytes(stream: BinaryIO) -> int:
    """Memory in which a decoder keeps a picture's coefficients.

    All of them where the picture comes in several scans, otherwise 0.

    Raises:
        JpegError: There is no header to read.
    """
    frame = None
    for segment in header(stream):
        frame = frame_of(segment) or frame
        if segment.marker == SOS and frame is not None:
            several = frame.kind not in BASELINE or segment.body[:1] != bytes([len(frame.components)])
            return 2 * frame.samples if several else 0
    raise JpegError("no frame")


def interruption(stream: BinaryIO, offset: int) -> tuple[int, bool] | None:
    """Where coded data that begin at an offset end, and whether a marker ends them.

    Returns:
        The offset of the first marker, or of a video that was put behind the picture; None if there is
        neither.
    """
    while True:
        stream.seek(offset)
        block = stream.read(_BLOCK)
        marker, video = _MARKER.search(block), _VIDEO.search(block) if b"ftyp" in block else None
        if video and not (marker and marker.start() < video.start()):
            return offset + video.start(), False
        if marker:
            return offset + marker.start(), True
        if len(block) < _BLOCK:
            return None
        offset += _BLOCK - _OVERLAP


def is_terminated(stream: BinaryIO) -> bool:
    """Whether scan follows scan up to an end marker; what comes behind it does not matter.

    Raises:
        JpegError: The header is not that of a picture.
    """
    for segment in header(stream):
        last = segment
    offset = last.end
    while True:
        found = interruption(stream, offset)
        if found is None or not found[1]:
            return False
        offset = found[0]
        try:
            while (segment := read_segment(stream, offset)).marker != SOS:
                if segment.marker == EOI:
                    return True
                if segment.marker not in BETWEEN_SCANS:
                    return False
                offset = segment.end
            offset = segment.end
        except JpegError:
            return False
