"""The Raspberry Pi's own camera, through picamera2, which is a package of Raspberry Pi OS."""

from __future__ import annotations

from typing import Any

from qprompt_edge.watching.camera import CameraError
from qprompt_edge.watching.frames import Frame, Source, SourceLost
from qprompt_edge.watching.latest import Reading, latest_source
from qprompt_runtime.text import printable

_SIZE = (640, 480)
_RED_FIRST = "BGR888"  # libcamera names formats from the last byte to the first


def picamera_source(number: int, size: tuple[int, int] | None) -> Source:
    """A camera of a Raspberry Pi.

    Args:
        number: Which one, from 0.
        size: Width and height; None is 640 x 480.

    Raises:
        CameraError: picamera2 is not installed.
    """
    name = f"picamera:{number}"
    library = _library()

    def read() -> Reading:
        try:
            with library.Picamera2(number) as camera:
                camera.configure(
                    camera.create_video_configuration(main={"size": size or _SIZE, "format": _RED_FIRST})
                )
                camera.start()
                while True:
                    yield Frame(camera.capture_array("main"), name)
        except (OSError, RuntimeError, IndexError) as error:
            raise SourceLost(f"{name}: {printable(str(error))}") from error

    return latest_source(name, read)


def _library() -> Any:
    try:
        import picamera2
    except ImportError as error:
        raise CameraError(
            "the Raspberry Pi's camera needs picamera2: sudo apt install python3-picamera2, and a virtual environment that "
            "sees it (python3 -m venv --system-site-packages)"
        ) from error
    return picamera2
