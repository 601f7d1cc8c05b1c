"""A source that may be lost and come back: it is opened again, after longer and longer waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

from qprompt_edge.watching.frames import TICK, Frames, Source, SourceLost

_FIRST_WAIT, _LONGEST_WAIT = 1.0, 30.0


def steady(
    source: Source,
    present: Callable[[bool, str], None],
    first: float = _FIRST_WAIT,
    most: float = _LONGEST_WAIT,
) -> Frames:
    """The frames of a source, whatever happens to it.

    Args:
        source: The source; it is opened again when it is lost.
        present: Called with False and the reason when it is lost, and with True when a frame comes again;
            once each.
        first: Seconds before it is opened again; twice as many after each attempt in vain.
        most: The longest wait.
    """
    here, wait = True, first
    while True:
        try:
            with closing(source.frames()) as frames:
                for frame in frames:
                    if frame is not None:
                        wait = first
                        if not here:
                            here = True
                            present(True, "")
                    yield frame
            return
        except SourceLost as error:
            if here:
                here = False
                present(False, str(error))
        until = time.monotonic() + wait
        while (left := until - time.monotonic()) > 0:
            yield None
            time.sleep(min(left, TICK))
        wait = min(2 * wait, most)
