"""A warning when the first steps of a run have no positive location, so that only background is learned."""

from typing import TYPE_CHECKING, Any

from paddle import Tensor

from ppdet.engine.distributed import collectives
from ppdet.engine.hooks.base import Hook
from ppdet.utils.logger import get_logger

if TYPE_CHECKING:
    from ppdet.engine.trainer import Trainer

logger = get_logger(__name__)


class PositivesHook(Hook):
    """Warns when no location was positive in the first steps. Rank 0 looks at its own batches.

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
        boxes, positives = int(self.boxes), int(self.positives)
        if not boxes and self.steps < self.patience and not last:
            return
        self.done = True
        if not positives:
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
