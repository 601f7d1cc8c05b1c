"""JPEG pictures one behind the other, as MJPEG streams carry them, cut apart where each one ends.

A picture's segments are walked by their lengths, so that the end of a thumbnail within it is not taken for
its own. What lies between pictures (the headers of a multipart stream) is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MOST_BYTES = 32 * 10**6
"""Of one picture; a stream that holds more without an end is no such stream."""

_START = b"\xff\xd8\xff"
_START_OF_SCAN, _END = 0xDA, 0xD9
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length (ITU T.81, table B.1)
_MARKER_IN_SCAN = re.compile(
    rb"\xff[^\x00\xd0-\xd7\xff]"
)  # neither a stuffed byte, nor a restart, nor filling


class TooLargeError(Exception):
    """More bytes than a picture has, and none ends."""


class JpegStream:
    """Cuts a stream of bytes, as they come, into JPEG files."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._position = (
            0  # within the buffer: everything before it is understood; 0 before a picture's start
        )
        self._in_scan = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The pictures that these bytes complete.

        Raises:
            TooLargeError: `MOST_BYTES` have come, and no end.
        """
        self._buffer += data
        while (end := self._end()) is not None:
            picture = bytes(self._buffer[:end])
            del self._buffer[:end]
            self._position, self._in_scan = 0, False
            yield picture
        if len(self._buffer) > MOST_BYTES:
            raise TooLargeError

    def _end(self) -> int | None:
        """Where the picture ends that the buffer begins with; None if more must come."""
        if self._position == 0 and not self._begin():
            return None
        while True:
            marker = self._marker()
            if marker is None:
                return None
            if marker == _END:
                return self._position
            if marker == _START[1]:  # another picture begins: the one before was cut off
                del self._buffer[: self._position - 2]
                self._position, self._in_scan = 2, False
            elif marker not in _ALONE and not self._skip_segment(marker):
                return None

    def _begin(self) -> bool:
        """Drop what lies before the next picture; whether one begins."""
        start = self._buffer.find(_START)
        if start < 0:
            del self._buffer[: max(0, len(self._buffer) - 2)]  # its first bytes may be the last ones here
            return False
        del self._buffer[:start]
        self._position = 2
        return True

    def _marker(self) -> int | None:
        """The next marker, which is then understood; None if it is not there yet."""
        if self._in_scan:
            found = _MARKER_IN_SCAN.search(self._buffer, self._position)
            if found is None:
                self._position = max(self._position, len(self._buffer) - 1)
                return None
            self._position, self._in_scan = found.end(), False
            return self._buffer[found.end() - 1]
        while len(self._buffer) >= self._position + 2:
            if self._buffer[self._position] != 0xFF:  # damaged: go on at the next marker
                self._in_scan = True
                return self._marker()
            if self._buffer[self._position + 1] != 0xFF:
                self._position += 2
                return self._buffer[self._position - 1]
            self._position += 1  # filling
        return None

    def _skip_segment(self, marker: int) -> bool:
        """Pass over a segment; False, and back before its marker, if its length is not there yet."""
        if len(self._buffer) < self._position + 2:
            self._position -= 2
            return False
        length = int.from_bytes(self._buffer[self._position : self._position + 2], "big")
        self._position += max(2, length)
        self._in_scan = marker == _START_OF_SCAN
        return True
