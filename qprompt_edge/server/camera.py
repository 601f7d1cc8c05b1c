"""Frames of a source, answered one by one in the child process while somebody looks."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from PIL import Image

from qprompt_edge.server.answers import Answers
from qprompt_edge.watching.frames import Frame, SourceLost
from qprompt_edge.watching.loop import paced
from qprompt_edge.watching.sources import find_source
from qprompt_runtime.errors import ImageError
from qprompt_runtime.text import printable

_FRAMES_A_SECOND = 5.0
_SHOWN = 640
_QUALITY = 80
_AGAIN_SECONDS = 2.0

Tell = Callable[[dict[str, Any]], None]


def watched(order: dict[str, Any], answers: Answers, tell: Tell, check: Callable[[], None]) -> dict[str, Any]:
    """Answer a source's frames until `check` raises; a source that is lost is tried again.

    Args:
        order: `source`, `prompt` and `accept`.
        answers: Knows the prompts.
        tell: Takes `frame` (JPEG in base64) and `answer` of each frame, or an answer with `error`.
        check: Called often; raises KeyboardInterrupt to end.

    Raises:
        QPromptError: There is no such source, or the prompt cannot be used.
    """
    source = find_source(order["source"], None, _FRAMES_A_SECOND, once=False)
    while True:
        try:
            with closing(paced(source.frames(), _FRAMES_A_SECOND, source.live)) as frames:
                for frame in frames:
                    check()
                    if frame is not None:
                        _answer(frame, order, answers, tell)
            return {}
        except SourceLost as error:
            tell({"answer": {"error": printable(str(error))}})
        for _ in range(round(_AGAIN_SECONDS / 0.1)):
            check()
            time.sleep(0.1)


def _answer(frame: Frame, order: dict[str, Any], answers: Answers, tell: Tell) -> None:
    try:
        picture = frame.decode()
    except ImageError as error:
        tell({"answer": {"error": printable(str(error))}})
        return
    answer = answers.predict(Path(order["prompt"]), picture, order["accept"])
    tell({"frame": base64.b64encode(_small(picture)).decode(), "answer": answer})


def _small(picture: Image.Image) -> bytes:
    """A frame as it is shown, JPEG."""
    shown = picture.copy()
    shown.thumbnail((_SHOWN, _SHOWN))
    out = io.BytesIO()
    shown.save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()
