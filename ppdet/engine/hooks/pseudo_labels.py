"""The quality of the teacher's pseudo-labels, in figures and a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle
import paddle.nn.functional as F

from ppdet.data.classes import mismatch
from ppdet.data.loading.semi_reader import SemiTrainReader
from ppdet.data.sources.coco_dataset import COCODataSet
from ppdet.data.sources.dataset import DetectionDataset
from ppdet.engine.checkpoints.class_names import classes_of
from ppdet.engine.distributed import collectives
from ppdet.engine.hooks.auto_ratio import AutoRatioHook
from ppdet.engine.hooks.base import Hook
from ppdet.engine.hooks.picture import normalization
from ppdet.metrics.pseudo_label_quality import Selected, Truth, measure
from ppdet.modeling.architectures.base import DenseMaps
from ppdet.modeling.losses.dense_teacher_loss import join_locations, select_locations
from ppdet.utils.boxes import clip_to_image
from ppdet.utils.errors import DataError
from ppdet.utils.locations import Locations
from ppdet.utils.logger import get_logger
from ppdet.visualize import draw_pseudo_labels, write_picture

if TYPE_CHECKING:
    from ppdet.engine.trainer import Trainer

logger = get_logger(__name__)
FOLDER = "pseudo_labels"
DRAWN = 4  # images in a picture
TEXTS = {
    "fg_sum": "fg_sum {:.1f}",
    "mean_score": "mean score {:.3f}",
    "precision": "precision {:.3f}",
    "recall": "recall {:.3f}",
    "box_iou": "box IoU {:.3f}",
}


class PseudoLabelHook(Hook):
    """Measures the pseudo-labels of some unlabeled images, always the same ones, and draws them.

    Rank 0 does so after every epoch that writes a checkpoint, and before training if the teacher is trained already
    (pretrained or resumed). EvalReader prepares the images. Of all their locations the teacher selects the share
    DenseTeacher.train_cfg.ratio, as SSODFCOSLoss does in each training batch. If it is `auto`, the shares are unknown
    before the first step, and nothing is measured then, unless a resumed run knows them from its checkpoint. Errors are
    logged, and training continues.

    If UnsupTrainDataset's file has annotations, the pseudo-labels are compared with them. Training never sees these
    annotations; they only decide which images are measured.

    The figures of `ppdet.metrics.pseudo_label_quality.measure` and the picture, pseudo_labels/epoch_0005.jpg, also go
    to the event `after_pseudo_labels`.

    Args:
        epochs: epochs between two checkpoints; the last epoch always has one.
        images: number of images: the first ones of the data set, or the first ones that have annotations. The picture
            shows four of them.
    """

    def __init__(self, *, epochs: int, images: int = 16) -> None:
        self.epochs = epochs
        self.images = images
        self.reader: Any = None
        self.truth: dict[int, Truth] = {}  # boxes and classes by image id, in pixels of the image file

    def writes(self, trainer: "Trainer") -> list[str]:
        due = [epoch for epoch in range(trainer.epoch + 1, trainer.epochs + 1) if self.is_due(trainer, epoch)]
        now = [picture_name(trainer.epoch, trainer.first_step)] if can_measure_at_start(trainer) else []
        names = [picture_name(epoch) for epoch in due]
        return [*now, *([f"{names[0]} to {Path(names[-1]).name}"] if len(names) > 2 else names)]

    def is_due(self, trainer: "Trainer", epoch: int) -> bool:
        return epoch % self.epochs == 0 or epoch == trainer.epochs

    def before_train(self, trainer: "Trainer") -> None:
        if can_measure_at_start(trainer):
            self.measure_on_rank_0(trainer, trainer.epoch, trainer.first_step)

    def after_epoch(self, trainer: "Trainer") -> None:
        if self.is_due(trainer, trainer.epoch + 1):
            self.measure_on_rank_0(trainer, trainer.epoch + 1)

    def measure_on_rank_0(self, trainer: "Trainer", epoch: int, step: int = 0) -> None:
        """Measure on rank 0 after `epoch` epochs and `step` steps of the next one, while the other ranks wait."""
        if collectives.rank() == 0:
            self._report(trainer, epoch, step)
        collectives.wait_for_all()

    def _report(self, trainer: "Trainer", epoch: int, step: int) -> None:
        when = f"after epoch {epoch}" + (f" and {step} steps" if step else "") if epoch or step else "before training"
        try:
            figures, picture = self.measure(trainer, when)
        # No error of this measurement is worth the run.
        except Exception as error:
            text = str(error) or repr(error)
            logger.error("pseudo-labels could not be measured %s: %s; training continues", when, text)
            return
        images = len(self.reader.dataset) - len(self.reader.skipped)
        line = f"pseudo-labels of {images} images {when}: {', '.join(format_figures(figures))}"
        path = trainer.output / picture_name(epoch, step)
        try:
            write_picture(picture, path)
        except OSError as error:
            logger.info("%s", line)
            logger.error("%s could not be written: %s", path, error)
        else:
            logger.info("%s; picture: %s", line, path)
        trainer.call_hooks("after_pseudo_labels", figures, picture)

    def measure(self, trainer: "Trainer", when: str) -> tuple[dict[str, float], np.ndarray]:
        """Return figures and a picture, (H, W, 3) uint8 RGB. `when` becomes its title.

        Raises:
            DataError, ValueError, RuntimeError: the images, or EvalReader, do not fit the network.
        """
        if self.reader is None:
            self._build_reader(trainer)
        model, layer = trainer.model, trainer.method.layer
        maps: list[DenseMaps] = []
        images: list[np.ndarray] = []
        truth: list[Truth] = []
        for batch in self.reader:
            maps.append(layer.pseudo_labels(batch["image"]))
            images += list(batch["image"][: DRAWN - len(images)].numpy()) if len(images) < DRAWN else []
            # Height, then width; a box has x, then y.
            ids = batch["im_id"].flatten().tolist()
            scales, shapes = batch["scale_factor"].numpy(), batch["im_shape"].numpy()
            for number, scale, (height, width) in zip(ids, scales, shapes):
                boxes, classes = self.truth.get(number, (np.zeros((0, 4)), np.zeros(0, np.int64)))
                boxes, inside = clip_to_image(boxes * scale[[1, 0, 1, 0]], height, width)
                truth.append((boxes[inside], classes[inside]))
        if not maps:
            raise DataError("none of the unlabeled images could be read")
        selected = select(maps, layer.loss.ratio, model.locations)
        known = truth if self.truth else None
        figures = measure(selected, known)
        dots = np.column_stack([selected.points, selected.level])
        picture = draw_pseudo_labels(
            images,
            [dots[selected.image == number] for number in range(len(images))],
            strides=model.locations.strides,
            **normalization(self.reader),
            title=[when, *format_figures(figures)],
            truth=known,
        )
        return figures, picture

    def _build_reader(self, trainer: "Trainer") -> None:
        """Choose the images, and read their annotations."""
        assert isinstance(trainer.reader, SemiTrainReader)
        dataset = trainer.reader.unlabeled.dataset
        records = {int(record["im_id"].item()): record for record in dataset.records}  # each once, even with `repeat`
        truth = read_truth(dataset, trainer.reader.dataset)
        ids = ([number for number in records if number in truth] or list(records))[: self.images]
        chosen = DetectionDataset()
        chosen.records = [records[number] for number in ids]
        reader = trainer.cfg.create("EvalReader", dataset=chosen, worker_num=0, seed=trainer.seed)
        if not reader.sample_transforms:
            raise DataError("EvalReader.sample_transforms is not set; they prepare the images")
        reader.max_unreadable = 1.0  # images that cannot be read are left out, without an error
        self.reader, self.truth = reader, {number: truth[number] for number in ids if number in truth}


def can_measure_at_start(trainer: "Trainer") -> bool:
    """Whether the teacher is trained before the first step, and it is known how many locations it selects."""
    is_unknown = any(isinstance(hook, AutoRatioHook) and hook.ratio is None for hook in trainer.hooks)
    return bool(trainer.pretrained or trainer.resumed_from) and not is_unknown


def picture_name(epoch: int, step: int = 0) -> str:
    """Return the picture's path in the run's folder, after `epoch` epochs and `step` steps of the next one."""
    return f"{FOLDER}/epoch_{epoch:04d}{f'_step_{step}' if step else ''}.jpg"


def format_figures(figures: dict[str, float]) -> list[str]:
    """Return the figures as words for the log and the picture's title."""
    return [TEXTS[name].format(value) for name, value in figures.items()]


def read_truth(dataset: DetectionDataset, labeled: DetectionDataset) -> dict[int, Truth]:
    """Return the annotations in an unlabeled data set's file, by image id; images without any are left out.

    Args:
        labeled: the data set that determines the classes.
    """
    if not (isinstance(dataset, COCODataSet) and dataset.anno_path):
        logger.info("pseudo-labels: the unlabeled images have no annotation file to judge them by")
        return {}
    logger.info("pseudo-labels: annotations of %s are read to judge them, not to train", dataset.anno_path)
    try:
        annotated = COCODataSet(
            image_dir=dataset.image_dir, anno_path=dataset.anno_path, data_fields=["image", "gt_bbox", "gt_class"]
        )
    except DataError as error:
        logger.info("pseudo-labels: quality not measured: %s", error)
        return {}
    problem = mismatch(annotated.class_names, dataset.anno_path, classes_of(labeled, "TrainDataset"))
    if problem:
        logger.info("pseudo-labels: quality not measured: the annotations have other classes: %s", problem)
        return {}
    annotated.use_classes(labeled.class_names)
    return {int(r["im_id"].item()): (r["gt_bbox"], r["gt_class"].reshape(-1)) for r in annotated.records}


@paddle.no_grad()
def select(maps: Sequence[DenseMaps], ratio: float | Sequence[float], locations: Locations) -> Selected:
    """Select locations as `SSODFCOSLoss` does, out of those of several batches.

    Args:
        maps: predictions for batches of images, distances in pixels.
        ratio: a share of all locations, or a share for each class, see `select_locations`.
        locations: the grid of the maps.
    """
    logits = paddle.concat([join_locations(batch.logits) for batch in maps])
    distances = paddle.concat([join_locations(batch.distances) for batch in maps])
    places, first = [], 0
    for batch in maps:
        images = np.arange(batch.logits[0].shape[0]) + first
        for level, grid in enumerate(locations.levels_of(batch.logits)):
            points = grid.points()
            columns = np.repeat(images, len(points)), np.full(len(images) * len(points), level)
            places.append(np.column_stack([*columns, np.tile(points, (len(images), 1))]).astype(np.float32))
        first += len(images)
    index = select_locations(logits, ratio)
    probabilities = F.sigmoid(logits.gather(index)).numpy()
    scores, labels = probabilities.max(axis=1), probabilities.argmax(axis=1)
    order = np.argsort(-scores, kind="stable")
    index = index.numpy()[order]
    chosen = np.concatenate(places)[index]
    image, level = chosen[:, :2].astype(np.int64).T
    points, sides = chosen[:, 2:], distances.numpy()[index]
    boxes = np.concatenate([points - sides[:, :2], points + sides[:, 2:]], axis=1)
    return Selected(image, level, labels[order], scores[order], points, boxes)
