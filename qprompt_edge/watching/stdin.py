"""Frames on stdin, from a program that reads a camera: JPEG pictures one behind the other, or raw pixels."""

from __future__ import annotations

import os
import select
from collections.abc import Generator, Iterator

import numpy as np

from qprompt_edge.watching.frames import TICK, Frame, Frames, Source
from qprompt_edge.watching.jpeg_stream import MOST_BYTES, JpegStream, TooLargeError
from qprompt_runtime.errors import ImageError

_NAME = "stdin"
_DESCRIPTOR = 0
_AT_ONCE = 1 << 20
_CHANNELS = 3
EXPECTED = "JPEG files one behind the other (ffmpeg: -f mjpeg -), or raw RGB pixels with --size"


def stdin_source(size: tuple[int, int] | None = None, descriptor: int = _DESCRIPTOR) -> Source:
    """Frames on stdin.

    Args:
        size: Width and height of raw frames: uint8, red, green and blue of each pixel, row by row. None: JPEG
            files.
        descriptor: Where to read.
    """

    def frames() -> Frames:
        split = _raw(*size) if size else _jpegs()
        next(split)
        count = 0
        for data in _read(descriptor):
            if data is None:
                yield None
                continue
            for frame in split.send(data):
                count += 1
                yield frame
        if not count:
            raise ImageError(f"held no whole frame; expected {EXPECTED}", _NAME)

    return Source(_NAME, live=True, frames=frames)


def _read(descriptor: int) -> Iterator[bytes | None]:
    """What comes, until the writer closes its end; None while nothing comes."""
    while True:
        if not select.select([descriptor], [], [], TICK)[0]:
            yield None
            continue
        try:
            data = os.read(descriptor, _AT_ONCE)
        except OSError as error:  # a folder
            raise ImageError(f"cannot be read: {error.strerror}", _NAME) from error
        if not data:
            return
        yield data


Splitter = Generator[list[Frame], bytes, None]


def _jpegs() -> Splitter:
    stream, data, frames = JpegStream(), b"", list[Frame]()
    while True:
        data = yield frames
        try:
            frames = [Frame(picture, _NAME) for picture in stream.feed(data)]
        except TooLargeError:
            raise ImageError(
                f"{MOST_BYTES // 10**6} MB came without a whole JPEG; expected {EXPECTED}", _NAME
            ) from None


def _raw(width: int, height: int) -> Splitter:
    buffer, length, frames = bytearray(), width * height * _CHANNELS, list[Frame]()
    while True:
        buffer += yield frames
        frames = []
        while len(buffer) >= length:
            pixels = np.frombuffer(buffer, np.uint8, length).reshape(height, width, _CHANNELS).copy()
            del buffer[:length]
            frames.append(Frame(pixels, _NAME))
