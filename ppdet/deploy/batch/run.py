"""One run of a job: what workers give, in any order, becomes whole shards."""

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any

from ppdet.deploy.batch.inputs import Inputs, read_items
from ppdet.deploy.batch.job_file import Manifest
from ppdet.deploy.batch.pipeline import Pool, split, task_images
from ppdet.deploy.batch.shards import Counts, Shards, schema, to_table
from ppdet.deploy.batch.worker import WORKER, new_row
from ppdet.utils.logger import get_logger, is_watched

logger = get_logger(__name__)
# Seconds between lines of progress where no bar is shown, and how many broken images are named in the log.
LOG_SECONDS, NAMED_ERRORS = 30.0, 5


class Run:
    """One run of a job: gathers what workers give, in any order, into shards, and writes each when it is complete.

    Attributes:
        done: counts of each finished shard. images: done in this run, in so many `seconds`. speed: images per second
            since each worker had loaded the model and given its first results.
    """

    def __init__(self, pool: Pool, inputs: Inputs, shards: Shards, manifest: Manifest, done: dict[int, Counts]) -> None:
        self.pool = pool
        self.inputs = inputs
        self.shards = shards
        self.manifest = manifest
        self.done = dict(done)
        self.pending = self.images = self.errors = 0
        self.start = self.seconds = self.speed = 0.0
        # Images, and the time, when the last worker gave its first results.
        self.loaded = (0, 0.0)
        # Of every shard that has some of its images: tables by the id of their first image.
        self.parts: dict[int, dict[int, Any]] = {}

    def run(self) -> None:
        pending = [self.shards.range(shard) for shard in range(self.shards.count) if shard not in self.done]
        total = self.pending = sum(map(len, pending))
        if self.done:
            logger.info("going on: %d of %d images are done", self.shards.images - total, self.shards.images)
        logger.info(
            "%d images, %d workers with %d threads each, backend %s",
            total, self.pool.workers, self.pool.settings.threads, self.manifest.backend,
        )  # fmt: skip
        size = task_images(self.inputs, total, self.shards.size, self.pool.settings.batch_size)
        self.start = time.perf_counter()
        self.gather(self.pool.run(self.inputs, split(pending, size)), total)
        lost = self.lost(pending)
        if lost:
            count = sum(map(len, lost))
            logger.warning("workers died several times on tasks with %d images: each is tried alone", count)
            self.gather(self.pool.run(self.inputs, split(lost, 1)), count)
        for image_id in (image_id for part in self.lost(pending) for image_id in part):
            self.add(self.given_up(image_id))
        if len(self.done) < self.shards.count:
            raise RuntimeError("a shard is not complete, though all of its images were given")
        self.seconds = time.perf_counter() - self.start
        self.speed = self.speed_at(self.start + self.seconds)

    def speed_at(self, now: float) -> float:
        """Images per second since the last worker gave its first results; since the start, if that was only now."""
        images, since = self.loaded if self.images > self.loaded[0] else (0, self.start)
        return (self.images - images) / max(now - since, 1e-9)

    def gather(self, tables: Generator[Any, None, None], total: int) -> None:
        """Add tables, with a bar or, where nobody watches, a line now and then."""
        from tqdm import tqdm

        self.workers: set[int] = set()
        shown = time.perf_counter()
        bar = tqdm(total=total, unit="image", disable=not is_watched(), smoothing=0.1)
        with bar, closing(tables):
            for table in tables:
                self.note(table)
                self.add(table)
                bar.update(len(table))
                if not is_watched() and time.perf_counter() - shown > LOG_SECONDS:
                    shown = time.perf_counter()
                    speed = self.speed_at(shown)
                    left = (self.pending - self.images) / speed / 60
                    logger.info("%d of %d images, %.2f images/s, %.0f min left", self.images, self.pending, speed, left)

    def add(self, table: Any) -> None:
        """Take the rows of some images of one shard; write the shard when it is complete."""
        import pyarrow

        if not len(table):
            return
        first = table["image_id"][0].as_py()
        shard = first // self.shards.size
        if shard in self.done:
            return
        parts = self.parts.setdefault(shard, {})
        parts[first] = table.select(schema().names)
        if sum(map(len, parts.values())) < len(self.shards.range(shard)):
            return
        whole = pyarrow.concat_tables([parts[key] for key in sorted(parts)])
        self.done[shard] = self.shards.write(shard, whole, self.manifest.classes, self.manifest.category_ids)
        del self.parts[shard]

    def note(self, table: Any) -> None:
        """Count images, name the first broken ones, and say when a worker took the place of a dead one."""
        self.images += len(table)
        number = table[WORKER][0].as_py()
        if number not in self.workers:
            self.workers.add(number)
            if number <= self.pool.workers:
                self.loaded = (self.images, time.perf_counter())
            else:
                logger.warning("a worker died; another took its place and its tasks")
        for error, path in zip(table["error"].to_pylist(), table["path"].to_pylist()):
            self.errors += error is not None
            if error is not None and self.errors <= NAMED_ERRORS:
                hint = "; others are not named here" if self.errors == NAMED_ERRORS else ""
                logger.warning("%s: %s%s", path, error, hint)

    def lost(self, pending: Sequence[range]) -> list[range]:
        """Images that no worker gave, of the pending shards."""
        found = []
        for part in pending:
            shard = part.start // self.shards.size
            if shard in self.done:
                continue
            position = part.start
            for first, table in sorted(self.parts.get(shard, {}).items()):
                found.append(range(position, first))
                position = first + len(table)
            found.append(range(position, part.stop))
        return [part for part in found if part]

    def given_up(self, image_id: int) -> Any:
        """The row of an image whose worker dies whenever it is tried."""
        item = next(read_items(self.inputs.task(image_id, 1)))
        error = item.error or "its worker died on it, several times"
        return to_table([new_row(image_id, item.name, item.path, error)])
