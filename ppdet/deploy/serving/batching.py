"""Dynamic batching: requests that come at about the same time run as one batch."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ppdet.deploy.serving.jobs import Prepared
from ppdet.deploy.serving.limits import Refused
from ppdet.deploy.serving.prometheus import Metrics
from ppdet.deploy.serving.worker_process import Died
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)

# One batch runs, and the next one, if it is full, waits in the pipe of the model's process.
BATCHES_AT_ONCE = 2
DEADLY = "the model's process died each time it ran this image"


class Outcome(NamedTuple):
    """The model's result for one image, how long the image waited and its batch ran, and the size of the batch."""

    result: Any
    waited_s: float
    ran_s: float
    batch_size: int


@dataclass(eq=False)
class Item:
    """A sample in the queue.

    Attributes:
        future: gets an Outcome.
        arrived: the time of `submit`.
        dropped: nobody waits for the outcome any more.
    """

    sample: Prepared
    future: Future = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)
    dropped: bool = False


class Batcher:
    """Makes batches, and has one at a time run, because an engine uses all processors for one run.

    Only images of the same padded size form a batch. Others would need further padding, which costs time and changes
    what the network sees at their edges: an answer would depend on the other requests.

    Args:
        run: returns the results of samples, in their order, and the seconds that the run took. Two threads call it.
        max_batch: most samples in one run.
        max_delay_s: how long the oldest sample waits for its batch to fill, counted from its arrival. If it has waited
            longer already, because the model was busy, its batch runs at once.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Prepared]], tuple[Sequence[Any], float]],
        max_batch: int,
        max_delay_s: float,
        metrics: Metrics,
    ) -> None:
        self.run = run
        self.max_batch = max_batch
        self.max_delay_s = max_delay_s
        self.metrics = metrics
        self.waiting: list[Item] = []
        self.running: list[Item] = []
        self.closed = False
        self.condition = threading.Condition()
        metrics.queue_depth.set_function(lambda: len(self.waiting))
        self.threads = [threading.Thread(target=self._work, name="model", daemon=True) for _ in range(BATCHES_AT_ONCE)]
        for thread in self.threads:
            thread.start()

    def submit(self, sample: Prepared) -> Item:
        """Queue a sample, whose image has its padded size."""
        item = Item(sample)
        with self.condition:
            if self.closed:
                raise RuntimeError("the batcher is closed")
            self.waiting.append(item)
            self.condition.notify_all()
        return item

    def drop(self, item: Item) -> None:
        """Nobody waits for this item. Unless its batch runs already, its future is cancelled, and it does not run."""
        with self.condition:
            item.dropped = True
            if item in self.waiting:
                self.waiting.remove(item)
                item.future.cancel()
            self.condition.notify_all()

    def close(self, patience_s: float) -> None:
        """Run the submitted items and end the threads; wait at most `patience_s` seconds."""
        with self.condition:
            self.closed = True
            self.condition.notify_all()
        end = time.monotonic() + patience_s
        for thread in self.threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _work(self) -> None:
        while batch := self._next_batch():
            self._run_batch(batch)
            with self.condition:
                self.running = [item for item in self.running if item not in batch]
                self.condition.notify_all()

    def _next_batch(self) -> list[Item]:
        """Wait for the next batch; an empty one if the batcher is closed and nothing is left."""
        with self.condition:
            while not (batch := self._batch_now()):
                if self.closed and not self.waiting:
                    break
                # A batch that is not full may fill while another one runs.
                is_first = self.waiting and not self.running
                self.condition.wait(self._delay_left() if is_first else None)
            self.running += batch
            self.waiting = [item for item in self.waiting if item not in batch]
        return batch

    def _batch_now(self) -> list[Item]:
        """The batch that should run now: the oldest item and those of the same image size, from old to new."""
        if not self.waiting:
            return []
        shapes = self.waiting[0].sample.shapes
        batch = [item for item in self.waiting if item.sample.shapes == shapes][: self.max_batch]
        is_due = not self.running and (self.closed or self._delay_left() <= 0)
        return batch if is_due or len(batch) == self.max_batch else []

    def _delay_left(self) -> float:
        return self.waiting[0].arrived + self.max_delay_s - time.monotonic()

    def _run_batch(self, batch: list[Item], deaths: int = 0) -> None:
        """Run a batch, and once more if the model's process died; then, or if the batch fails, run its images singly.

        Args:
            deaths: how often the process died with this batch.
        """
        batch = self._wanted(batch)
        if not batch:
            return
        start = time.monotonic()
        try:
            results, seconds = self.run([item.sample for item in batch])
        except Died as error:
            if deaths == 0:
                self._run_batch(batch, deaths=1)
            elif len(batch) == 1:
                logger.error("an image is given up: %s, twice in a row", error)
                batch[0].future.set_exception(Refused(500, DEADLY))
            else:
                self._run_singly(batch, error, deaths)
        except Refused as error:  # the server is about to end
            for item in batch:
                item.future.set_exception(error)
        except Exception as error:  # an engine may raise anything, and the server continues
            if len(batch) == 1:
                batch[0].future.set_exception(error)
            else:
                self._run_singly(batch, error, 0)
        else:
            waited = time.monotonic() - start - seconds
            self.metrics.batch_size.observe(len(batch))
            for item, result in zip(batch, results):
                self.metrics.observe("queue", start - item.arrived + waited)
                self.metrics.observe("inference", seconds)
                item.future.set_result(Outcome(result, start - item.arrived + waited, seconds, len(batch)))

    def _run_singly(self, batch: list[Item], error: Exception, deaths: int) -> None:
        logger.warning("a batch of %d failed, running its images one by one: %s", len(batch), error)
        for item in batch:
            self._run_batch([item], deaths)

    def _wanted(self, batch: list[Item]) -> list[Item]:
        with self.condition:
            for item in batch:
                if item.dropped:
                    item.future.cancel()
            return [item for item in batch if not item.dropped]
