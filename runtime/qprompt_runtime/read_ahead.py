"""Work on photos in their order, with several threads.

With one core for the image tower, other threads decode the next photos while it runs. With more, each thread
decodes and encodes photos by itself: they are then as independent as the photos.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from itertools import chain, islice
from threading import Barrier
from typing import TYPE_CHECKING, TypeVar

from qprompt_runtime.cores import startable_threads

if TYPE_CHECKING:
    from concurrent.futures import Future

    from qprompt_runtime.backbone import Backbone

Item = TypeVar("Item")
Picture = TypeVar("Picture")
Answer = TypeVar("Answer")

_READERS = 2  # each holds one photo, so more would cost memory


def encode_ahead(
    backbone: Backbone,
    read: Callable[[Item], Picture],
    encode: Callable[[Picture], Answer],
    items: Iterable[Item],
    at_once: int,
) -> Generator[Answer, None, None]:
    """Read and encode photos in their order.

    Args:
        backbone: Whose image tower `encode` runs; it opens for many photos if there are several.
        read: Decodes a photo, perhaps on another thread; what it raises is raised here in its turn.
        encode: Takes what `read` returned, perhaps on another thread.
        items: Any number of photos; they are taken as they are needed.
        at_once: How many are encoded at the same time; of one, and of a single photo, the caller's thread
            does it.

    Yields:
        What `encode` returned, in the order of the photos. Closing the generator drops what was not started.
    """
    items = iter(items)
    first = list(islice(items, 2))
    items = chain(first, items)
    if at_once == 1 or len(first) < 2:
        with closing(read_ahead(read, items)) as pictures:
            for picture in pictures:
                yield encode(picture)
        return
    with (
        backbone.side_by_side(at_once),
        closing(
            # two for each thread: the others go on while one has a large photo
            read_ahead(lambda item: encode(read(item)), items, at_once, 2 * at_once)
        ) as answers,
    ):
        yield from answers


def read_ahead(
    read: Callable[[Item], Answer], items: Iterable[Item], readers: int = _READERS, ahead: int = _READERS
) -> Generator[Answer, None, None]:
    """Read items in their order, some of them ahead of the caller, on other threads.

    Args:
        read: Called once for each item, perhaps on another thread; what it raises is raised here in its turn.
        items: Any number; they are taken as they are needed.
        readers: How many threads.
        ahead: How many items are taken ahead of the caller.

    Yields:
        What `read` returned. Closing the generator drops what was not started.
    """
    items = iter(items)
    first = list(islice(items, 2))
    if len(first) < 2:  # one photo has none ahead of it, and starts without threads
        yield from map(read, first)
        return
    items, readers = chain(first, items), startable_threads(readers)
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
                if len(waiting) > ahead or waiting[0].done():  # the next item may be long in coming
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
