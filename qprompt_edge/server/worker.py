"""The child process that holds the models, as `engine` starts it.

Orders are lines of JSON on stdin, answers lines of JSON on stdout. Long work (`adapt`) is done by the main
thread, one order at a time; photos are answered by another, meanwhile. The end of stdin ends the process.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import sys
import time
from collections.abc import Callable, Iterable
from threading import Event, Lock, Thread
from typing import Any

from qprompt_edge.reporter import Reporter
from qprompt_edge.server.answers import Answers
from qprompt_edge.server.camera import watched
from qprompt_edge.server.work import LONG
from qprompt_runtime.errors import QPromptError
from qprompt_runtime.memory_left import give_back
from qprompt_runtime.text import printable

Message = dict[str, Any]

_STAGE_SECONDS = 0.1
_END_SECONDS = 5.0
_FORGET_SECONDS = 60.0
"""Without a photo to answer for so long, the model of the answers is closed."""


class Worker:
    """Takes orders until there are no more.

    Args:
        settings: `backbone`, `provider` and `threads` of all orders.
        orders: Lines that orders are read from.
        out: Descriptor that answers are written to.
    """

    def __init__(self, settings: Message, orders: Iterable[bytes], out: int) -> None:
        self._settings, self._orders, self._out = settings, orders, out
        self._lock = Lock()
        self._long: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._quick: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._cancelled: set[int] = set()
        self.ended = Event()
        self._answers = Answers(settings)

    def run(self) -> None:
        """Work; returns when there are no more orders and the one under way has stopped."""
        Thread(target=self._listen, daemon=True).start()
        Thread(target=self._answer, daemon=True).start()
        while (order := self._long.get()) is not None and not self.ended.is_set():
            work = LONG[order["do"]]
            self._do(order, lambda it, reporter, work=work: work(self._settings | it, reporter))  # type: ignore[misc]
            _give_back()

    def _listen(self) -> None:
        for line in self._orders:
            message = json.loads(line)
            if "cancel" in message:
                self._cancelled.add(int(message["cancel"]))
            elif message["do"] in LONG:
                self._long.put(message)
            elif message["do"] == "live":
                Thread(target=self._live, args=(message,), daemon=True).start()
            else:
                self._quick.put(message)
        self.ended.set()
        self._long.put(None)
        self._quick.put(None)

    def _answer(self) -> None:
        while (order := self._next()) is not None:
            self._do(order, lambda it, _reporter: self._answers.do(it["do"], it))

    def _next(self) -> Message | None:
        """The next photo to answer for; the model is closed while none comes for long."""
        try:
            return self._quick.get(timeout=_FORGET_SECONDS)
        except queue.Empty:
            self._answers.forget()
            _give_back()
            return self._quick.get()

    def _live(self, order: Message) -> None:
        number = int(order["id"])

        def work(given: Message, _reporter: Reporter) -> Message:
            return watched(
                given, self._answers, lambda it: self._tell(number, it), lambda: self._check(number)
            )

        self._do(order, work)

    def _do(self, order: Message, work: Callable[[Message, Reporter], Any]) -> None:
        """Carry an order out, and say what came of it."""
        number = int(order["id"])
        try:
            self._check(number)
            self._tell(number, {"result": work(order, self._reporter(number))})
        except KeyboardInterrupt:
            self._tell(number, {"cancelled": True})
        except QPromptError as error:
            self._tell(number, {"error": printable(str(error))})
        except MemoryError:
            self._tell(
                number, {"error": "out of memory; take smaller photos or a smaller backbone", "status": 503}
            )
        except Exception:  # a defect of ours: its trace is for the log, and the process goes on
            sys.excepthook(*sys.exc_info())
            self._tell(number, {"error": "an internal error; the server's log says more", "status": 500})
        self._cancelled.discard(number)

    def _check(self, number: int) -> None:
        """Stop an order that was cancelled, as Ctrl-C would."""
        if number in self._cancelled or self.ended.is_set():
            raise KeyboardInterrupt

    def _reporter(self, number: int) -> Reporter:
        last: dict[str, float] = {}

        def stage(name: str, done: int, total: int) -> None:
            self._check(number)
            now = time.monotonic()
            if done >= total or now - last.get(name, 0.0) >= _STAGE_SECONDS:
                last[name] = now
                self._tell(number, {"stage": name, "done": done, "total": total})

        return Reporter(stage=stage, note=lambda line: self._tell(number, {"note": printable(line)}))

    def _tell(self, number: int, message: Message) -> None:
        data = json.dumps({"id": number, **message}).encode() + b"\n"
        with self._lock:
            while data:
                data = data[os.write(self._out, data) :]


def _give_back() -> None:
    """Return what is no longer used to the system."""
    gc.collect()
    give_back()


def _end_late(ended: Event) -> None:
    """End the process if its main thread does not in time."""
    ended.wait()
    time.sleep(_END_SECONDS)
    os._exit(1)


def start(settings: str) -> None:
    """Take orders until stdin ends; what libraries print goes to stderr, not between the answers.

    Args:
        settings: `backbone`, `provider` and `threads` as JSON.
    """
    out = os.dup(1)
    os.dup2(2, 1)
    worker = Worker(json.loads(settings), sys.stdin.buffer, out)
    Thread(target=_end_late, args=(worker.ended,), daemon=True).start()
    try:
        worker.run()
    except BrokenPipeError:  # the server is gone
        os._exit(1)
    os._exit(0)  # threads of libraries are not waited for
