"""One start of a batch job: the rows that workers return, in any order, become complete shards."""

from collections.abc import Generator
from contextlib import closing

from ppdet.deploy.batch.progress import Progress
from ppdet.deploy.batch.shards import Counts, ShardFiles
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
NAMED_ERRORS = 5  # images with errors that the log names


class JobRun:
    """Collects rows of images and writes a shard when all its rows have arrived.

    Args:
        shards: where results go.
        finished: counts of the shards that an earlier start has written.

    Attributes:
        finished: counts of all shards that are written.
        images, errors: images that this start has detected on, and those of them with an error.
    """

    def __init__(self, shards: ShardFiles, finished: dict[int, Counts]) -> None:
        self.shards = shards
        self.finished = dict(finished)
        self.missing = [shards.range(shard) for shard in range(shards.count) if shard not in finished]
        self.total = sum(map(len, self.missing))
        self.images = self.errors = 0
        self._rows: dict[int, list[dict]] = {}  # of incomplete shards

    def collect(self, results: Generator[list[dict], None, None], progress: Progress) -> None:
        """Take the rows of all missing images, and show how far the job is.

        Args:
            results: the rows of each task, in any order (see `WorkerPool.detect`).
        """
        with closing(results):
            for rows in results:
                if rows:
                    self.add(rows)
                progress.add(len(rows))
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
                logger.warning("%s: %s%s", row["path"] or f"image {row['image_id']}", row["error"], more)
        if len(collected) == len(self.shards.range(shard)):
            self.finished[shard] = self.shards.write(shard, sorted(collected, key=lambda row: row["image_id"]))
            del self._rows[shard]
