"""Slow receivers of changes: each has a thread and a short queue, so that the loop never waits for it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from qprompt_edge.watching.answers import Answer, Sink
from qprompt_edge.watching.frames import Frame

_WAITING = 100
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0
_LAST_SECONDS = 2.0


class DeliveryError(Exception):
    """A change was not delivered.

    Args:
        reason: Why, in a line.
        again: Whether it may work later.
    """

    def __init__(self, reason: str, again: bool) -> None:
        super().__init__(reason)
        self.again = again


class Deliveries(Sink):
    """Hands changes of state to a receiver, in order, on a thread.

    What fails is reported once, and so is that it works again. What may work later is tried again after
    longer and longer waits; of what waits meanwhile, the oldest is dropped.

    Args:
        name: How messages call the receiver.
        deliver: Hands one change over; raises `DeliveryError`.
        note: Prints a line.
        first: Seconds before the second attempt; twice as many after each one in vain.
        waiting: How many changes wait at most.
    """

    def __init__(
        self,
        name: str,
        deliver: Callable[[Answer], None],
        note: Callable[[str], None],
        first: float = _FIRST_WAIT,
        waiting: int = _WAITING,
    ) -> None:
        self._name, self._deliver, self._note, self._first = name, deliver, note, first
        self._queue: queue.Queue[Answer] = queue.Queue(waiting)
        self._ending = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def answer(self, answer: Answer, frame: Frame) -> None:
        """Queue a change."""
        while answer.changed:
            try:
                self._queue.put_nowait(answer)
                return
            except queue.Full:
                self._drop_oldest()

    def close(self) -> None:
        """Give what is queued a last moment."""
        until = time.monotonic() + _LAST_SECONDS
        while self._queue.unfinished_tasks and not self._failing and time.monotonic() < until:
            time.sleep(0.02)
        self._ending.set()
        self._thread.join(max(0.0, until - time.monotonic()))

    def _drop_oldest(self) -> None:
        try:
            self._queue.get_nowait()
        except queue.Empty:
            return
        self._queue.task_done()

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                answer = self._queue.get(timeout=0.5)
            except queue.Empty:
                continue
            self._insist(answer)
            self._queue.task_done()

    def _insist(self, answer: Answer) -> None:
        wait = self._first
        while not self._ending.is_set():
            try:
                self._deliver(answer)
            except DeliveryError as error:
                if not self._failing:
                    self._failing = True
                    self._note(f"{self._name}: {error}{'; trying again' if error.again else ''}")
                if not error.again:
                    return
                self._ending.wait(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
            else:
                if self._failing:
                    self._failing = False
                    self._note(f"{self._name} works again")
                return
