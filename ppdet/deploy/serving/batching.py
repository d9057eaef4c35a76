"""Requests that come at the same time run as one batch."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from ppdet.deploy.serving.prometheus import Metrics
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)


class Outcome(NamedTuple):
    """What the model made of one image, how long that one waited and its batch ran, and how large the batch was."""

    result: Any
    waited_s: float
    ran_s: float
    batch_size: int


class Item(NamedTuple):
    sample: dict
    future: Future
    arrived: float


class Batcher:
    """Runs samples in batches, in one thread, which an engine that uses all processors for each run wants.

    Only images of the same padded size run together: others would have to be padded further, which costs time, and
    changes what a network sees at their edges, so that an answer would depend on who else asks.

    Args:
        run: makes results of samples, in their order.
        max_batch: samples in one run. max_delay_s: how long the oldest waits for the batch to fill. One that waited
            for longer, because the model was busy, does not wait any more.
    """

    def __init__(
        self, run: Callable[[Sequence[dict]], Sequence[Any]], max_batch: int, max_delay_s: float, metrics: Metrics
    ) -> None:
        self.run = run
        self.max_batch = max_batch
        self.max_delay_s = max_delay_s
        self.metrics = metrics
        self.waiting: list[Item] = []
        self.closed = False
        self.running_since: float | None = None
        self.condition = threading.Condition()
        metrics.queue_depth.set_function(lambda: len(self.waiting))
        self.thread = threading.Thread(target=self.work, name="model", daemon=True)
        self.thread.start()

    def submit(self, sample: dict) -> Future:
        """Queue a sample whose `image` (3, H, W) has its padded size.

        Returns:
            A future of an Outcome. Cancelled before its batch starts, the sample does not run.
        """
        future: Future = Future()
        with self.condition:
            if self.closed:
                raise RuntimeError("the batcher is closed")
            self.waiting.append(Item(sample, future, time.monotonic()))
            self.condition.notify()
        return future

    def close(self, patience_s: float) -> None:
        """Finish what was submitted, and end the thread; one that does not end is left behind."""
        with self.condition:
            self.closed = True
            self.condition.notify()
        self.thread.join(patience_s)

    def work(self) -> None:
        while True:
            batch = self.gather()
            if batch is None:
                return
            self.running_since = time.monotonic()
            self.run_batch(batch)
            self.running_since = None

    def gather(self) -> list[Item] | None:
        """Wait for the next batch; None at the end."""
        with self.condition:
            while not self.waiting:
                if self.closed:
                    return None
                self.condition.wait()
            deadline = self.waiting[0].arrived + self.max_delay_s
            while not self.closed and len(self.group()) < self.max_batch:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self.condition.wait(left)
            # From here on they cannot be cancelled.
            batch = [item for item in self.group() if item.future.set_running_or_notify_cancel()]
            taken = {id(item) for item in batch}
            self.waiting = [i for i in self.waiting if id(i) not in taken and not i.future.cancelled()]
        return batch

    def group(self) -> list[Item]:
        """The oldest that waits and those of its size, the oldest first."""
        alive = [item for item in self.waiting if not item.future.cancelled()]
        return [item for item in alive if size(item) == size(alive[0])][: self.max_batch]

    def run_batch(self, batch: list[Item]) -> None:
        if not batch:
            return
        start = time.monotonic()
        try:
            results = self.run([item.sample for item in batch])
        except Exception as error:  # whatever an engine may raise: the server goes on
            if len(batch) == 1:
                batch[0].future.set_exception(error)
                return
            logger.warning("a batch of %d failed, running its images one by one: %s", len(batch), error)
            for item in batch:
                self.run_batch([item])
            return
        seconds = time.monotonic() - start
        self.metrics.batch_size.observe(len(batch))
        for item, result in zip(batch, results):
            waited = start - item.arrived
            self.metrics.observe("queue", waited)
            self.metrics.observe("inference", seconds)
            item.future.set_result(Outcome(result, waited, seconds, len(batch)))


def size(item: Item) -> tuple[int, ...]:
    return item.sample["image"].shape
