"""What a user calls a source, and the source that it means."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from qprompt_edge.watching.addresses import without_password
from qprompt_edge.watching.camera import device_source, stream_source
from qprompt_edge.watching.folder import folder_source
from qprompt_edge.watching.frames import Source
from qprompt_edge.watching.picamera import picamera_source
from qprompt_edge.watching.stdin import stdin_source
from qprompt_edge.watching.web import web_source
from qprompt_runtime.errors import PhotosError
from qprompt_runtime.text import printable

STDIN = "-"
_STREAM = re.compile(r"(rtsps?|rtmps?)://", re.IGNORECASE)
_WEB = re.compile(r"https?://", re.IGNORECASE)
_PICAMERA = re.compile(r"picamera(?::(\d+))?")
_DEVICES = "/dev/"
EXPECTED = "a folder, a camera (0, /dev/video0, picamera), an address (rtsp://..., http://...), or - for frames on stdin"


def find_source(text: str, size: tuple[int, int] | None, fps: float | None, once: bool) -> Source:
    """The source that a text means; nothing is opened.

    Args:
        text: A folder; a camera's number or device; `picamera`; an rtsp, rtmp, http or https address; or `-`
            for stdin.
        size: Width and height of raw frames on stdin, or those that a camera is asked for.
        fps: How many frames a second are wanted; pictures that are fetched one by one are not fetched more
            often.
        once: Of a folder, only what lies there now.

    Raises:
        PhotosError: There is no such folder, or an option does not fit.
        CameraError: A library is missing.
    """
    if once and not _is_folder(text):
        raise PhotosError(f"--once is for a folder, and {printable(text)} is none; leave it out")
    if text == STDIN:
        return stdin_source(size)
    if found := _PICAMERA.fullmatch(text):
        return picamera_source(int(found[1] or 0), size)
    if text.isdecimal():
        return device_source(f"/dev/video{int(text)}", size)
    if text.startswith(_DEVICES):
        return device_source(text, size)
    if size is not None:
        raise PhotosError(
            f"--size is for cameras and for raw frames on stdin; leave it out with {printable(text)}"
        )
    if (_STREAM.match(text) or _WEB.match(text)) and not _has_host(text):
        raise PhotosError(
            f"{without_password(text)}: is no address; expected one such as rtsp://camera:554/stream1"
        )
    if _STREAM.match(text):
        return stream_source(text, without_password(text))
    if _WEB.match(text):
        return web_source(text, fps)
    path = Path(text)
    if not text or not path.is_dir():  # an empty text would be the folder that we are in
        what = "is not a folder" if path.exists() else "no such folder"
        raise PhotosError(f"{without_password(text) or repr(text)}: {what}; expected {EXPECTED}")
    return folder_source(path, once)


def _has_host(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_folder(text: str) -> bool:
    """Whether a text means a folder, which need not be there."""
    patterns = (_PICAMERA.fullmatch, _STREAM.match, _WEB.match)
    device = text.isdecimal() or text.startswith(_DEVICES)
    return text != STDIN and not device and not any(pattern(text) for pattern in patterns)
