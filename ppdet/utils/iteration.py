"""Prefetching items in a thread, and grouping them."""

import threading
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


def newest(items: Iterable[Item]) -> Generator[Item, None, None]:
    """Yield the newest item each time, while a thread takes them as they come; those that get old are left out.

    The last item is always yielded. An exception that making an item raises is raised after it. The thread ends with
    this generator.
    """
    waiting: deque[Item] = deque(maxlen=1)
    change = threading.Condition()
    has_ended = is_closed = False

    def take() -> None:
        nonlocal has_ended
        try:
            for item in items:
                with change:
                    waiting.append(item)
                    change.notify()
                if is_closed:
                    return
        finally:
            with change:
                has_ended = True
                change.notify()

    with ThreadPoolExecutor(1, initializer=device.thread_initializer()) as thread:
        taking = thread.submit(take)
        try:
            while True:
                with change:
                    change.wait_for(lambda: waiting or has_ended)
                    if not waiting:
                        break
                    item = waiting.popleft()
                yield item
            taking.result()
        finally:
            is_closed = True


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of `size` items in their order; the last one may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
