"""Evaluating a model on a data set, with the images shared between ranks."""

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
from ppdet.data.classes import Classes
from ppdet.data.loading.reader import BaseReader
from ppdet.data.loading.semi_reader import SemiTrainReader
from ppdet.deploy.slicing import Slicing, WindowMerger
from ppdet.deploy.tta import TTA, Suppression, ViewMerger, check_alone
from ppdet.engine.build import TrainingReader, build_dataset, build_reader, build_trained_model
from ppdet.engine.checkpoints.class_names import classes_of, use_classes_of_weights
from ppdet.engine.distributed import collectives
from ppdet.engine.results_file import image_sizes_by_id, read_results_file
from ppdet.engine.training.data_warnings import is_same_file, warn_of_data, warn_of_leaks
from ppdet.engine.training.precision import Precision
from ppdet.metrics.coco_metric import COCOMetric
from ppdet.metrics.eval_metric import EvalMetric, check_number_names, compute_own, require_new_names
from ppdet.modeling.folding import CachedFolds
from ppdet.utils import device
from ppdet.utils.errors import DataError
from ppdet.utils.logger import get_logger, is_watched
from ppdet.utils.printable import counted

logger = get_logger(__name__)
RESULTS = "bbox.json"
Merger = WindowMerger | ViewMerger


class Evaluator:
    """Evaluates models on EvalDataset: COCO's metrics, and the metrics in `eval_metrics`.

    In Python:

        cfg = ppdet.load_config("output/NAME/config.yml", {"weights": "output/NAME/best_model"})
        ap = ppdet.Evaluator(cfg)()["AP"]

    The classes of the data set are put into the order of the model's, see `use_classes_of_weights`.

    Args:
        cfg: the configuration, with EvalDataset and EvalReader.
        training: the reader of the training run whose model is evaluated. EvalDataset must then have the classes of its
            data set, and a warning tells which images are in both.
        classwise: the logged table also has a row for each class.
        output_eval: folder for the detections, bbox.json; None does not write it.
        predictions_only: write bbox.json, to `output_eval` or the working directory, and compute no numbers.
        slicing: detect in windows of the images; None takes whole images.
        tta: detect in several views of each image (test-time augmentation); None takes images as they are.

    Raises:
        ConfigError: the configuration has no EvalDataset, num_classes does not fit, or two of `eval_metrics` have
            numbers of one name.
        DataError: the annotations cannot be read or evaluated.
    """

    def __init__(
        self,
        cfg: Config,
        *,
        training: TrainingReader | None = None,
        classwise: bool = False,
        output_eval: str | None = None,
        predictions_only: bool = False,
        slicing: Slicing | None = None,
        tta: TTA | None = None,
    ) -> None:
        self.cfg = cfg
        learned = training.dataset if training else None
        self.dataset = build_dataset(cfg, "EvalDataset", classes_of(learned, "TrainDataset") if learned else None)
        if learned:
            warn_of_leaks(self.dataset, learned, "TrainDataset")
        if isinstance(training, SemiTrainReader):
            warn_of_leaks(self.dataset, training.unlabeled.dataset, "UnsupTrainDataset")
        if not (predictions_only or (learned and is_same_file(self.dataset, learned))):
            warn_of_data(self.dataset, "EvalDataset", training=False)
        self.precision = Precision(cfg, "eval_amp")
        self.own_names = list(self.dataset.class_names)
        self.reader = build_reader(cfg, "EvalReader", self.dataset)
        self.slicing, self.tta = slicing, tta
        read_parts(self.reader, slicing, tta)
        if slicing:
            logger.info("sliced: %s", slicing)
        if tta:
            logger.info("test-time augmentation: %s", tta)
        self.model_classes: Classes | None = None
        self.predictions_only = predictions_only
        self.output_eval = output_eval or ("." if predictions_only else None)
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
        check_number_names(self.own_metrics, cfg["best_by"] if training else None)

    @paddle.no_grad()
    def __call__(self, model: nn.Layer | None = None) -> dict[str, float] | None:
        """Detect in every image, each rank in its share of them, and log the table.

        Args:
            model: a `DenseDetector`, whose mode stays as it was; None builds the one of the configuration with its
                `weights`.

        Returns:
            Numbers by name, such as AP, from 0 to 1, on rank 0; None on other ranks and with `predictions_only`.
        """
        model = build_trained_model(self.cfg) if model is None else model
        metric = self.metric
        metric.reset()
        self.use_classes(getattr(model, "trained_classes", None))
        start = time.perf_counter()
        merger = merger_of(model, self.slicing, self.tta)
        detect_into(metric, model, self.reader, self.precision, merger)
        seconds = time.perf_counter() - start
        detections = (metric.detections, metric.image_ids, metric.sizes)
        shares = collectives.gather((detections, seconds, len(self.reader.skipped)))
        if collectives.rank() != 0:
            return None
        for detections, *_ in shares[1:]:
            metric.extend(*detections)
        return self.report(max(share[1] for share in shares), sum(share[2] for share in shares))

    def use_classes(self, classes: Classes | None) -> None:
        """Put the classes into the order of the model that is evaluated next; None restores the data set's own order.

        If the model's classes equal the previous model's, nothing is done and no warning is repeated.
        """
        before = self.model_classes
        if classes == before or (classes and before and classes._replace(source=before.source) == before):
            return
        self.model_classes = classes
        if self.dataset.class_names != self.own_names:
            self.dataset.use_classes(self.own_names)
        use_classes_of_weights(self.dataset, "EvalDataset", classes)
        self.metric.class_names, self.metric.category_ids = self.dataset.class_names, self.dataset.category_ids

    def report(self, seconds: float, skipped: int) -> dict[str, float] | None:
        """Log how long the evaluation took, write bbox.json if asked, and compute and log the numbers."""
        count = len(self.metric.image_ids)
        speed = count / max(seconds, 1e-9)
        logger.info("evaluated %s in %.1f s: %.2f images/s", counted(count, "image"), seconds, speed)
        if skipped:
            logger.warning("%d images could not be read and were left out", skipped)
        if self.output_eval:
            path = Path(self.output_eval) / RESULTS
            self.metric.save(path)
            logger.info("detections: %s", path)
        return None if self.predictions_only else self.compute()

    def compute(self) -> dict[str, float]:
        """Compute the numbers of the collected detections, and log them.

        Raises:
            ConfigError: one of `eval_metrics` returns a number under the name of another one.
        """
        numbers = self.metric.compute()
        for line in self.metric.table().splitlines():
            logger.info("%s", line)
        for own in self.own_metrics:
            more = compute_own(own, self.metric)
            require_new_names(own, numbers, more)
            logger.info("%s: %s", type(own).__name__, ", ".join(f"{name} {value:.4g}" for name, value in more.items()))
            numbers.update(more)
        return numbers

    def evaluate_file(self) -> dict[str, float]:
        """Evaluate an existing bbox.json, in `output_eval` or the working directory, over all images of the data set.

        Raises:
            DataError: the file cannot be used, see `read_results_file`.
        """
        path = Path(self.output_eval or ".") / RESULTS
        results = read_results_file(path, self.dataset)
        self.metric.reset()
        ids = [record["im_id"].item() for record in self.dataset.records]
        self.metric.extend_results(results, ids, image_sizes_by_id(self.dataset), str(path))
        return self.compute()


@paddle.no_grad()
def detect_into(
    metric: COCOMetric, model: nn.Layer, reader: BaseReader, precision: Precision, merger: Merger | None = None
) -> None:
    """Detect in the images of a reader, and add what is found to the metric. The model's mode stays as it was."""
    was_training = model.training
    model.eval()
    # A thread copies the detections of one batch from the device while the model computes the next batch.
    with CachedFolds(), ThreadPoolExecutor(max_workers=1, initializer=device.thread_initializer()) as copier:
        copied = None
        for batch in progress(reader, "evaluate"):
            with precision.forward():
                rows, rows_per_image = model(batch)
            if copied:
                copied.result()
            copied = copier.submit(add_batch, metric, rows, rows_per_image, batch, merger)
        if copied:
            copied.result()
    if was_training:
        model.train()


def add_batch(
    metric: COCOMetric, rows: Tensor, rows_per_image: Tensor, batch: dict[str, Tensor], merger: Merger | None
) -> None:
    """Add the detections of a batch to the metric."""
    sizes = image_sizes(batch)
    for image_id, found in rows_by_image(rows, rows_per_image, batch, merger):
        metric.update(found, [len(found)], [image_id], [sizes[image_id]])


def image_sizes(batch: dict[str, Tensor]) -> dict[int, tuple[int, int]]:
    """Return (height, width) in pixels of the original images of a batch, by image id.

    For a batch of windows: only the images whose last window, at the bottom right, is in this batch.
    """
    ids = batch["im_id"].numpy().tolist()
    if "window" in batch:
        windows, left = batch["window"].numpy().tolist(), batch["windows_left"].numpy().tolist()
        return {image: (y2, x2) for image, (_, _, x2, y2), more in zip(ids, windows, left) if not more}
    sizes = np.rint(batch["im_shape"].numpy() / batch["scale_factor"].numpy()).astype(np.int64)
    return dict(zip(ids, map(tuple, sizes.tolist())))


def read_parts(reader: BaseReader, slicing: Slicing | None, tta: TTA | None) -> None:
    """Make a reader read windows or views of images, in place of whole images.

    Raises:
        DeployError: both are asked for.
    """
    check_alone(tta, slicing)
    if slicing:
        reader.read_windows(slicing.windows)
    if tta:
        reader.read_views(tta.views)


def merger_of(model: nn.Layer, slicing: Slicing | None, tta: TTA | None) -> Merger | None:
    """What merges the detections in windows or views of an image; None for whole images."""
    if tta:
        return ViewMerger(tta, Suppression.of(model.nms))
    return WindowMerger(slicing) if slicing else None


def rows_by_image(
    rows: Tensor, rows_per_image: Tensor, batch: dict[str, Tensor], merger: Merger | None
) -> list[tuple[int, np.ndarray]]:
    """Split the detections of a batch.

    Args:
        rows, rows_per_image: see `DenseDetector.detect`.
        merger: collects the detections of windows or views; None for batches of whole images.

    Returns:
        (image id, rows (M, 6)) of each image; with a merger, of each image whose last window or view is in this batch.
    """
    ids = batch["im_id"].numpy().tolist()
    found = np.split(rows.numpy(), np.cumsum(rows_per_image.numpy())[:-1])
    if merger is None:
        return list(zip(ids, found))
    if isinstance(merger, ViewMerger):
        return merger.add(ids, batch["views_left"].numpy().tolist(), image_sizes(batch), found)
    return merger.add(ids, batch["window"].numpy(), batch["windows_left"].numpy(), found)


def progress(reader: BaseReader, title: str) -> Iterator[dict[str, Tensor]]:
    """Yield the reader's batches, and show a progress bar of images if rank 0 writes to a terminal."""
    with tqdm(total=reader.image_count, desc=title, unit="image", leave=False, disable=not is_watched()) as bar:
        for batch in reader:
            yield batch
            if not bar.disable:
                left = batch.get("windows_left", batch.get("views_left"))
                bar.update(len(batch["im_id"]) if left is None else int((left == 0).sum()))
