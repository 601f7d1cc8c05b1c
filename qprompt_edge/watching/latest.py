"""The newest frame of a device that is read on a thread of its own: reading may block, the loop does not.

A frame that nobody took when the next one comes is dropped, so answers are about what is there now. A device
whose thread hangs in the driver counts as lost, and is not opened again while that thread is still there: no
more than one waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import NoReturn

from qprompt_edge.watching.frames import TICK, Frame, Frames, Source, SourceLost

_SILENCE = 20.0
_CLOSING_SECONDS = 1.0

Reading = Generator[Frame, None, None]


class _Reader:
    """A thread that reads a device until it ends or is told to."""

    def __init__(self, read: Callable[[], Reading], name: str) -> None:
        self._read, self._name = read, name
        self._news = threading.Condition()
        self._frame: Frame | None = None
        self._error: Exception | None = None
        self._ended = self._told = False
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        reason = f"{self._name}: it has ended"
        try:
            with closing(self._read()) as frames:
                for frame in frames:
                    with self._news:
                        self._frame = frame
                        self._news.notify()
                    if self._told:
                        return
        except SourceLost as lost:  # its traceback would keep the last frame
            reason = str(lost)
        except Exception as error:  # a defect
            self._error = error
        with self._news:
            self._error, self._ended = self._error or SourceLost(reason), True
            self._news.notify()

    def take(self) -> Frame | None:
        """The newest frame; None if there is none within a tick.

        Raises:
            SourceLost: The device is lost; any other error that reading it raised.
        """
        with self._news:
            if self._frame is None and not self._ended:
                self._news.wait(TICK)
            frame, self._frame = self._frame, None
            if frame is None and self._ended:
                self._raise()
            return frame

    def _raise(self) -> NoReturn:
        """Raise what ended the thread, and keep it no longer: no circle is left for the garbage collector."""
        error, self._error = self._error or SourceLost(f"{self._name}: it has ended"), None
        try:
            raise error
        finally:
            del error

    def tell_to_end(self) -> None:
        """Have the thread end; a moment is waited for it."""
        self._told = True
        self.thread.join(_CLOSING_SECONDS)


def latest_source(name: str, read: Callable[[], Reading], silence: float = _SILENCE) -> Source:
    """A live source of a device's newest frames.

    Args:
        name: The source's name.
        read: Opens the device and reads it, on another thread; closing the generator closes the device. It
            raises `SourceLost` if it is not there.
        silence: Seconds without a frame after which the device counts as lost.
    """
    readers: list[_Reader] = []  # at most one: the last, which may hang

    def frames() -> Frames:
        while readers and readers[0].thread.is_alive():
            yield None
            readers[0].thread.join(TICK)
        reader = _Reader(read, name)
        readers[:] = [reader]
        heard = time.monotonic()
        try:
            while True:
                frame = reader.take()
                if frame is not None:
                    heard = time.monotonic()
                elif time.monotonic() - heard > silence:
                    raise SourceLost(f"{name}: no frame for {silence:.0f} seconds")
                yield frame
        finally:
            reader.tell_to_end()

    return Source(name, live=True, frames=frames)
