"""The worker processes of a batch job, which turn a task's images into result rows with a Detector."""

import faulthandler
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ppdet.core.extensions import import_extensions
from ppdet.deploy.batch.read_images import in_one_line, read_items
from ppdet.deploy.detector import Detections, Detector
from ppdet.deploy.slicing import Slicing, WindowMerger
from ppdet.deploy.tta import TTA
from ppdet.utils.errors import ImageError


class WorkerSettings(NamedTuple):
    """Settings of a worker.

    model_dir, backend, device, precision, threads, tta: see `Detector`. slicing: see `Detector.predict_sliced`.
    batch_size: images, or windows of images, in one run of the model.
    threshold: detections with a lower score are dropped, 0..1; None for the thresholds of the model (see `Detector`).
    image_timeout_s: the process ends if reading and detecting takes longer than this per image. extensions: files and
    modules with components from outside the package, see `core.extensions.imported`.
    """

    model_dir: str
    backend: str
    device: str
    precision: str
    threads: int
    batch_size: int
    threshold: float | None
    image_timeout_s: float = 600.0
    extensions: Sequence[str] = ()
    tta: TTA | None = None
    slicing: Slicing | None = None


class Part(NamedTuple):
    """What the model sees at once: an image, or one window of it.

    row: the image's. merger: of the image's windows. box, following, sample: see `slicing.Window`.
    """

    row: dict
    merger: WindowMerger
    box: np.ndarray
    following: int
    sample: dict


def load_detector(settings: WorkerSettings) -> Detector:
    """The Detector of a process that does nothing else and uses `settings.threads` processors.

    Raises:
        DeployError: the model cannot be loaded.
    """
    import cv2

    # Paddle reads the variable when it is imported. Ray sets it too, but not if the user's environment has it.
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)
    cv2.setNumThreads(settings.threads)
    import_extensions(settings.extensions)
    return Detector(
        settings.model_dir,
        settings.backend,
        device=settings.device,
        precision=settings.precision,
        threads=settings.threads,
        tta=settings.tta,
    )


def choose_backend(settings: WorkerSettings) -> str:
    """Name of the engine that `settings.backend` selects on the workers' machines.

    Raises:
        DeployError: no engine can run the model.
    """
    return load_detector(settings).backend.name


@contextmanager
def end_after(seconds: float) -> Iterator[None]:
    """End this process if the block takes longer than `seconds`, whatever it does.

    A thread in C watches the time: it needs no lock of Python's, which decoders and engines may hold for ever. The
    process ends without a word to anybody but standard error, so whoever waits for it sees that it died.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


class DetectorWorker:
    """A Ray actor: one process with one Detector."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.detector = load_detector(settings)

    def detect(self, first: int, task: dict) -> list[dict]:
        """Detect on the images of a task.

        Args:
            first: number of the task's first image in the whole input.
            task: what `inputs.ImagePaths.task` or `inputs.EncodedImages.task` returns.

        Returns:
            One row (see `new_row`) per image, in order.
        """
        rows: list[dict] = []
        batch: list[Part] = []
        items = read_items(task)
        while True:
            # A batch of images runs after its last one was prepared.
            with end_after(self.settings.image_timeout_s * self.settings.batch_size):
                item = next(items, None)
                if item is None:
                    if batch:
                        self.run(batch)
                    return rows
                rows.append(new_row(first + len(rows), item.name, item.path, item.error))
                for part in self.prepare(item.image, rows[-1]) if not item.error else ():
                    batch.append(part)
                    if len(batch) == self.settings.batch_size:
                        self.run(batch)
                        batch = []

    def prepare(self, image: Any, row: dict) -> Iterator[Part]:
        """Yield the image, or its windows; if it cannot be read, the row gets the reason."""
        merger = WindowMerger(self.settings.slicing or Slicing())
        try:
            for box, following, sample in self.detector.prepare_windows(image, self.settings.slicing):
                if not following:  # the last window ends where the image ends
                    row["width"], row["height"] = box[2:].tolist()
                yield Part(row, merger, box, following, sample)
        except ImageError as error:
            row["error"] = error.reason
        except Exception as error:  # whatever is wrong with one image must not end a job of millions
            row["error"] = in_one_line(error)

    def run(self, batch: list[Part]) -> None:
        """Put the detections of images into their rows. If a batch fails, its parts are retried singly."""
        try:
            results = self.detector.run([part.sample for part in batch])
        except Exception as error:  # an engine may raise anything, and the job continues
            if len(batch) == 1:
                batch[0].row["error"] = in_one_line(error)
                return
            for part in batch:
                self.run([part])
            return
        for part, detections in zip(batch, results):
            self.collect(part, detections.rows)

    def collect(self, part: Part, found: np.ndarray) -> None:
        """Take the detections (M, 6) of a part; the row gets those of the image when they are complete."""
        for row, merged in part.merger.add([part.row], [part.box], [part.following], [found]):
            if row["error"]:  # another window of it has failed
                return
            detections = Detections.from_rows(merged, self.detector.class_names)
            least = self.settings.threshold
            kept = detections.above(self.detector.thresholds if least is None else least)
            row["boxes"], row["scores"] = kept.boxes.tolist(), kept.scores.tolist()
            row["classes"], row["names"] = kept.classes.tolist(), list(kept.names)


def new_row(image_id: int, name: str, path: str, error: str | None = None) -> dict:
    """The row of an image without detections. boxes: [x1, y1, x2, y2]; for the rest see `result_table.schema`."""
    row: dict = {"image_id": image_id, "file_name": name, "path": path, "width": None, "height": None}
    row.update(boxes=[], scores=[], classes=[], names=[], error=error)
    return row
