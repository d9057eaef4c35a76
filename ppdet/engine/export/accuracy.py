"""The AP of exported graphs on the validation images, by which graphs in int8 are judged."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ppdet.core.config import Config
from ppdet.data.classes import Classes
from ppdet.deploy.backends.base import Backend, Options
from ppdet.deploy.compare import Engine, require_detections
from ppdet.deploy.preprocess import Preprocess
from ppdet.engine.build import build_dataset
from ppdet.engine.export.check import Arrays
from ppdet.engine.export.prepared_images import FixedBatches, PreparedImages, evenly_spread
from ppdet.metrics.coco_metric import COCOMetric
from ppdet.utils.errors import DataError
from ppdet.utils.logger import get_logger, is_watched

logger = get_logger(__name__)
MOST_IMAGES = 500


class ValidationSet:
    """Images of EvalDataset and their boxes, on which graphs are evaluated.

    Args:
        cfg: the configuration, with EvalDataset.
        preprocess: of the exported model.
        classes: the model's, in its order; None, if unknown, leaves the order of the data set.

    Attributes:
        images: inputs for all images, or for 500 that are spread evenly.

    Raises:
        ConfigError, DataError: the annotations cannot be read, are of other classes, or have no box, or none of the
            images can be read.
    """

    def __init__(self, cfg: Config, preprocess: Preprocess, classes: Classes | None) -> None:
        dataset = build_dataset(cfg, "EvalDataset", classes)
        chosen = [dataset.records[place] for place in evenly_spread(MOST_IMAGES, len(dataset))]
        self.images = PreparedImages([record["im_file"] for record in chosen], preprocess, "EvalDataset")
        self._before: float | None = None
        self._ids = [chosen[place]["im_id"].item() for place in self.images.places]
        self._metric = COCOMetric(
            anno_path=dataset.anno_path,
            category_ids=dataset.category_ids,
            class_names=dataset.class_names,
            records=dataset.records,
        )
        self._metric.update(np.empty((0, 6)), [0] * len(self._ids), self._ids)
        if self._metric.compute()["AP"] < 0:  # undefined
            raise DataError(f"EvalDataset: its {len(self._ids)} images have no boxes")

    def loss_in_int8(self, folder: Path, engine: type[Backend], note: str = "") -> float:
        """Return how much AP, in percent, a folder's graph in int8 loses in an engine, and log it.

        The AP in float32 is computed once: engines are known to agree in float32.

        Args:
            note: what else the log's line says.
        """
        if self._before is None:
            self._before = 100 * self.average_precision(engine(folder, Options()), "AP in float32")
        after = 100 * self.average_precision(engine(folder, Options(precision="int8")), "AP in int8")
        return self.logged_loss(engine.name, self._before, after, note)

    def logged_loss(self, name: str, before: float, after: float, note: str) -> float:
        """Log two AP, in percent, and return their difference.

        Args:
            name: of the engine or file. note: what else the log's line says.
        """
        logger.info("%s: AP %.1f in float32, %.1f in int8 (%d images)%s", name, before, after, len(self.images), note)
        return before - after

    def average_precision(
        self, engine: Engine, title: str, places: Iterable[int] | None = None, batches: FixedBatches | None = None
    ) -> float:
        """Run a graph on the images at `places`, or on all; return COCO's AP, from 0 to 1.

        Args:
            title: of the progress bar.
            batches: all images as a graph of fixed sizes takes them.
        """
        chosen = list(range(len(self.images)) if places is None else places)
        inputs = (self.images[place] for place in chosen) if batches is None else iter(batches)
        total, unit = (len(chosen), "image") if batches is None else (len(batches), "batch")
        ids = iter([self._ids[place] for place in chosen])
        self._metric.reset()
        for arrays in tqdm(inputs, desc=title, total=total, unit=unit, leave=False, disable=not is_watched()):
            rows, counts = require_detections(engine(arrays))
            shown = list(itertools.islice(ids, len(counts)))  # the last batch may be filled up
            found = counts[: len(shown)].tolist()
            self._metric.update(rows[: sum(found)], found, shown)
        return max(0.0, self._metric.compute()["AP"])  # some of the images may have no boxes


class Calibration(NamedTuple):
    """What a quantization needs besides the graph.

    Attributes:
        batches: a graph's inputs, which show the ranges of activations; they may be read when they are asked for.
        validation: the images on which AP is computed; None: AP is not compared.
        max_drop: how much AP may be lost, in percent.
    """

    batches: Sequence[Arrays]
    validation: ValidationSet | None
    max_drop: float
