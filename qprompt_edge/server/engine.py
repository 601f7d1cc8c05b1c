"""The process beside the server that holds the models, adapts and answers.

The idea: the server loads no model. A child of the same interpreter does, takes orders as lines of JSON, and
tells how far it is in the same way. If the system kills it for its memory, its orders fail, and the next one
gets a new child. It ends when it was not used for a while, and by itself when the server is gone.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import queue
import subprocess
import sys
import time
from collections.abc import Callable
from threading import BoundedSemaphore, Lock, Thread, Timer
from typing import Any

from qprompt_edge.server.refusal import Refusal

_IDLE_SECONDS = 600.0
_STOP_SECONDS = 15.0
_WAITING = 8
"""Requests that may wait for an answer; each holds a thread."""
_START = (
    "import sys; sys.path[:] = sys.argv[2:]; from qprompt_edge.server.worker import start; start(sys.argv[1])"
)
"""The child looks for modules where this process does: not, as with `-m`, in the current folder first."""

Message = dict[str, Any]
StartChild = Callable[[Message], "subprocess.Popen[bytes]"]
"""From settings to a child that takes orders on its stdin and answers on its stdout."""


def start_child(settings: Message) -> subprocess.Popen[bytes]:
    """Start the child.

    Args:
        settings: Backbone, provider and threads, as `worker.start` takes them.
    """
    command = [sys.executable, "-c", _START, json.dumps(settings), *sys.path]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)


class Cancelled(Exception):
    """An order was cancelled."""


class Lost(Exception):
    """The child ended before an order was done; the message says what is known."""


class Order:
    """An order that was given.

    Args:
        number: Names it to the child.
        engine: Whose child has it.
        child: The child.
    """

    def __init__(self, number: int, engine: Engine, child: subprocess.Popen[bytes]) -> None:
        self.number, self._engine, self.child = number, engine, child
        self.messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.begun = False

    def result(self, tell: Callable[[Message], None] = lambda _message: None) -> Any:
        """Wait for its result.

        Args:
            tell: Called with the messages before it: `stage` or `note`.

        Raises:
            Refusal: It failed; the child's one-line error.
            Cancelled: It was cancelled.
            Lost: The child ended.
        """
        while True:
            message = self.messages.get()
            if "result" in message:
                return message["result"]
            if "error" in message:
                raise Refusal(int(message.get("status", 422)), str(message["error"]))
            if "cancelled" in message:
                raise Cancelled
            if "lost" in message:
                raise Lost(str(message["lost"]))
            tell(message)

    def cancel(self) -> None:
        """Have it stop where it can go on from; a child that does not stop is ended."""
        self._engine.cancel(self)


class Engine:
    """The child, started when it is first needed.

    Args:
        settings: Backbone, provider and threads, as the child's `worker.start` takes them.
        idle: Seconds without an order after which it ends.
        start: Starts it.
    """

    def __init__(
        self, settings: Message, idle: float = _IDLE_SECONDS, start: StartChild = start_child
    ) -> None:
        self._settings, self._idle, self._start = settings, idle, start
        self._lock = Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._open: dict[int, Order] = {}
        self._turns = BoundedSemaphore(_WAITING)
        self._used, self._closed = time.monotonic(), False

    def warm(self) -> None:
        """Start the child if it is not there: somebody is at work and will need it."""
        with self._lock:
            self._used = time.monotonic()
            if not self._closed:
                self._ready()

    def order(self, what: str, arguments: Message) -> Order:
        """Give an order.

        Raises:
            Refusal: The server is ending.
        """
        with self._lock:
            if self._closed:
                raise Refusal(503, "the server is ending")
            self._used = time.monotonic()
            order = Order(next(self._numbers), self, self._ready())
            self._open[order.number] = order
            if not _write(order.child, {"id": order.number, "do": what, **arguments}):
                del self._open[order.number]
                raise Refusal(503, "the process that holds the models has just ended; try again")
        return order

    def ask(self, what: str, arguments: Message) -> Any:
        """Give an order and wait for its result.

        Raises:
            Refusal: It failed, the child ended, or many wait already.
        """
        if not self._turns.acquire(blocking=False):
            raise Refusal(503, "the models have enough to do; try again", retry=1)
        try:
            return self.order(what, arguments).result()
        except Lost as error:
            raise Refusal(503, str(error)) from error
        finally:
            self._turns.release()

    def cancel(self, order: Order) -> None:
        """Cancel an order; see `Order.cancel`."""
        with self._lock:
            if order.number in self._open:
                _write(order.child, {"cancel": order.number})

                def end() -> None:
                    if order.begun and order.number in self._open:
                        order.child.kill()

                timer = Timer(_STOP_SECONDS, end)
                timer.daemon = True
                timer.start()

    def close(self, seconds: float) -> None:
        """End the child; what it does is cancelled, and may be continued by the next."""
        with self._lock:
            self._closed = True
            child = self._child
            if child is None:
                return
            for number in self._open:
                _write(child, {"cancel": number})
            with contextlib.suppress(OSError):
                child.stdin.close()  # type: ignore[union-attr]
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    @property
    def pid(self) -> int | None:
        """The child's process id, if there is one."""
        child = self._child
        return None if child is None else child.pid

    def _ready(self) -> subprocess.Popen[bytes]:
        """The child; the lock is held."""
        if self._child is None or self._child.poll() is not None:
            self._child = self._start(self._settings)
            Thread(target=self._listen, args=(self._child,), daemon=True).start()
            self._watch(self._child)
        return self._child

    def _listen(self, child: subprocess.Popen[bytes]) -> None:
        """Hand the child's messages to those who wait for them, until it ends."""
        assert child.stdout is not None
        for line in child.stdout:
            message = json.loads(line)
            with self._lock:
                number = int(message.pop("id"))
                order = self._open.get(number)
                if message.keys() & {"result", "error", "cancelled"}:
                    self._open.pop(number, None)
                    self._used = time.monotonic()
            if order is not None:
                order.begun = True
                order.messages.put(message)
        self._retire(child)  # before the wait, during which `poll` would not see its end
        code = child.wait()
        with self._lock:
            lost = [order for order in self._open.values() if order.child is child]
            for order in lost:
                del self._open[order.number]
        why = "the memory ran out, or something ended it" if code < 0 else "see the log"
        for order in lost:
            order.messages.put(
                {"lost": f"the process that holds the models ended ({why}); what it had done is kept"}
            )

    def _retire(self, child: subprocess.Popen[bytes]) -> None:
        """Give no more orders to a child that ends."""
        with self._lock:
            if self._child is child:
                self._child = None

    def _watch(self, child: subprocess.Popen[bytes]) -> None:
        """End the child once it was not used for long; the lock is held."""

        def look() -> None:
            with self._lock:
                if self._child is not child:
                    return
                if not self._open and time.monotonic() - self._used >= self._idle:
                    self._child = None
                    with contextlib.suppress(OSError):
                        child.stdin.close()  # type: ignore[union-attr]
                else:
                    self._watch(child)

        timer = Timer(max(1.0, self._idle / 10), look)
        timer.daemon = True
        timer.start()


def _write(child: subprocess.Popen[bytes], message: Message) -> bool:
    """Send a line; whether the child could be told."""
    assert child.stdin is not None
    try:
        child.stdin.write(json.dumps(message).encode() + b"\n")
        child.stdin.flush()
    except (OSError, ValueError):
        return False
    return True
