"""COCO evaluation of a model, shared between ranks."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Optional

import numpy as np
import paddle
from paddle import Tensor, nn
from tqdm import tqdm

from ppdet.core.config import Config
from ppdet.data.classes import Classes
from ppdet.data.errors import DataError
from ppdet.data.reader import BaseReader
from ppdet.deploy.slicing import Slicing, WindowMerger
from ppdet.engine import distributed
from ppdet.engine.build import build_dataset, build_reader
from ppdet.engine.classes import follow
from ppdet.metrics.coco import COCOMetric
from ppdet.utils.files import read_text
from ppdet.utils.logger import get_logger, is_watched

logger = get_logger(__name__)


class Evaluator:
    """Evaluates models on EvalDataset; build it once and call it as often as needed.

    A model that remembers its classes (`build_trained_model`) decides their order: the data set's are mapped to them by
    name, with a warning where the names are others.

    Args:
        classes: what a training run is about; EvalDataset must have these names, or a DataError lists both sides.
        classwise: the table has a row for each class as well.
        output_eval: folder for bbox.json; None writes none.
        predictions_only: write bbox.json (to output_eval, or the working directory) and compute nothing.
        slicing: detect in windows of the images; None takes them whole.
    """

    def __init__(
        self,
        cfg: Config,
        *,
        classes: Optional[Classes] = None,
        classwise: bool = False,
        output_eval: Optional[str] = None,
        predictions_only: bool = False,
        slicing: Optional[Slicing] = None,
    ) -> None:
        self.dataset = build_dataset(cfg, "EvalDataset", classes)
        self.own_names = list(self.dataset.class_names)
        self.reader = build_reader(cfg, "EvalReader", self.dataset)
        self.slicing = slicing
        if slicing:
            self.reader.read_windows(slicing.windows)
            logger.info("sliced: %s", slicing)
        self.followed: Optional[Classes] = None
        self.predictions_only = predictions_only
        self.output_eval = output_eval or ("." if predictions_only else None)
        # Annotations that cannot be evaluated end the run here, not after the first epoch.
        try:
            self.metric = COCOMetric(
                anno_path=self.dataset.anno_path,
                category_ids=self.dataset.category_ids,
                class_names=self.dataset.class_names,
                classwise=classwise,
            )
        except ValueError as error:
            raise DataError(str(error)) from None

    @paddle.no_grad()
    def __call__(self, model: nn.Layer) -> Optional[dict[str, float]]:
        """Detect on every image of this rank's share, collect all shares, and log the table.

        Returns:
            COCO's twelve numbers on rank 0, None elsewhere. The model is left in the mode it came in.
        """
        metric = self.metric
        metric.reset()
        self.use_classes(getattr(model, "trained_classes", None))
        merger = WindowMerger(self.slicing) if self.slicing else None
        was_training = model.training
        model.eval()
        start = time.perf_counter()
        # One thread collects a batch's detections while the model is at the next batch.
        with ThreadPoolExecutor(max_workers=1) as collector:
            collected = None
            for batch in progress(self.reader, "evaluate"):
                detections = model(batch)
                if collected:
                    collected.result()
                collected = collector.submit(collect, metric, *detections, batch, merger)
            if collected:
                collected.result()
        seconds = time.perf_counter() - start
        if was_training:
            model.train()
        shares = distributed.gather((metric.detections, metric.image_ids, seconds, len(self.reader.skipped)))
        if distributed.rank() != 0:
            return None
        for detections, image_ids, *_ in shares[1:]:
            metric.extend(detections, image_ids)
        return self.report(max(s[2] for s in shares), sum(s[3] for s in shares))

    def use_classes(self, classes: Optional[Classes]) -> None:
        """Number the classes as the model does that is evaluated next; None: as the data set itself does."""
        if classes == self.followed:
            return
        self.followed = classes
        if self.dataset.class_names != self.own_names:
            self.dataset.use_classes(self.own_names)
        follow(self.dataset, "EvalDataset", classes)
        self.metric.class_names, self.metric.category_ids = self.dataset.class_names, self.dataset.category_ids

    def report(self, seconds: float, skipped: int) -> Optional[dict[str, float]]:
        count = len(self.metric.image_ids)
        logger.info("evaluated %d images in %.1f s: %.2f images/s", count, seconds, count / max(seconds, 1e-9))
        if skipped:
            logger.warning("%d images could not be read and were left out", skipped)
        if self.output_eval:
            path = Path(self.output_eval) / "bbox.json"
            self.metric.save(path)
            logger.info("detections: %s", path)
        return None if self.predictions_only else self.log_table()

    def log_table(self) -> dict[str, float]:
        numbers = self.metric.compute()
        for line in self.metric.table().splitlines():
            logger.info("%s", line)
        return numbers

    def evaluate_file(self) -> dict[str, float]:
        """Numbers of an existing bbox.json, in `output_eval` or the working directory, over all images.

        Results with a `file_name`, as inference writes them, belong to the image of that name, whatever their id.

        Raises:
            DataError: it is missing, or not a list of COCO results of this data set.
        """
        path = Path(self.output_eval or ".") / "bbox.json"
        ids = self.ids_by_file()
        self.metric.reset()
        try:
            results = json.loads(read_text(path))
            for result in results:
                if "file_name" in result:
                    path_or_name = str(Path(result["file_name"]).resolve())
                    result["image_id"] = ids[path_or_name if path_or_name in ids else Path(path_or_name).name]
            self.metric.extend_results(results, [record["im_id"].item() for record in self.dataset.records])
            return self.log_table()
        except FileNotFoundError:
            raise DataError(f"{path}: no such file: write it with --output_eval first") from None
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: expected a list of COCO results of {self.dataset.anno_path}: {error!r}") from None

    def ids_by_file(self) -> dict[str, int]:
        """Image ids by resolved path, and by file name where no two images share it."""
        files = {str(Path(r["im_file"]).resolve()): r["im_id"].item() for r in self.dataset.records}
        names = Counter(Path(path).name for path in files)
        return {**{Path(p).name: i for p, i in files.items() if names[Path(p).name] == 1}, **files}


def collect(
    metric: COCOMetric, rows: Tensor, rows_per_image: Tensor, batch: dict, merger: Optional[WindowMerger]
) -> None:
    """Take a batch's detections from the device into the metric."""
    if merger is None:
        metric.update(rows.numpy(), rows_per_image.numpy(), batch["im_id"].numpy())
        return
    for image_id, found in rows_by_image(rows, rows_per_image, batch, merger):
        metric.update(found, [len(found)], [image_id])


def rows_by_image(
    rows: Tensor, rows_per_image: Tensor, batch: dict, merger: Optional[WindowMerger]
) -> list[tuple[int, np.ndarray]]:
    """Image id and rows (M, 6) of each image of a batch; with a merger, of each that is complete with this batch."""
    ids = batch["im_id"].numpy().tolist()
    found = np.split(rows.numpy(), np.cumsum(rows_per_image.numpy())[:-1])
    if merger is None:
        return list(zip(ids, found))
    return merger.add(ids, batch["window"].numpy(), batch["windows_left"].numpy(), found)


def progress(reader: BaseReader, title: str) -> Iterator[dict]:
    """The reader's batches, under a progress bar with ETA where a person watches rank 0's terminal.

    Where batches hold windows, their number is not known before all images are read: the bar counts images.
    """
    total, unit = (reader.image_count, "image") if reader.reads_windows else (len(reader), "batch")
    with tqdm(total=total, desc=title, unit=unit, leave=False, disable=not is_watched()) as bar:
        for batch in reader:
            yield batch
            if not bar.disable:
                bar.update(int((batch["windows_left"] == 0).sum()) if reader.reads_windows else 1)
