"""Work on one photo while other threads read the next ones: decoding and the image tower then share the time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

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
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_READERS) as pool:
        waiting: deque[Future[Answer]] = deque(pool.submit(read, item) for item in first)
        try:
            for item in items:
                waiting.append(pool.submit(read, item))
                yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
