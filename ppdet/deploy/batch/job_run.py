"""One start of a batch job: the rows that workers return, in any order, become complete shards."""

import time
from collections.abc import Generator
from contextlib import closing

from ppdet.deploy.batch.shards import Counts, ShardFiles
from ppdet.utils.logger import get_logger, is_watched

logger = get_logger(__name__)
LOG_SECONDS = 30.0  # between two lines of progress, when no bar is shown
NAMED_ERRORS = 5  # images with errors that the log names


class JobRun:
    """Collects rows of images and writes a shard when all its rows have arrived.

    Args:
        shards: where results go.
        finished: counts of the shards that an earlier start has written.

    Attributes:
        finished: counts of all shards that are written.
        images: images that this start has detected on, in `seconds`.
        speed: images per second after the first task, that is without the time for loading the model.
    """

    def __init__(self, shards: ShardFiles, finished: dict[int, Counts]) -> None:
        self.shards = shards
        self.finished = dict(finished)
        self.missing = [shards.range(shard) for shard in range(shards.count) if shard not in finished]
        self.total = sum(map(len, self.missing))
        self.images = self.errors = 0
        self.seconds = self.speed = 0.0
        self._rows: dict[int, list[dict]] = {}  # of incomplete shards

    def collect(self, results: Generator[list[dict], None, None]) -> None:
        """Take the rows of all missing images, and show how far the job is.

        Args:
            results: the rows of each task, in any order (see `WorkerPool.detect`).
        """
        from tqdm import tqdm

        start = last_line = time.perf_counter()
        first_images, first_time = 0, start
        bar = tqdm(total=self.total, unit="image", disable=not is_watched(), smoothing=0.1)
        with bar, closing(results):
            for rows in results:
                self.add(rows)
                bar.update(len(rows))
                now = time.perf_counter()
                if not first_images:
                    first_images, first_time = len(rows), now
                elif not is_watched() and now - last_line > LOG_SECONDS:
                    last_line = now
                    speed = (self.images - first_images) / (now - first_time)
                    left = (self.total - self.images) / speed / 60
                    logger.info("%d of %d images, %.2f images/s, %.0f min left", self.images, self.total, speed, left)
        end = time.perf_counter()
        self.seconds = end - start
        self.speed = (self.images - first_images) / (end - first_time) or self.images / self.seconds
        if len(self.finished) < self.shards.count:
            raise RuntimeError("a shard is not complete, though the workers returned all tasks")

    def add(self, rows: list[dict]) -> None:
        """Take the rows of images of one shard; write the shard if it is complete."""
        self.images += len(rows)
        shard = rows[0]["image_id"] // self.shards.size
        collected = self._rows.setdefault(shard, [])
        collected += rows
        for row in rows:
            if row["error"] is None:
                continue
            self.errors += 1
            if self.errors <= NAMED_ERRORS:
                more = "; further ones are not named here" if self.errors == NAMED_ERRORS else ""
                logger.warning("%s: %s%s", row["path"], row["error"], more)
        if len(collected) == len(self.shards.range(shard)):
            self.finished[shard] = self.shards.write(shard, sorted(collected, key=lambda row: row["image_id"]))
            del self._rows[shard]
