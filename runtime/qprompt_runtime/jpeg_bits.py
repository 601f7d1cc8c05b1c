"""Bits of a JPEG's coded data, and the tables of its Huffman codes, in a form that Python walks quickly."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

from qprompt_runtime.jpeg_markers import JpegError, interruption

_BLOCK = 1 << 14  # bytes that are taken at a time
_MARGIN = 512  # bytes; no 8 x 8 block has as many
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")


def code_table(lengths: bytes, symbols: bytes, entry: Callable[[int, int], int]) -> list[int]:
    """What stands behind each 16 bits that may come next (annex C).

    Args:
        lengths: How many codes there are of 1, 2, ... 16 bits.
        symbols: Their symbols.
        entry: From a code's length and symbol to its entry.

    Returns:
        65,536 entries; 0 where no code begins like this.

    Raises:
        JpegError: There are more codes than their lengths allow.
    """
    table: list[int] = []
    position = 0
    for length, count in enumerate(lengths, start=1):
        for symbol in symbols[position : position + count]:
            table += [entry(length, symbol)] * (1 << (16 - length))
        position += count
    if len(table) > 1 << 16:
        raise JpegError("a code table has too many codes")
    return table + [0] * ((1 << 16) - len(table))


class Bits:
    """Coded data from an offset on to the next marker, a restart interval at a time.

    Positions count bits in what is loaded. A walker keeps its position to itself, for speed, and calls `more`
    before a block if its position is beyond `limit`.

    Attributes:
        words: 32 bits from each byte on that is loaded.
        limit: Up to this position a whole block is loaded; or the end of the data.
    """

    def __init__(self, stream: BinaryIO, offset: int) -> None:
        self._stream, self._next = stream, offset
        found = interruption(stream, offset)
        self._stop = found[0] if found else stream.seek(0, 2)
        self._open()

    def _open(self) -> None:
        self._data, self._start, self._ended = b"", self._next, False
        self.more(0)

    def more(self, position: int) -> int:
        """Load what comes next, and forget what lies before a position.

        Returns:
            The position in what is now loaded.

        Raises:
            JpegError: The data end before it.
        """
        if self._ended:
            raise JpegError("the coded data end too early")
        self._start = self.offset(position & ~7)
        rest = self._data[position >> 3 :]
        self._stream.seek(self._next)
        raw = self._stream.read(min(_BLOCK, self._stop - self._next))
        if raw.endswith(b"\xff") and self._next + len(raw) < self._stop:
            raw = raw[:-1]  # what it means, the next byte says
        restart = _RESTART.search(raw)
        raw = raw[: restart.start()] if restart else raw
        self._next += len(raw)
        self._ended = restart is not None or self._next >= self._stop or not raw
        self._data = rest + raw.replace(b"\xff\0", b"\xff")
        padded = np.frombuffer(self._data + bytes(_MARGIN + 4), np.uint8).astype(np.uint32)
        self.words: list[int] = (
            padded[:-3] << 24 | padded[1:-2] << 16 | padded[2:-1] << 8 | padded[3:]
        ).tolist()
        self.limit = 8 * (len(self._data) if self._ended else max(0, len(self._data) - _MARGIN))
        return position & 7

    def offset(self, position: int) -> int:
        """Offset in the file of the first byte at or behind a position."""
        taken = self._data[: (position + 7) >> 3]
        return self._start + len(taken) + taken.count(b"\xff")  # a zero stands behind each

    def restart(self, position: int, number: int) -> None:
        """Go on behind the restart marker that has to follow.

        Raises:
            JpegError: It does not, or another one does.
        """
        if not self._ended:
            self.more(position)
        self._stream.seek(self._next)
        if self.offset(position) != self._next or self._stream.read(2) != bytes([0xFF, 0xD0 + number % 8]):
            raise JpegError("a restart marker is missing")
        self._next += 2
        self._open()

    def end(self, position: int) -> tuple[int, bool]:
        """Where the data end that were read up to a position, and whether ones fill up the last byte.

        Raises:
            JpegError: The position is beyond the data.
        """
        if self._ended and position > self.limit:
            raise JpegError("the coded data end too early")
        filler = (1 << -position % 8) - 1
        last = self._data[position >> 3] if filler else 0
        return self.offset(position), last & filler == filler
