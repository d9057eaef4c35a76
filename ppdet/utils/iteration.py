"""Going through things: ahead of the one who uses them, and several at a time."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from ppdet.utils import device

Item = TypeVar("Item")
END = object()


def run_ahead(items: Iterable[Item], count: int) -> Iterator[Item]:
    """Yield `items` in their order; a thread makes the next `count` of them while the caller is busy with one.

    What making an item raises is raised where its turn comes. The thread has ended when this has.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(1, initializer=device.here()) as thread:
        waiting: deque[Future] = deque(thread.submit(next, iterator, END) for _ in range(max(1, count)))
        try:
            while True:
                item = waiting.popleft().result()
                if item is END:
                    return
                waiting.append(thread.submit(next, iterator, END))
                yield item
        finally:
            for future in waiting:
                future.cancel()


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of `size` items in their order, the last one perhaps shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
