"""An exported detector: from an image to its detections.

    detector = Detector("output_inference/fcos_r18_fpn_shapes")
    detections = detector.predict("dataset/shapes/data/images/val/000041.jpg").above(0.4)
    print(detections.names, detections.scores, detections.boxes)

`Detector` puts three parts together: `Preprocess` (preprocess.py) decodes, resizes and normalizes images as
infer_cfg.yml says; a `Backend` (backends/) runs the graph, NMS included; `Detections` holds the result.
"""

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from ppdet.data.loading.windows import crops
from ppdet.deploy.backends import load_backend
from ppdet.deploy.backends.base import Options
from ppdet.deploy.compare import require_detections, with_area
from ppdet.deploy.preprocess import Image, Preprocess, class_list, read_infer_cfg, read_pixels
from ppdet.deploy.slicing import Slicing, Window, detect_windows
from ppdet.deploy.tta import TTA, Suppression, check_alone, unflip
from ppdet.utils.class_thresholds import Thresholds, is_kept, thresholds_of
from ppdet.utils.errors import DeployError, ImageError
from ppdet.utils.iteration import run_ahead
from ppdet.utils.logger import get_logger

__all__ = ["DeployError", "Detections", "Detector"]

logger = get_logger(__name__)


@dataclass(frozen=True)
class Detections:
    """The detections in one image, M of them, sorted by class and then from the highest score to the lowest.

    Attributes:
        boxes: (M, 4) float32, x1, y1, x2, y2 in pixels of the image.
        scores: (M,) float32, 0..1.
        classes: (M,) int64, indices into `Detector.class_names`.
        names: names of these M classes.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    names: list[str]

    @classmethod
    def from_rows(cls, rows: np.ndarray, class_names: Sequence[str]) -> "Detections":
        """From rows (M, 6) of [class, score, x1, y1, x2, y2]; a class without a name is called by its number."""
        classes = rows[:, 0].astype(np.int64)
        names = [class_names[i] if i < len(class_names) else str(i) for i in classes]
        return cls(rows[:, 2:], rows[:, 1], classes, names)

    @property
    def rows(self) -> np.ndarray:
        """(M, 6) float32 of [class, score, x1, y1, x2, y2]."""
        return np.column_stack([self.classes, self.scores, self.boxes]).astype(np.float32).reshape(-1, 6)

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, threshold: Thresholds) -> "Detections":
        """The detections whose score is at least `threshold`: one number, or one for each class, as the detector's."""
        keep = is_kept(self.scores, self.classes, threshold)
        names = [name for name, kept in zip(self.names, keep) if kept]
        return Detections(self.boxes[keep], self.scores[keep], self.classes[keep], names)


class Detector:
    """Runs a model that `ppdet export`, or PaddleDetection, has exported. Several threads may share one.

    Args:
        folder: the exported model: infer_cfg.yml and graph files.
        backend: the engine: paddle, onnxruntime or openvino. auto takes the fastest one that is installed, has its
            file in the folder, and reproduces the detections that export has stored there (selfcheck.npz).
        device: cpu, gpu, or another type by its name in Paddle, such as xpu; gpu:1 is the second GPU.
        precision: fp32, bf16, fp16 or int8, if the engine has it on this device (docs/DEPLOY.md); None for the one that
            the folder was exported for.
        threads: processors that the engine may use; None for all that this process may use.
        tensorrt: let TensorRT compile the graph, on a GPU.
        onednn: let Paddle Inference compute with oneDNN, on a CPU.
        max_batch: largest number of images in a batch; TensorRT reserves memory for it.
        tta: detect in several views of each image, which takes longer (test-time augmentation, docs/TTA.md); None takes
            images as they are.

    Attributes:
        class_names: name of each class.
        category_ids: COCO category id of each class.
        thresholds: from which score on detections are worth showing: one number, or one for each class, (C,).
        preprocess: the `Preprocess` of the model.
        backend: the `Backend` that runs the graph; `backend.name` says which engine it is.

    Raises:
        DeployError: the folder is incomplete, or no engine can run it with these settings.
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
        tta: TTA | None = None,
    ) -> None:
        check_alone(tta, None)
        self.folder = folder = Path(folder)
        settings = read_infer_cfg(folder)
        if settings.get("output", "detections") != "detections":
            raise DeployError(
                f"{folder}: the graph ends with {settings['output']}, not with detections: "
                "export it with export.post_process and export.nms true, export.benchmark false"
            )
        self.class_names, self.category_ids = class_list(settings)
        self.thresholds = thresholds_of(settings, self.class_names)
        self.preprocess = Preprocess(settings)
        self.tta = tta
        if tta:
            self.preprocess.require_scales(tta.scales)
            if tensorrt and max(tta.scales) > 1:
                raise DeployError("TensorRT compiles for the sizes of infer_cfg.yml: scales of TTA must be at most 1")
            self.suppression = Suppression.of_export(settings)
        precision = precision or settings.get("precision", "fp32")
        options = Options(device.lower(), precision, threads, tensorrt, onednn, max_batch)
        self.backend = load_backend(folder, backend, options)

    @overload
    def predict(self, images: Image) -> Detections: ...

    @overload
    def predict(self, images: list | tuple) -> list[Detections]: ...

    def predict(self, images: Any) -> Detections | list[Detections]:
        """Detect on one image, or on several in one batch.

        Args:
            images: a path, the bytes of an image file, or RGB pixels (H, W, 3) uint8; or a list of these.

        Returns:
            Detections for an image, a list of Detections for a list.

        Raises:
            ImageError: an image cannot be read.
        """
        if isinstance(images, (list, tuple)):
            return self.run([self.prepare(image) for image in images])
        return self.run([self.prepare(images)])[0]

    def predict_sliced(self, image: Image, slicing: Slicing, batch_size: int = 1) -> Detections:
        """Detect in overlapping windows of a large image, and merge the detections.

        An image that is only one window gets what `predict` returns. The number of detections has no limit.

        Args:
            slicing: how the image is cut, and how detections are merged.
            batch_size: windows in one batch.

        Raises:
            ImageError: the image cannot be read.
        """
        check_alone(self.tta, slicing)
        windows = (Window("image", *window) for window in self.prepare_windows(image, slicing))
        ((_, rows),) = detect_windows(self._run_rows, windows, batch_size, slicing)
        return Detections.from_rows(rows, self.class_names)

    def prepare_windows(self, image: Image, slicing: Slicing | None) -> Iterator[tuple[np.ndarray, int, dict]]:
        """Preprocess the windows of an image; without `slicing`, the whole image is the only one.

        Yields:
            x1, y1, x2, y2 of the window; how many windows of the image follow; and a sample for `run`.

        Raises:
            ImageError: the image cannot be read (before the first window).
        """
        if slicing is None:
            sample = self.prepare(image)
            yield np.array([0, 0, sample["w"], sample["h"]]), 0, sample
            return
        pixels = read_pixels(image)
        windows = slicing.windows(*pixels.shape[:2])
        for window, following, part in crops(pixels, windows):
            yield window, following, self.prepare(part if len(windows) > 1 else image)

    def _run_rows(self, samples: Sequence[dict]) -> list[np.ndarray]:
        return [detections.rows for detections in self.run(samples)]

    def prepare(self, image: Image) -> dict:
        """Preprocess one image; the result is a sample for `run`.

        Raises:
            ImageError: the image cannot be read.
        """
        if self.tta is None:
            return self.preprocess.prepare(image)
        return {**self.preprocess.prepare(image, view=self.tta.views[0]), "source": image}

    def run(self, samples: Sequence[dict]) -> list[Detections]:
        """Run the model on samples that `prepare` returned. Samples of the same padded size form a batch.

        With test-time augmentation, the other views of the images are prepared here, one after the other.
        """
        if self.tta is None:
            return self._run_view(samples)
        prepare, further = self.preprocess.prepare, self.tta.views[1:]
        views = ([prepare(one["source"], view=view) for one in samples] for view in further)
        return self.run_views(itertools.chain([samples], views), [(one["h"], one["w"]) for one in samples])

    def run_views(self, views: Iterable[Sequence[dict]], sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """Run the model on views of N images that are prepared already, and merge the detections of each image.

        Args:
            views: for each of `TTA.views`, in their order, the N samples that `Preprocess.prepare` made of it.
            sizes: height and width of each image itself.
        """
        if self.tta is None:
            (samples,) = views
            return self._run_view(samples)
        found = []
        for view, samples in zip(self.tta.views, views):
            rows = [detections.rows for detections in self._run_view(samples)]
            found.append([unflip(part, view, size) for part, size in zip(rows, sizes)])
        merged = [self.tta.merge_views(parts, self.suppression) for parts in zip(*found)]
        return [Detections.from_rows(rows, self.class_names) for rows in merged]

    def _run_view(self, samples: Sequence[dict]) -> list[Detections]:
        results: dict[int, Detections] = {}
        for places, arrays in self.preprocess.batches(samples):
            results.update(zip(places, self.split_outputs(self.backend(arrays))))
        return [results[place] for place in range(len(samples))]

    def split_outputs(self, outputs: Sequence[np.ndarray]) -> list[Detections]:
        """Detections of each image, from the outputs of the graph for a batch of N images.

        Boxes without area are dropped, because engines differ in how many of them NMS keeps. So are rows of class -1,
        with which some graphs of PaddleDetection say that there is no detection.

        Args:
            outputs: rows (M, 6) of [class, score, x1, y1, x2, y2] of all images, and the number of rows per image (N,).

        Raises:
            DeployError: the graph has other outputs, so it is no detector, or values that are no numbers.
        """
        try:
            rows, rows_per_image = require_detections(outputs)
        except ValueError as error:
            raise DeployError(f"{self.folder}: its graph gives {error}: export the model again") from None
        parts = np.split(rows, np.cumsum(rows_per_image)[:-1])
        return [Detections.from_rows(with_area(part[part[:, 0] >= 0]), self.class_names) for part in parts]

    def detect(
        self, paths: Sequence[str], batch_size: int = 1, slicing: Slicing | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Detect on many image files. A thread reads and preprocesses the next images while the model runs.

        Args:
            batch_size: images, or windows with `slicing`, in one batch.
            slicing: detect in windows of each image, see `predict_sliced`.

        Yields:
            Index into `paths`, and rows (M, 6) of [class, score, x1, y1, x2, y2]. A file that cannot be read is skipped
            with a warning in the log.
        """
        check_alone(self.tta, slicing)
        windows = run_ahead(self._prepare_files(paths, slicing), 2 * batch_size)
        yield from detect_windows(self._run_rows, windows, batch_size, slicing)

    def _prepare_files(self, paths: Sequence[str], slicing: Slicing | None) -> Iterator[Window]:
        for index, path in enumerate(paths):
            try:
                yield from (Window(index, *window) for window in self.prepare_windows(path, slicing))
            except ImageError as error:
                logger.warning("image skipped: %s", error)
