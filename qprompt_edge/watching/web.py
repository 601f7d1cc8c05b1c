"""Frames over http: a stream of JPEG pictures (MJPEG), or one picture that is fetched again and again."""

from __future__ import annotations

import base64
import http.client
import time
from collections.abc import Callable
from typing import IO
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from qprompt_edge.watching.addresses import without_password
from qprompt_edge.watching.frames import Frame, Source, SourceLost
from qprompt_edge.watching.jpeg_stream import MOST_BYTES, JpegStream, TooLargeError
from qprompt_edge.watching.latest import Reading, latest_source
from qprompt_runtime.text import printable

_TIMEOUT = 10.0
_AT_ONCE = 1 << 16
_SECONDS_APART = 1.0
_STREAMS = ("multipart/x-mixed-replace", "video/x-motion-jpeg", "video/mjpeg", "video/x-jpeg")


def web_source(address: str, fps: float | None) -> Source:
    """Frames from an http or https address.

    Args:
        address: The address; user and password in it are sent as basic authentication.
        fps: How often a single picture is fetched in a second; None is once.
    """
    name = without_password(address)
    request = _request(address)

    def read() -> Reading:
        try:
            while True:
                began = time.monotonic()
                with urlopen(request, timeout=_TIMEOUT) as response:
                    kind = response.headers.get_content_type()
                    if kind in _STREAMS:
                        yield from _stream(response, name)
                        raise SourceLost(f"{name}: the stream has ended")
                    if not kind.startswith("image/"):
                        raise SourceLost(
                            f"{name}: is {printable(kind)}; expected an MJPEG stream or an image (other streams: rtsp://)"
                        )
                    yield Frame(_picture(response, name), name)
                apart = _SECONDS_APART if fps is None else 1 / fps
                time.sleep(max(0.0, began + apart - time.monotonic()))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise SourceLost(f"{name}: {printable(str(getattr(error, 'reason', error)))}") from error

    return latest_source(name, read)


def _request(address: str) -> Request:
    """The request for an address; urllib does not take user and password from it by itself."""
    parts = urlsplit(address)
    access, at, host = parts.netloc.rpartition("@")
    request = Request(urlunsplit(parts._replace(netloc=host)), headers={"User-Agent": "qprompt-edge"})
    if at:
        coded = base64.b64encode(unquote(access).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {coded}")
    return request


def _stream(response: http.client.HTTPResponse, name: str) -> Reading:
    stream = JpegStream()
    read: Callable[[int], bytes] = response.read1
    while data := read(_AT_ONCE):
        try:
            for picture in stream.feed(data):
                yield Frame(picture, name)
        except TooLargeError:
            raise SourceLost(f"{name}: {MOST_BYTES // 10**6} MB came without a whole JPEG") from None


def _picture(response: IO[bytes], name: str) -> bytes:
    data = response.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise SourceLost(f"{name}: the picture has more than {MOST_BYTES // 10**6} MB")
    return data
