"""The AP of exported graphs on the validation images, by which graphs in int8 are judged."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ppdet.core.config import Config
from ppdet.data.transforms.decode import read_image
from ppdet.deploy.backends.base import Backend, Options
from ppdet.deploy.compare import Engine, require_detections
from ppdet.deploy.preprocess import Preprocess
from ppdet.engine.build import build_dataset
from ppdet.engine.export.check import Arrays
from ppdet.metrics.coco_metric import COCOMetric
from ppdet.utils.errors import ImageError
from ppdet.utils.logger import get_logger, is_watched

logger = get_logger(__name__)
MOST_IMAGES = 500


class ValidationSet:
    """Images of EvalDataset and their boxes, on which graphs are evaluated.

    Args:
        cfg: the configuration, with EvalDataset.
        preprocess: of the exported model.
        class_names: the model's classes, in its order.

    Attributes:
        paths: the images: all, or 500 that are spread evenly.

    Raises:
        DataError: the annotations cannot be read, or have no box.
    """

    def __init__(self, cfg: Config, preprocess: Preprocess, class_names: list[str]) -> None:
        dataset = build_dataset(cfg, "EvalDataset")
        dataset.use_classes(class_names)
        self.preprocess = preprocess
        places = np.unique(np.linspace(0, len(dataset) - 1, min(MOST_IMAGES, len(dataset))).round().astype(int))
        chosen = [dataset.records[place] for place in places.tolist()]
        self.paths = [record["im_file"] for record in chosen]
        self._before: float | None = None
        self._ids = [record["im_id"].item() for record in chosen]
        self._metric = COCOMetric(
            anno_path=dataset.anno_path,
            category_ids=dataset.category_ids,
            class_names=dataset.class_names,
            records=dataset.records,
        )

    def inputs(self, place: int) -> Arrays | None:
        """A graph's inputs for the image at `place`; None if it cannot be read."""
        try:
            return self.preprocess.join([self.preprocess.prepare(read_image(self.paths[place]))])
        except ImageError:
            return None

    def loss_in_int8(self, folder: Path, engine: type[Backend], note: str = "") -> float:
        """Return how much AP, in percent, a folder's graph in int8 loses in an engine, and log it.

        The AP in float32 is computed once: engines are known to agree in float32.

        Args:
            note: what else the log's line says.
        """
        if self._before is None:
            self._before = 100 * self.average_precision(engine(folder, Options()), "AP in float32")
        after = 100 * self.average_precision(engine(folder, Options(precision="int8")), "AP in int8")
        images = len(self.paths)
        logger.info(
            "%s: AP %.1f in float32, %.1f in int8 (%d images)%s", engine.name, self._before, after, images, note
        )
        return self._before - after

    def average_precision(self, engine: Engine, title: str, places: Iterable[int] | None = None) -> float:
        """Run a graph on the images at `places`, or on all; return COCO's AP, from 0 to 1.

        Args:
            title: of the progress bar.
        """
        chosen = list(range(len(self.paths)) if places is None else places)
        self._metric.reset()
        for place in tqdm(chosen, desc=title, unit="image", leave=False, disable=not is_watched()):
            arrays = self.inputs(place)
            if arrays is not None:
                rows, counts = require_detections(engine(arrays))
                self._metric.update(rows, counts.tolist(), [self._ids[place]])
        return max(0.0, self._metric.compute()["AP"])


class Calibration(NamedTuple):
    """What a quantization needs besides the graph.

    Attributes:
        batches: a graph's inputs, which show the ranges of activations.
        validation: the images on which AP is computed; None: AP is not compared.
        max_drop: how much AP may be lost, in percent.
    """

    batches: list[Arrays]
    validation: ValidationSet | None
    max_drop: float
