"""Frames, and where they come from.

A source is opened by calling its `frames`, and closed by closing that generator. Between frames it yields
None, at least every `TICK` seconds, so that the loop can do what is due: end, tell systemd that it lives,
take up a new prompt.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

from PIL import Image

from qprompt_runtime.decode import Source as Picture
from qprompt_runtime.errors import ImageError, QPromptError
from qprompt_runtime.images import ImageTransform, read_image
from qprompt_runtime.text import printable

TICK = 0.25
"""Seconds that a source waits at most before it yields None."""

_JPEG_QUALITY = 85


class SourceLost(QPromptError):
    """A camera, stream or folder is not there now; it may come back."""


class Frame:
    """One picture, decoded when it is first asked for.

    Args:
        image: A path, the bytes of an image file, a pillow image, or an array, uint8 [H,W,3] in the order
            RGB; or a function that gives one of these.
        source: Where it comes from, as answers name it: a file's path, or the source's name.
        moment: When it was taken, in seconds since 1970; None is now.
    """

    def __init__(
        self, image: Picture | Callable[[], Picture], source: str, moment: float | None = None
    ) -> None:
        self._image = image
        self._decoded: Image.Image | None = None
        self.source = source
        self.time = time.time() if moment is None else moment

    @property
    def image(self) -> Picture:
        """What the picture is decoded from.

        Raises:
            ImageError: A function was given, and its source could not decode the frame.
        """
        if callable(self._image):
            self._image = self._image()
        return self._image

    def decode(self, transform: ImageTransform | None = None) -> Image.Image:
        """The picture, upright RGB; large JPEGs at a reduced size that loses nothing for `transform`.

        Args:
            transform: What the whole picture is for; None decodes at full size. Only the first call decides.

        Raises:
            ImageError: It cannot be read.
        """
        if self._decoded is None:
            try:
                self._decoded = read_image(self.image, transform)
            except ImageError as error:
                raise ImageError(error.reason, printable(self.source)) from error
        return self._decoded

    def jpeg(self) -> bytes:
        """The decoded picture as a JPEG file.

        Raises:
            ImageError: It cannot be read.
        """
        buffer = io.BytesIO()
        self.decode().save(buffer, "JPEG", quality=_JPEG_QUALITY)
        return buffer.getvalue()


Frames = Generator["Frame | None", None, None]


@dataclass(frozen=True)
class Source:
    """A place that frames come from.

    Attributes:
        name: How it is called in messages; without a password.
        live: Whether frames that nobody takes in time are dropped (a camera), or wait (files in a folder).
        frames: Opens it. The generator yields frames, and None while there is none; it ends when no more can
            come. It raises `SourceLost` if the source is not there, or not any more.
    """

    name: str
    live: bool
    frames: Callable[[], Frames]
