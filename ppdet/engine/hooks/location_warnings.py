"""Warnings about positive locations: none at all, a dead side of the boxes, or too few that a teacher selects."""

from typing import TYPE_CHECKING, Any

from paddle import Tensor

from ppdet.engine.distributed import collectives
from ppdet.engine.hooks.base import Hook
from ppdet.utils.logger import get_logger

if TYPE_CHECKING:
    from ppdet.engine.trainer import Trainer

logger = get_logger(__name__)
SIDES = ("left", "top", "right", "bottom")
DEAD_SHARE = 0.95  # share of zeros among a level's positives above which a side is dead
LEAST_POSITIVES = 50  # smallest number of positives of a level in a window for a warning
SELECTION_STEPS = 50  # number of steps at the start of training in which SelectionHook counts locations


class PositivesHook(Hook):
    """Warns when no location was positive in the first steps. Rank 0 checks its own batches.

    Args:
        steps: number of steps to look at, at least; the counts are read at log steps only.
        patience: as long as the images have no box at all, wait for this many steps.
    """

    def __init__(self, steps: int = 10, patience: int = 100) -> None:
        self.first, self.patience = steps, patience
        self.steps = self.images = 0
        self.positives: Any = 0  # on the device, as `boxes`
        self.boxes: Any = 0
        self.done = collectives.rank() != 0

    def after_step(self, trainer: "Trainer") -> None:
        if self.done or "positives" not in trainer.losses:
            return
        self.steps += 1
        self.images += sum(len(batch["im_id"]) for batch in trainer.batches)
        self.boxes = self.boxes + sum(boxes_in(batch) for batch in trainer.batches)
        self.positives = self.positives + trainer.losses["positives"].sum()
        if self.steps >= self.first and trainer.is_log_step:
            self._judge(last=False)

    def after_train(self, trainer: "Trainer") -> None:
        if not self.done and self.steps:
            self._judge(last=True)

    def _judge(self, *, last: bool) -> None:
        boxes = int(self.boxes)
        if boxes or last or self.steps >= self.patience:
            self.done = True
            if not int(self.positives):
                logger.warning("%s", no_positives(self.steps, self.images, boxes))


def boxes_in(batch: dict[str, Any]) -> int | Tensor:
    """Return the number of boxes of a training batch. Boxes that only pad a tensor have class -1."""
    labels = batch["gt_class"]
    return sum(len(rows) for rows in labels) if isinstance(labels, list) else (labels >= 0).sum()


def no_positives(steps: int, images: int, boxes: int) -> str:
    """Return the warning that no location was positive, with possible reasons."""
    seen = f"no location was positive in the first {steps} steps ({images} images with {boxes} boxes)"
    if not boxes:
        return (
            f"{seen}: images without boxes teach background alone: do transforms cut all boxes away, or are nearly all "
            "images empty (allow_empty, empty_ratio)?"
        )
    return (
        f"{seen}: nothing but background is learned. Look at train_batch.jpg: are there boxes, and on the objects? Are "
        "they in pixels, as [x, y, width, height]? Are they smaller than the first stride, or in none of the ranges of "
        "Gt2FCOSTarget.object_sizes_boundary?"
    )


class DeadSideHook(Hook):
    """Warns when the distance to one side is predicted as zero at nearly all positive locations of a level.

    Distances that pass through a ReLU get no gradient where they are zero: such a side never recovers, and the loss
    alone does not show it.

    Args:
        window: number of steps over which positives are counted, at least; counts are read at log steps only.
    """

    def __init__(self, window: int = 50) -> None:
        self.window = window
        self.steps = 0
        self.positives: Any = 0  # (levels,), on the device
        self.zeros: Any = 0  # (levels, 4), on the device
        self.warned: set[tuple[int, int]] = set()

    def after_step(self, trainer: "Trainer") -> None:
        if not {"positives", "zero_sides"} <= trainer.losses.keys():
            return
        self.positives = self.positives + trainer.losses["positives"]
        self.zeros = self.zeros + trainer.losses["zero_sides"]
        self.steps += 1
        if self.steps >= self.window and trainer.is_log_step:
            self._judge(trainer.model.locations.strides)
            self.steps = 0
            self.positives = self.zeros = 0

    def _judge(self, strides: tuple[int, ...]) -> None:
        positives, zeros = self.positives.numpy(), self.zeros.numpy()
        for level, stride in enumerate(strides):
            for side, name in enumerate(SIDES):
                dead = positives[level] >= LEAST_POSITIVES and zeros[level, side] > DEAD_SHARE * positives[level]
                if dead and (level, side) not in self.warned:
                    self.warned.add((level, side))
                    logger.warning(
                        "dead side: the %s distance of level P%d (stride %d) is zero at %d of %d positives in the last "
                        "%d steps, so it learns nothing any more. Boxes will miss that side. Start again with a lower "
                        "base_lr or a longer warm-up, or from trained weights",
                        *(name, stride.bit_length() - 1, stride, zeros[level, side], positives[level], self.steps),
                    )


class SelectionHook(Hook):
    """Warns once if the teacher selects a smaller share of locations than is positive in labeled images.

    Locations that are not selected are learned as background, so the student would unlearn objects. The published
    ratio, 0.01, suits COCO, where less than 1 % of the locations are positive; images full of large objects have ten
    times as many.

    Args:
        ratio: share of the locations that the teacher selects, 0 to 1.
    """

    def __init__(self, ratio: float) -> None:
        self.ratio = ratio
        self.positives: Any = 0.0  # on the device: reading it would wait
        self.locations = self.steps = 0

    def after_step(self, trainer: "Trainer") -> None:
        if self.steps == SELECTION_STEPS or "positives" not in trainer.losses:
            return
        self.positives = self.positives + trainer.losses["positives"].sum()
        self.locations += sum(batch["target_labels"].size for batch in trainer.batches)
        self.steps += 1
        if self.steps == SELECTION_STEPS:
            share = float(self.positives) / self.locations
            if self.ratio < share:
                logger.warning(
                    "%.1f %% of the locations of labeled images are positive, but DenseTeacher.train_cfg.ratio "
                    "selects %.1f %% of the unlabeled: what is not selected is learned as background; %.2f would be "
                    "safe, and auto follows the labeled images",
                    *(100 * share, 100 * self.ratio, min(1.0, 2 * share)),
                )
