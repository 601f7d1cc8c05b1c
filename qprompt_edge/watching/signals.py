"""SIGTERM and Ctrl-C end a loop between two frames."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def until_told() -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether to go on: False after SIGTERM or Ctrl-C.

    So no line is cut or printed twice. A second Ctrl-C ends the program at once.

    Raises:
        KeyboardInterrupt: At the end, if it was Ctrl-C.
    """
    told: list[int] = []

    def tell(number: int, _frame: object) -> None:
        told.append(number)
        signal.signal(number, before[signal.Signals(number)])

    numbers = [
        number for number in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(number) != signal.SIG_IGN
    ]
    before = {number: signal.signal(number, tell) for number in numbers}
    try:
        yield lambda: not told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signal.SIGINT in told:
        raise KeyboardInterrupt
