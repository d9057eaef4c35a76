"""An exported detector, from image to detections."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ppdet.data.windows import crops
from ppdet.deploy.backends import load_backend
from ppdet.deploy.backends.base import Options
from ppdet.deploy.compare import with_area
from ppdet.deploy.preprocess import Preprocess, category_ids, read_infer_cfg, read_pixels
from ppdet.deploy.slicing import Slicing, detect_windows
from ppdet.utils.errors import DeployError, ImageError
from ppdet.utils.iteration import run_ahead
from ppdet.utils.logger import get_logger

__all__ = ["DeployError", "Detections", "Detector"]

logger = get_logger(__name__)
# A path, the bytes of an image file, or RGB pixels (H, W, 3) uint8.
Image = str | os.PathLike | bytes | np.ndarray
WHOLE = np.zeros(4, np.int64)  # a window that moves no detections


@dataclass(frozen=True)
class Detections:
    """What was found in one image, M detections, the best score first in each class.

    boxes: (M, 4) float32, x1, y1, x2, y2 in pixels of the image. scores: (M,) float32 in 0..1.
    classes: (M,) int64, positions in `Detector.class_names`. names: the M names of these classes.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    names: list[str]

    @classmethod
    def from_rows(cls, rows: np.ndarray, class_names: Sequence[str]) -> "Detections":
        """Of rows (M, 6) of [class, score, x1, y1, x2, y2]."""
        classes = rows[:, 0].astype(np.int64)
        names = [class_names[i] if i < len(class_names) else str(i) for i in classes]
        return cls(rows[:, 2:], rows[:, 1], classes, names)

    @property
    def rows(self) -> np.ndarray:
        """(M, 6) of [class, score, x1, y1, x2, y2]."""
        return np.column_stack([self.classes, self.scores, self.boxes]).astype(np.float32).reshape(-1, 6)

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, threshold: float) -> "Detections":
        """Those with at least this score."""
        keep = self.scores >= threshold
        names = [name for name, kept in zip(self.names, keep) if kept]
        return Detections(self.boxes[keep], self.scores[keep], self.classes[keep], names)


class Detector:
    """Runs a folder that tools/export_model.py wrote, or PaddleDetection's export. Threads may share one.

    Args:
        folder: the exported model.
        backend: paddle, onnxruntime or openvino; auto: the fastest one that is installed, has its file in the folder
            and passes the export's self-check.
        device: cpu, gpu, or another type by its name in Paddle (xpu, npu, ...); one of several: gpu:1.
        precision: fp32, bf16 or fp16, where the backend has it (docs/DEPLOY.md); None for the one that the
            folder was exported for.
        threads: of the CPU; None for all processors that this process may use.
        tensorrt: on a GPU, let TensorRT compile the graph.
        onednn: let Paddle Inference compute with oneDNN on a CPU.
        max_batch: the most images in one batch; TensorRT has to know, and takes memory for that many.

    Attributes:
        class_names: of the classes from 0. category_ids: their ids in COCO's annotations.
        backend: the engine; `backend.name` says which.

    Raises:
        DeployError: the folder is incomplete, or nothing here can run it as asked.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        backend: str = "auto",
        *,
        device: str = "cpu",
        precision: str | None = None,
        threads: int | None = None,
        tensorrt: bool = False,
        onednn: bool = True,
        max_batch: int = 1,
    ) -> None:
        folder = Path(folder)
        settings = read_infer_cfg(folder)
        if settings.get("output", "detections") != "detections":
            raise DeployError(
                f"{folder}: the graph ends with {settings['output']}, not with detections: "
                "export it with export.post_process and export.nms true, export.benchmark false"
            )
        self.class_names: list[str] = [str(name) for name in settings.get("label_list") or []]
        self.category_ids = category_ids(settings, self.class_names)
        self.preprocess = Preprocess(settings)
        precision = precision or settings.get("precision", "fp32")
        options = Options(device.lower(), precision, threads, tensorrt, onednn, max_batch)
        self.backend = load_backend(folder, backend, options)

    def predict(self, images: Image | Sequence[Image]) -> Detections | list[Detections]:
        """Detect on one image, or on several in one batch: paths, bytes of image files, or RGB arrays (H, W, 3) uint8.

        Returns:
            Detections of the image, or a list of them for a sequence.

        Raises:
            ImageError: an image cannot be read.
        """
        if not isinstance(images, (list, tuple)):
            return self.run([self.prepare(images)])[0]
        return self.run([self.prepare(image) for image in images])

    def predict_sliced(self, image: Image, slicing: Slicing, batch_size: int = 1) -> Detections:
        """Detect in windows of one image, `batch_size` of them at a time, and merge what they found.

        An image that is one window gives what `predict` gives. As many detections are kept as there are.

        Raises:
            ImageError: the image cannot be read.
        """
        windows = (("image", *window) for window in self.prepare_windows(image, slicing))
        ((_, rows),) = detect_windows(self._run_rows, windows, batch_size, slicing)
        return Detections.from_rows(rows, self.class_names)

    def prepare_windows(self, image: Image, slicing: Slicing) -> Iterator[tuple[np.ndarray, int, dict]]:
        """Window (4,), the number of windows after it, and what `run` takes, of each window of an image.

        Raises:
            ImageError: the image cannot be read. It is raised before the first window comes.
        """
        pixels = read_pixels(image)
        windows = slicing.windows(*pixels.shape[:2])
        for window, left, part in crops(pixels, windows):
            yield window, left, self.prepare(part if len(windows) > 1 else image)

    def _run_rows(self, samples: Sequence[dict]) -> list[np.ndarray]:
        return [detections.rows for detections in self.run(samples)]

    def prepare(self, image: Image) -> dict:
        """Preprocess one image, for `run`.

        Raises:
            ImageError: it cannot be read.
        """
        return self.preprocess.prepare(image)

    def run(self, samples: Sequence[dict]) -> list[Detections]:
        """Detect on what `prepare` gave; those of one padded size are one batch."""
        found: dict[int, Detections] = {}
        for places, arrays in self.preprocess.batches(samples):
            found.update(zip(places, self.finish(self.backend(arrays))))
        return [found[place] for place in range(len(samples))]

    def finish(self, outputs: Sequence[np.ndarray]) -> list[Detections]:
        """Detections of each image, of what the graph put out for a batch: rows (M, 6) and rows per image (N,).

        Boxes without area are left out: of several in one place, engines keep one, or all. Some graphs of
        PaddleDetection have a row of class -1 where there is nothing.
        """
        rows, rows_per_image = outputs[:2]
        parts = np.split(rows.reshape(-1, 6), np.cumsum(rows_per_image)[:-1])
        return [Detections.from_rows(with_area(part[part[:, 0] >= 0]), self.class_names) for part in parts]

    def detect(
        self, paths: Sequence[str], batch_size: int = 1, slicing: Slicing | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield position in `paths` and rows (M, 6) for every readable file; others are skipped with a line of log.

        With `slicing`, of detections in windows, `batch_size` windows at a time. The next images are read and
        preprocessed in a thread while the engine computes.
        """
        samples = run_ahead(self._prepare_files(paths, slicing), 2 * batch_size)
        yield from detect_windows(self._run_rows, samples, batch_size, slicing)

    def _prepare_files(
        self, paths: Sequence[str], slicing: Slicing | None
    ) -> Iterator[tuple[int, np.ndarray, int, dict]]:
        """What `detect_windows` takes, of every readable file."""
        for index, path in enumerate(paths):
            try:
                if slicing is None:
                    yield index, WHOLE, 0, self.prepare(path)
                else:
                    yield from ((index, *window) for window in self.prepare_windows(path, slicing))
            except ImageError as error:
                logger.warning("image skipped: %s", error)
