"""Dynamic batching: requests that come at about the same time run as one batch."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from ppdet.deploy.serving.prometheus import Metrics
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)


class Outcome(NamedTuple):
    """The model's result for one image, how long the image waited and its batch ran, and the size of the batch."""

    result: Any
    waited_s: float
    ran_s: float
    batch_size: int


class Item(NamedTuple):
    """A sample in the queue; `future` gets its Outcome, `arrived` is the time of `submit`."""

    sample: dict
    future: Future
    arrived: float


class Batcher:
    """Runs samples in batches, in one thread, because an engine uses all processors for one run.

    Only images of the same padded size form a batch. Others would need further padding, which costs time and changes
    what the network sees at their edges: an answer would depend on the other requests.

    Args:
        run: returns the results of samples, in their order.
        max_batch: most samples in one run.
        max_delay_s: how long the oldest sample waits for its batch to fill, counted from its arrival. If it has waited
            longer already, because the model was busy, its batch runs at once.
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
        self.thread = threading.Thread(target=self._work, name="model", daemon=True)
        self.thread.start()

    def submit(self, sample: dict) -> Future:
        """Queue a sample whose `image` (3, H, W) has its padded size.

        Returns:
            A future of an Outcome. If it is cancelled before its batch starts, the sample does not run.
        """
        future: Future = Future()
        with self.condition:
            if self.closed:
                raise RuntimeError("the batcher is closed")
            self.waiting.append(Item(sample, future, time.monotonic()))
            self.condition.notify()
        return future

    def close(self, patience_s: float) -> None:
        """Run the submitted items and end the thread; wait at most `patience_s` seconds."""
        with self.condition:
            self.closed = True
            self.condition.notify()
        self.thread.join(patience_s)

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            self.running_since = time.monotonic()
            self._run_batch(batch)
            self.running_since = None

    def _next_batch(self) -> list[Item] | None:
        """Wait for the next batch; None if the batcher is closed and nothing is left."""
        with self.condition:
            while not self.waiting:
                if self.closed:
                    return None
                self.condition.wait()
            deadline = self.waiting[0].arrived + self.max_delay_s
            while not self.closed and len(self._same_size()) < self.max_batch:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self.condition.wait(left)
            # From here on their futures cannot be cancelled.
            batch = [item for item in self._same_size() if item.future.set_running_or_notify_cancel()]
            taken = {id(item) for item in batch}
            self.waiting = [i for i in self.waiting if id(i) not in taken and not i.future.cancelled()]
        return batch

    def _same_size(self) -> list[Item]:
        """The oldest item and the items of the same image size, from old to new, at most a batch."""
        alive = [item for item in self.waiting if not item.future.cancelled()]
        return [i for i in alive if i.sample["image"].shape == alive[0].sample["image"].shape][: self.max_batch]

    def _run_batch(self, batch: list[Item]) -> None:
        if not batch:
            return
        start = time.monotonic()
        try:
            results = self.run([item.sample for item in batch])
        except Exception as error:  # an engine may raise anything, and the server continues
            if len(batch) == 1:
                batch[0].future.set_exception(error)
                return
            logger.warning("a batch of %d failed, running its images one by one: %s", len(batch), error)
            for item in batch:
                self._run_batch([item])
            return
        seconds = time.monotonic() - start
        self.metrics.batch_size.observe(len(batch))
        for item, result in zip(batch, results):
            waited = start - item.arrived
            self.metrics.observe("queue", waited)
            self.metrics.observe("inference", seconds)
            item.future.set_result(Outcome(result, waited, seconds, len(batch)))
