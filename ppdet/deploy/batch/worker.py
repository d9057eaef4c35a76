"""What runs on the workers: a Detector, and from a task's images to rows of a table."""

import json
import os
from collections import Counter
from typing import Any, NamedTuple

from ppdet.deploy.batch.inputs import in_one_line, read_items
from ppdet.deploy.batch.shards import to_table
from ppdet.deploy.detector import Detector
from ppdet.utils.errors import ImageError

# A column that says which worker computed a row; it is not written.
WORKER = "worker"
# How often a task is begun, when its worker dies each time.
ATTEMPTS = 2


class WorkerSettings(NamedTuple):
    """Arguments of a worker's Detector, images per run, and the least score of a detection that is kept."""

    model_dir: str
    backend: str
    device: str
    precision: str
    threads: int
    batch_size: int
    threshold: float


def load_detector(settings: WorkerSettings) -> Detector:
    """The Detector of a process that does nothing else, on its share of the processors.

    Raises:
        DeployError: it cannot be loaded.
    """
    import cv2

    # Paddle reads it when it loads. Ray sets it too, but not where the user's environment has it.
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)
    cv2.setNumThreads(settings.threads)
    return Detector(
        settings.model_dir,
        settings.backend,
        device=settings.device,
        precision=settings.precision,
        threads=settings.threads,
    )


def choose_backend(settings: WorkerSettings) -> str:
    """Name of the engine that runs the model, found out where workers are.

    Raises:
        DeployError: there is none.
    """
    return load_detector(settings).backend.name


class Tally:
    """A Ray actor that numbers the workers of a pass and counts how often each task was begun.

    Ray itself would give a task that kills its worker to one worker after another, for ever.
    """

    def __init__(self) -> None:
        self.workers = 0
        self.begun: Counter[int] = Counter()

    def enter(self) -> int:
        """Number of a worker that starts, from 1."""
        self.workers += 1
        return self.workers

    def begin(self, first: int) -> int:
        """How often a task was begun, this time included."""
        self.begun[first] += 1
        return self.begun[first]


class DetectorWorker:
    """A Ray actor with a Detector of its own. It takes tables of tasks and gives tables of images with detections.

    tally: handle of an actor `Tally`, which all workers share.
    """

    def __init__(self, settings: WorkerSettings, tally: Any) -> None:
        import ray

        self.settings = settings
        self.tally = tally
        self.detector = load_detector(settings)
        self.number = ray.get(tally.enter.remote())

    def __call__(self, table: Any) -> Any:
        """Run tasks.

        Args:
            table: Arrow table with one row: `first`, the id of the task's first image, and `task` as JSON (see
                inputs.py).

        Returns:
            Arrow table with a row for each image: the columns of `shards.schema`, and `worker`, its number. For a task
            that killed its worker several times, one row alone without a number.
        """
        import pyarrow
        import ray

        (row,) = table.to_pylist()
        if ray.get(self.tally.begin.remote(row["first"])) > ATTEMPTS:
            rows, number = [new_row(row["first"], "", "")], None
        else:
            rows, number = self.detect(row["first"], json.loads(row["task"])), self.number
        return to_table(rows).append_column(WORKER, pyarrow.array([number] * len(rows), pyarrow.int64()))

    def detect(self, first: int, task: dict) -> list[dict]:
        rows: list[dict] = []
        batch: list[tuple[dict, dict]] = []
        for image_id, item in enumerate(read_items(task), first):
            rows.append(new_row(image_id, item.name, item.path, item.error))
            sample = None if item.error else self.prepare(item.image, rows[-1])
            if sample is not None:
                batch.append((rows[-1], sample))
            if len(batch) == self.settings.batch_size:
                self.run(batch)
                batch = []
        self.run(batch)
        return rows

    def prepare(self, image: Any, row: dict) -> dict | None:
        """The sample for `Detector.run`; None, with the reason in the row, for an image that cannot be read."""
        try:
            sample = self.detector.prepare(image)
        except ImageError as error:
            row["error"] = error.reason
            return None
        except Exception as error:  # one image's trouble, whatever it is, must not end a job of millions
            row["error"] = in_one_line(error)
            return None
        row["width"], row["height"] = int(sample["w"]), int(sample["h"])
        return sample

    def run(self, batch: list[tuple[dict, dict]]) -> None:
        """Put the detections of samples into their rows. What fails together is tried alone."""
        try:
            found = self.detector.run([sample for _, sample in batch])
        except Exception as error:  # as above: an engine may raise anything
            if len(batch) == 1:
                batch[0][0]["error"] = in_one_line(error)
                return
            for pair in batch:
                self.run([pair])
            return
        for (row, _), detections in zip(batch, found):
            kept = detections.above(self.settings.threshold)
            row["boxes"], row["scores"] = kept.boxes.tolist(), kept.scores.tolist()
            row["classes"], row["names"] = kept.classes.tolist(), list(kept.names)


def new_row(image_id: int, name: str, path: str, error: str | None = None) -> dict:
    """The row of an image in which nothing was detected yet."""
    row: dict = {"image_id": image_id, "file_name": name, "path": path, "width": None, "height": None}
    row.update(boxes=[], scores=[], classes=[], names=[], error=error)
    return row
