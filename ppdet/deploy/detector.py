"""An exported detector, from image to rows."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional, Union

import numpy as np

from ppdet.data.errors import ImageError
from ppdet.deploy.paddle_backend import PaddleBackend
from ppdet.deploy.preprocess import DeployError, Preprocess, read_infer_cfg
from ppdet.utils.cpu import cpu_count
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
Image = Union[str, os.PathLike, np.ndarray]


class Detector:
    """Runs a folder that tools/export_model.py wrote.

    Args:
        folder: the exported model. device: CPU or GPU.
        threads: CPU threads; None for all processors this process may use.
        onednn, bfloat16: see `PaddleBackend`.

    Raises:
        DeployError: the folder is incomplete.
    """

    def __init__(
        self,
        folder: Union[str, os.PathLike],
        *,
        device: str = "CPU",
        threads: Optional[int] = None,
        onednn: bool = True,
        bfloat16: bool = False,
    ) -> None:
        folder = Path(folder)
        settings = read_infer_cfg(folder)
        if settings.get("output", "detections") != "detections":
            raise DeployError(
                f"{folder}: the graph ends with {settings['output']}, not with detections: "
                "export it with export.post_process and export.nms true, export.benchmark false"
            )
        self.class_names: list[str] = [str(name) for name in settings.get("label_list") or []]
        # PaddleDetection's exports do not say which category of the annotations a class is.
        self.category_ids: list[int] = settings.get("category_ids", list(range(len(self.class_names))))
        self.preprocess = Preprocess(settings)
        threads = threads or cpu_count()
        self.backend = PaddleBackend(folder, device=device, threads=threads, onednn=onednn, bfloat16=bfloat16)

    def predict(self, images: Union[Image, Sequence[Image]]) -> list[np.ndarray]:
        """Detect on one image or several in one batch: paths, or RGB arrays (H, W, 3) uint8.

        Returns:
            For each image, rows (M, 6) of [class, score, x1, y1, x2, y2] in its pixels, best score first by class.

        Raises:
            ImageError: an image cannot be read.
        """
        if isinstance(images, (str, os.PathLike, np.ndarray)):
            images = [images]
        return self._run([self.preprocess.prepare(image) for image in images])

    def detect(self, paths: Sequence[str], batch_size: int = 1) -> Iterator[tuple[int, np.ndarray]]:
        """Yield position in `paths` and rows for every readable file; others are skipped with a line of log."""
        batch: list[tuple[int, dict]] = []
        for index, path in enumerate(paths):
            try:
                batch.append((index, self.preprocess.prepare(path)))
            except ImageError as error:
                logger.warning("image skipped: %s", error)
            if len(batch) == batch_size:
                yield from zip([i for i, _ in batch], self._run([sample for _, sample in batch]))
                batch = []
        if batch:
            yield from zip([i for i, _ in batch], self._run([sample for _, sample in batch]))

    def _run(self, samples: list[dict]) -> list[np.ndarray]:
        rows, rows_per_image = self.backend(self.preprocess.join(samples))
        return np.split(rows, np.cumsum(rows_per_image)[:-1])
