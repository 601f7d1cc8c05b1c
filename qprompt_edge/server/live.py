"""A camera of the device, answered frame by frame for all browsers that look: it is opened once."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from threading import Lock, Thread
from typing import Any

from qprompt_edge.server.engine import Cancelled, Engine, Lost, Order
from qprompt_edge.server.health import count
from qprompt_edge.server.refusal import Refusal
from qprompt_edge.watching.health import Health
from qprompt_runtime.errors import QPromptError
from qprompt_runtime.text import printable


@dataclass(eq=False)
class Look:
    """A source that somebody looks at.

    Attributes:
        viewers: How many do.
        answer: The last answer, or what is wrong.
        frame: The last frame, a JPEG.
        count: Counts up with every answer.
        ended: Whether no more answers come.
        order: What the child was told.
    """

    viewers: int = 0
    answer: dict[str, Any] | None = None
    frame: bytes | None = None
    count: int = 0
    ended: bool = False
    order: Order | None = None


class Lives:
    """All sources that are open, by task and source.

    Args:
        engine: The child that opens them.
        health: Counts the answers.
    """

    def __init__(self, engine: Engine, health: Health) -> None:
        self._engine, self._health = engine, health
        self._lock = Lock()
        self._open: dict[tuple[str, str], Look] = {}

    def enter(self, task: str, source: str, order: dict[str, Any]) -> Look:
        """Begin to look at a source; whoever does calls `leave` at last."""
        with self._lock:
            look = self._open.get((task, source))
            if look is None or look.ended:
                look = self._open[task, source] = Look()
                look.order = self._engine.order("live", order)
                Thread(target=self._follow, args=(look, look.order, task), daemon=True).start()
            look.viewers += 1
        return look

    def leave(self, task: str, source: str, look: Look) -> None:
        """No longer look at a source; the last one closes it."""
        with self._lock:
            look.viewers -= 1
            if look.viewers > 0:
                return
            if self._open.get((task, source)) is look:
                del self._open[task, source]
        if look.order is not None:
            look.order.cancel()

    def frame(self, task: str, source: str) -> bytes:
        """The last frame of a source that somebody looks at.

        Raises:
            Refusal: Nobody does, or none came yet.
        """
        with self._lock:
            look = self._open.get((task, source))
        if look is None or look.frame is None:
            raise Refusal(404, "there is no frame yet; open the live answers first")
        return look.frame

    def _follow(self, look: Look, order: Order, task: str) -> None:
        def tell(message: dict[str, Any]) -> None:
            if "frame" in message:
                look.frame = base64.b64decode(message["frame"])
            if "answer" in message:
                if "seen" in message["answer"]:
                    count(self._health, task, message["answer"])
                look.answer = message["answer"]
                look.count += 1

        try:
            order.result(tell)
        except (Lost, QPromptError) as error:
            look.answer = {"error": printable(str(error))}
            look.count += 1
        except Cancelled:
            pass
        look.ended = True
