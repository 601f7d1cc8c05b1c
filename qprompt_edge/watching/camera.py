"""Cameras of the kernel (V4L2, such as USB cameras) and network streams (RTSP, RTMP), through FFmpeg.

PyAV brings them in one wheel. Frames that nobody takes are not decoded where each stands for itself (MJPEG,
raw); other codecs build on what came before, so all are decoded, and only those that are taken are converted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from qprompt_edge.watching.frames import Frame, Source, SourceLost
from qprompt_edge.watching.latest import Reading, latest_source
from qprompt_runtime.errors import ImageError, QPromptError
from qprompt_runtime.text import printable

_TIMEOUT = 10.0  # seconds to open, and to read
_EACH_FOR_ITSELF = ("mjpeg", "rawvideo")


class CameraError(QPromptError):
    """A camera needs a library that is not installed."""


def device_source(path: str, size: tuple[int, int] | None) -> Source:
    """A camera of the kernel, such as `/dev/video0`.

    Args:
        path: Its device.
        size: Width and height that it is asked for; None leaves it the choice.

    Raises:
        CameraError: PyAV is not installed.
    """
    options = {} if size is None else {"video_size": f"{size[0]}x{size[1]}"}
    return _source(path, path, "v4l2", options)


def stream_source(address: str, name: str) -> Source:
    """A network stream.

    Args:
        address: With user and password, where they are needed.
        name: As answers name it.

    Raises:
        CameraError: PyAV is not installed.
    """
    rtsp = address.lower().startswith("rtsp")
    return _source(address, name, None, {"rtsp_transport": "tcp"} if rtsp else {})


def _source(address: str, name: str, kind: str | None, options: dict[str, str]) -> Source:
    av = _library()

    def read() -> Reading:
        try:
            with av.open(address, format=kind, options=options, timeout=_TIMEOUT) as container:
                if not container.streams.video:
                    raise SourceLost(f"{name}: has no video")
                yield from _frames(container, name, av.error.FFmpegError)
        except (av.error.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SourceLost(f"{name}: {printable(reason)}") from error

    return latest_source(printable(name), read)


def _frames(container: Any, name: str, failure: type[Exception]) -> Reading:
    """The frames of a container's first video stream, each converted when it is asked for."""
    stream = container.streams.video[0]
    alone = stream.codec_context.name in _EACH_FOR_ITSELF
    for packet in container.demux(stream):
        if alone and packet.size:
            yield Frame(partial(_decoded, stream.codec_context.decode, packet, failure), name)
        elif not alone:
            yield from (Frame(partial(_pixels, picture), name) for picture in packet.decode())


def _decoded(decode: Callable[[Any], list[Any]], packet: Any, failure: type[Exception]) -> np.ndarray:
    try:
        pictures = decode(packet)
    except failure as error:
        raise ImageError(f"damaged or incomplete ({error})") from error
    if not pictures:
        raise ImageError("damaged or incomplete (no picture)")
    return _pixels(pictures[-1])


def _pixels(picture: Any) -> np.ndarray:
    """uint8 [H,W,3], red first."""
    pixels: np.ndarray = picture.to_ndarray(format="rgb24")
    return pixels


def _library() -> Any:
    try:
        import av
    except ImportError as error:
        raise CameraError(
            "cameras and rtsp streams need one more package: pip install 'qprompt-edge[camera]'"
        ) from error
    av.logging.set_level(None)  # FFmpeg prints to stderr otherwise; what matters becomes an error
    return av
