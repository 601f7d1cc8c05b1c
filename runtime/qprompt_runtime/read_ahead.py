"""Work on one photo while other threads read the next ones.

Decoding and the image tower then run in parallel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from itertools import chain, islice
from threading import Barrier
from typing import TYPE_CHECKING, TypeVar

from qprompt_runtime.cores import startable_threads

if TYPE_CHECKING:
    from concurrent.futures import Future

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_READERS = 2  # each holds one photo, so more would cost memory


def read_ahead(read: Callable[[Item], Answer], items: Iterable[Item]) -> Generator[Answer, None, None]:
    """Read items in their order, up to two of them ahead of the caller, on other threads.

    Args:
        read: Called once for each item, perhaps on another thread; what it raises is raised here in its turn.
        items: Any number; they are taken as they are needed.

    Yields:
        What `read` returned. Closing the generator drops what was not started.
    """
    items = iter(items)
    first = list(islice(items, 2))
    if len(first) < 2:  # one photo has none ahead of it, and starts without threads
        yield from map(read, first)
        return
    items, readers = chain(first, items), startable_threads(_READERS)
    if readers == 0:
        yield from map(read, items)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(readers) as pool:
        started = Barrier(readers, timeout=1.0)
        for _ in range(readers):  # all start now: later the image tower's threads may have taken their place
            pool.submit(started.wait)
        waiting: deque[Future[Answer]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(read, item))
                if len(waiting) > readers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
