"""Prefetching items in a thread, and grouping them."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from ppdet.utils import device

Item = TypeVar("Item")
END = object()


def run_ahead(items: Iterable[Item], count: int) -> Generator[Item, None, None]:
    """Yield `items` in their order, while a thread prefetches the next `count` of them.

    An exception that making an item raises is raised when its turn comes. The thread ends with this generator.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(1, initializer=device.thread_initializer()) as thread:
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
    """Yield lists of `size` items in their order; the last one may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
