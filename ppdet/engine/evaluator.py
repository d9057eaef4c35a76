"""COCO evaluation of a model, shared between ranks."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import paddle
from paddle import Tensor, nn
from tqdm import tqdm

from ppdet.core.config import Config
from ppdet.core.contracts import require_instance
from ppdet.data.classes import Classes, listed
from ppdet.data.image_size import image_size
from ppdet.data.loading.reader import BaseReader
from ppdet.deploy.slicing import Slicing, WindowMerger
from ppdet.engine.build import build_dataset, build_reader
from ppdet.engine.checkpoints.class_names import classes_of, use_classes_of_weights
from ppdet.engine.distributed import collectives
from ppdet.engine.training.data_warnings import is_same_file, warn_of_data, warn_of_leaks
from ppdet.engine.training.precision import Precision
from ppdet.metrics.coco_metric import COCOMetric
from ppdet.metrics.eval_metric import EvalMetric, compute_own
from ppdet.modeling.folding import UnchangedNorms
from ppdet.utils import device
from ppdet.utils.disk.files import read_text
from ppdet.utils.errors import ConfigError, DataError, ImageError
from ppdet.utils.formats.annotation_kinds import describe_json
from ppdet.utils.formats.coco_file import shown
from ppdet.utils.logger import get_logger, is_watched

logger = get_logger(__name__)


class Evaluator:
    """Evaluates models on EvalDataset; build it once and call it as often as needed.

    A model that remembers its classes (`build_trained_model`) decides their order: the data set's are mapped to them by
    name, with a warning where the names are others.

    Args:
        training: the reader of the training run whose model is evaluated. EvalDataset must have the same names of
            classes, or a DataError lists both sides; a warning tells of images that both have.
        classwise: the table has a row for each class as well.
        output_eval: folder for bbox.json; None writes none.
        predictions_only: write bbox.json (to output_eval, or the working directory) and compute nothing.
        slicing: detect in windows of the images; None takes them whole.
    """

    def __init__(
        self,
        cfg: Config,
        *,
        training: object | None = None,
        classwise: bool = False,
        output_eval: str | None = None,
        predictions_only: bool = False,
        slicing: Slicing | None = None,
    ) -> None:
        learned = training.dataset if training else None
        self.dataset = build_dataset(cfg, "EvalDataset", classes_of(learned, "TrainDataset") if learned else None)
        if learned:
            warn_of_leaks(self.dataset, learned, "TrainDataset")
        if hasattr(training, "unlabeled"):
            warn_of_leaks(self.dataset, training.unlabeled.dataset, "UnsupTrainDataset")
        if not (predictions_only or (learned and is_same_file(self.dataset, learned))):
            warn_of_data(self.dataset, "EvalDataset", training=False)
        self.precision = Precision(cfg, "eval_amp")
        self.own_names = list(self.dataset.class_names)
        self.reader = build_reader(cfg, "EvalReader", self.dataset)
        self.slicing = slicing
        if slicing:
            self.reader.read_windows(slicing.windows)
            logger.info("sliced: %s", slicing)
        self.followed: Classes | None = None
        self.predictions_only = predictions_only
        self.output_eval = output_eval or ("." if predictions_only else None)
        # Annotations that cannot be evaluated end the run here, not after the first epoch.
        try:
            self.metric = COCOMetric(
                anno_path=self.dataset.anno_path,
                category_ids=self.dataset.category_ids,
                class_names=self.dataset.class_names,
                classwise=classwise,
                records=self.dataset.records,
            )
        except ValueError as error:
            raise DataError(str(error)) from None
        self.own_metrics = cfg.create("eval_metrics")
        for index, own in enumerate(self.own_metrics):
            require_instance(own, EvalMetric, f"eval_metrics.{index}")

    @paddle.no_grad()
    def __call__(self, model: nn.Layer) -> dict[str, float] | None:
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
        with UnchangedNorms(), ThreadPoolExecutor(max_workers=1, initializer=device.here()) as collector:
            collected = None
            for batch in progress(self.reader, "evaluate"):
                with self.precision.forward():
                    detections = model(batch)
                if collected:
                    collected.result()
                collected = collector.submit(collect, metric, *detections, batch, merger)
            if collected:
                collected.result()
        seconds = time.perf_counter() - start
        if was_training:
            model.train()
        found = (metric.detections, metric.image_ids, metric.sizes)
        shares = collectives.gather((found, seconds, len(self.reader.skipped)))
        if collectives.rank() != 0:
            return None
        for found, *_ in shares[1:]:
            metric.extend(*found)
        return self.report(max(s[1] for s in shares), sum(s[2] for s in shares))

    def use_classes(self, classes: Classes | None) -> None:
        """Number the classes as the model does that is evaluated next; None: as the data set itself does."""
        if _content(classes) == _content(self.followed):
            return  # checkpoints of one run know the same classes, each from its own file
        self.followed = classes
        if self.dataset.class_names != self.own_names:
            self.dataset.use_classes(self.own_names)
        use_classes_of_weights(self.dataset, "EvalDataset", classes)
        self.metric.class_names, self.metric.category_ids = self.dataset.class_names, self.dataset.category_ids

    def report(self, seconds: float, skipped: int) -> dict[str, float] | None:
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
        for own in self.own_metrics:
            more = compute_own(own, self.metric)
            if more.keys() & numbers.keys():
                taken = ", ".join(sorted(more.keys() & numbers.keys()))
                raise ConfigError(f"eval_metrics: {type(own).__name__} gives numbers that another metric has: {taken}")
            logger.info("%s: %s", type(own).__name__, ", ".join(f"{name} {value:.4g}" for name, value in more.items()))
            numbers.update(more)
        return numbers

    def evaluate_file(self) -> dict[str, float]:
        """Numbers of an existing bbox.json, in `output_eval` or the working directory, over all images.

        Results with a `file_name`, as inference writes them, belong to the image of that name, and those with a
        `category_name` to the class of that name, whatever their ids.

        Raises:
            DataError: it is missing, or not a list of COCO results of this data set.
        """
        path = Path(self.output_eval or ".") / "bbox.json"
        try:
            results = json.loads(read_text(path))
        except FileNotFoundError:
            raise DataError(f"{path}: no such file: write it with --output_eval first") from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: not JSON: {error}") from None
        if not isinstance(results, list):
            raise DataError(f"{path}: {describe_json(results)}, expected a list of COCO results")
        self.name_images(results, path)
        results = self.name_classes(results, path)
        self.metric.reset()
        ids = [record["im_id"].item() for record in self.dataset.records]
        self.metric.extend_results(results, ids, self.sizes_of_files(), str(path))
        return self.log_table()

    def name_images(self, results: list, path: Path) -> None:
        """Give results with a `file_name` the id of the image that it names."""
        ids = self.ids_by_file()
        for number, result in enumerate(results):
            if not isinstance(result, dict):
                raise DataError(f"{path}: result {number} is {shown(result)}, expected an object of a COCO result")
            if "file_name" not in result:
                continue
            name = str(result["file_name"])
            place = os.path.realpath(name) if "\0" not in name else name
            image = ids.get(place, ids.get(os.path.basename(place)))
            if image is None:
                raise DataError(
                    f"{path}: result {number} is of {name}, which is no image of {self.dataset.anno_path}, "
                    "or the name of several"
                )
            result["image_id"] = image

    def name_classes(self, results: list[dict], path: Path) -> list[dict]:
        """Results with the category ids that EvalDataset gives to their `category_name`, where it has some of them."""
        ids = dict(zip(self.dataset.class_names, self.dataset.category_ids))
        found = {str(result["category_name"]) for result in results if "category_name" in result}
        if len(ids) < len(self.dataset.class_names):  # a name twice
            return results
        if not found & ids.keys():
            if not all(name.isdigit() for name in found):  # a model without names numbers its classes
                sides = listed(sorted(found)), listed(list(ids))
                logger.warning(
                    "%s: the results are of classes %s, and EvalDataset has %s: taken by category_id", path, *sides
                )
            return results
        named = [r for r in results if "category_name" not in r or str(r["category_name"]) in ids]
        for result in named:
            if "category_name" in result:
                result["category_id"] = ids[str(result["category_name"])]
        if len(named) < len(results):
            others = listed(sorted(found - ids.keys()))
            left_out = len(results) - len(named)
            logger.warning("%s: %d results are of classes that EvalDataset does not have: %s", path, left_out, others)
        return named

    def ids_by_file(self) -> dict[str, int]:
        """Image ids by resolved path, and by file name where no two images share it."""
        ids: dict[str, set[int]] = {}
        for record in self.dataset.records:
            path = os.path.realpath(record["im_file"])
            for name in {path, os.path.basename(path)}:
                ids.setdefault(name, set()).add(record["im_id"].item())
        return {name: found.pop() for name, found in ids.items() if len(found) == 1}

    def sizes_of_files(self) -> dict[int, tuple[int, int]]:
        """Height and width of the images by id, where their files are here."""
        sizes = {}
        for record in self.dataset.records:
            with contextlib.suppress(ImageError):
                expected = (record["h"], record["w"]) if "h" in record else None
                sizes[record["im_id"].item()] = image_size(record["im_file"], expected)
        return sizes


def _content(classes: Classes | None) -> tuple | None:
    return (classes.names, classes.category_ids) if classes else None


def collect(metric: COCOMetric, rows: Tensor, rows_per_image: Tensor, batch: dict, merger: WindowMerger | None) -> None:
    """Take a batch's detections from the device into the metric."""
    sizes = image_sizes(batch)
    if merger is None:
        ids = batch["im_id"].numpy()
        metric.update(rows.numpy(), rows_per_image.numpy(), ids, [sizes[image] for image in ids.tolist()])
        return
    for image_id, found in rows_by_image(rows, rows_per_image, batch, merger):
        metric.update(found, [len(found)], [image_id], [sizes[image_id]])


def image_sizes(batch: dict) -> dict[int, tuple[int, int]]:
    """Height and width in pixels of the images of a batch, by id; of windows, those of images that end in it."""
    ids = batch["im_id"].numpy().tolist()
    if "window" in batch:
        # The last window is the one at the bottom on the right.
        windows, left = batch["window"].numpy().tolist(), batch["windows_left"].numpy().tolist()
        return {image: (y2, x2) for image, (_, _, x2, y2), more in zip(ids, windows, left) if not more}
    sizes = np.rint(batch["im_shape"].numpy() / batch["scale_factor"].numpy()).astype(np.int64)
    return dict(zip(ids, map(tuple, sizes.tolist())))


def rows_by_image(
    rows: Tensor, rows_per_image: Tensor, batch: dict, merger: WindowMerger | None
) -> list[tuple[int, np.ndarray]]:
    """Image id and rows (M, 6) of each image of a batch; with a merger, of each that is complete with this batch."""
    ids = batch["im_id"].numpy().tolist()
    found = np.split(rows.numpy(), np.cumsum(rows_per_image.numpy())[:-1])
    if merger is None:
        return list(zip(ids, found))
    return merger.add(ids, batch["window"].numpy(), batch["windows_left"].numpy(), found)


def progress(reader: BaseReader, title: str) -> Iterator[dict]:
    """The reader's batches, under a bar of the images with ETA where a person watches rank 0's terminal."""
    with tqdm(total=reader.image_count, desc=title, unit="image", leave=False, disable=not is_watched()) as bar:
        for batch in reader:
            yield batch
            if not bar.disable:
                bar.update(int((batch["windows_left"] == 0).sum()) if reader.reads_windows else len(batch["im_id"]))
