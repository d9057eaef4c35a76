"""The worker processes of a reader: started when batches are first needed, and kept between the epochs of training."""

from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from ppdet.data.loading.collate import BatchMaker, Task
from ppdet.data.loading.workers import WorkerPool
from ppdet.utils.errors import WorkerError
from ppdet.utils.process.start import StartMethod


class KeptWorkers:
    """Makes the batches of a reader in worker processes.

    Args:
        make: makes the batch of a list of tasks.
        count: number of processes, at least 1.
        slot_bytes: shared memory for one batch in bytes, see WorkerPool.
        start: how processes start, see ppdet.utils.process.start.
        keep: let the processes live until the reader is gone. If false, they end with each iteration: those of an
            evaluation, forked in the middle of training, would keep the memory of that moment alive.
    """

    def __init__(self, make: BatchMaker, count: int, slot_bytes: int, start: StartMethod, *, keep: bool) -> None:
        self.make = make
        self.count = count
        self.slot_bytes = slot_bytes
        self.start = start
        self.keep = keep
        self._pool: WorkerPool | None = None

    def run(
        self, tasks: list[list[Task]], finish: Callable[[dict[str, np.ndarray]], Any]
    ) -> Generator[Any, None, None]:
        """Yield finish(arrays) for each list of tasks, in order.

        Raises:
            WorkerError: a process died; the message names the images that it was reading.
        """
        # The pool is not in `self` while it runs: a second loop over the reader may run inside of the first.
        pool, self._pool = self._pool, None
        if pool is None or not pool.close.alive:
            pool = WorkerPool(self.make, self.count, self.slot_bytes, self.start)
        try:
            yield from pool.run(tasks, finish)
        except WorkerError as error:
            if error.task is None:
                raise
            some = ", ".join(self.make.source.records[task.record]["im_file"] for task in error.task[:3])
            raise WorkerError(f"{error}; its images: {some}{', …' * (len(error.task) > 3)}", error.task) from None
        finally:
            if self.keep and self._pool is None:
                self._pool = pool
            else:
                pool.close()
