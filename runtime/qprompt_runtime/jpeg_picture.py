"""What a JPEG's scans have sent so far: its tables, its coefficients, and what is still missing.

The names of the parts are those of ITU-T T.81, annex B.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from qprompt_runtime.jpeg_bits import code_table
from qprompt_runtime.jpeg_markers import (
    BASELINE,
    DHT,
    DQT,
    DRI,
    PROGRESSIVE,
    Frame,
    JpegError,
    Segment,
    frame_of,
)

_MOST_BLOCKS = 6_000_000  # 120 million pixels with three planes at full size
_UNSENT = 14  # bits of a coefficient of which none came yet
_BRIGHTEST = 2048  # twice what a block's average can be, in steps of one
_AC = 0x10  # tables of other coefficients than the first have this in their number


@dataclass(frozen=True)
class Scan:
    """Header of a scan.

    Attributes:
        planes: Index of each plane, and which tables its first and its other coefficients have.
        band: First and last coefficient that it sends.
        before: Low bits of them that were missing; 0 for none sent yet.
        after: Low bits of them that are missing afterwards.
    """

    planes: tuple[tuple[int, int, int], ...]
    band: tuple[int, int]
    before: int
    after: int


class Picture:
    """The state of a walk through a picture.

    Holds the tables so far, how many low bits of each plane's coefficients are missing, and which
    coefficients are not zero.
    """

    def __init__(self) -> None:
        self.frame: Frame | None = None
        self.symbols: dict[int, list[int]] = {}
        self.steps: dict[int, list[int]] = {}
        self.scales: dict[int, int] = {}
        self.interval = 0
        self.missing: list[list[int]] = []
        self.known: dict[int, array[int]] = {}

    def take(self, segment: Segment) -> None:
        """Read what a segment defines; raises a `JpegError` if it begins a picture that is not checked."""
        body = segment.body
        if segment.marker == DHT:
            while len(body) > 17:
                total = 17 + sum(body[1:17])
                self.symbols[body[0]] = code_table(body[1:17], body[17:total], _symbol)
                self.steps[body[0]] = code_table(body[1:17], body[17:total], _step)
                body = body[total:]
        elif segment.marker == DQT:
            while body:
                width = 2 if body[0] >> 4 else 1
                self.scales[body[0] & 15] = max(1, int.from_bytes(body[1 : 1 + width], "big"))
                body = body[1 + 64 * width :]
        elif segment.marker == DRI:
            self.interval = int.from_bytes(body[:2], "big")
        elif frame := frame_of(segment):
            if self.frame or frame.kind not in (*BASELINE, PROGRESSIVE) or not frame.height * frame.width:
                raise JpegError("a kind of JPEG that is not checked")
            if frame.samples > 64 * _MOST_BLOCKS:
                raise JpegError("too large to be checked")
            self.frame = frame
            self.missing = [[_UNSENT] * 64 for _ in frame.components]

    def is_complete(self) -> bool:
        """Whether every coefficient of every plane was sent in full."""
        return not any(any(plane) for plane in self.missing)


def _symbol(length: int, symbol: int) -> int:
    return length | symbol << 5


def _step(length: int, symbol: int) -> int:
    """How far a code of a sequential scan leads, in bits and in coefficients of its block.

    Negative where it ends the block.
    """
    return -length if symbol == 0 else length + (symbol & 15) | (symbol >> 4) + 1 << 6


def read_scan(picture: Picture, segment: Segment) -> Scan:
    """Read a scan's header, and note what it sends; raises a `JpegError` if it cannot stand here."""
    body, frame = segment.body, picture.frame
    count = body[0] if body else 0
    if frame is None or not 1 <= count <= 4 or len(body) < 4 + 2 * count:
        raise JpegError("a scan without a frame")
    keys = [component.key for component in frame.components]
    if any(key not in keys for key in body[1 : 1 + 2 * count : 2]):
        raise JpegError("a scan of an unknown plane")
    planes = tuple(
        (keys.index(body[i]), body[i + 1] >> 4, body[i + 1] & 15) for i in range(1, 1 + 2 * count, 2)
    )
    first, last, bits = body[1 + 2 * count : 4 + 2 * count]
    before, after = bits >> 4, bits & 15
    if frame.kind != PROGRESSIVE:
        first, last, before, after = 0, 63, 0, 0
    elif not (first == last == 0 or (0 < first <= last < 64 and count == 1)):
        raise JpegError("a scan with an invalid band")
    for plane, _, _ in planes:
        for k in range(first, last + 1):
            if picture.missing[plane][k] != (before or _UNSENT) or (before and after != before - 1):
                raise JpegError("scans in the wrong order")
            picture.missing[plane][k] = after
    return Scan(planes, (first, last), before, after)


def band_of(picture: Picture, scan: Scan) -> tuple[list[int], tuple[int, int], array[int]]:
    """Code table, band, and the plane's coefficients that are not zero.

    Raises:
        JpegError: The table was not sent.
    """
    plane, _, table = scan.planes[0]
    if picture.frame is None or _AC | table not in picture.symbols:
        raise JpegError("a code table is missing")
    if plane not in picture.known:
        across, down = picture.frame.blocks(plane)
        picture.known[plane] = array("Q", bytes(8 * across * down))
    return picture.symbols[_AC | table], scan.band, picture.known[plane]


Block = tuple[int, list[int], list[int] | None, int]


def unit_blocks(picture: Picture, scan: Scan) -> list[Block]:
    """The blocks of a unit.

    For each: its plane, the table of its averages' sizes, the steps through the rest if that is sent too, and
    the limit.

    Raises:
        JpegError: A table was not sent.
    """
    blocks: list[Block] = []
    frame = picture.frame
    assert frame is not None
    for plane, sizes, steps in scan.planes:
        part = frame.components[plane]
        repeats = part.across * part.down if len(scan.planes) > 1 else 1
        limit = _BRIGHTEST // (picture.scales.get(part.table, 1) << scan.after) + 1
        rest = picture.steps.get(_AC | steps) if scan.band[1] else None
        if (scan.band[1] and rest is None) or (not scan.before and sizes not in picture.symbols):
            raise JpegError("a code table is missing")
        blocks += [(plane, picture.symbols.get(sizes, []), rest, limit)] * repeats
    return blocks
