"""DenseTeacher's ratio from the data: each class's share of positive locations in labeled images."""

from typing import TYPE_CHECKING, Any

import paddle
from paddle import Tensor

from ppdet.engine.distributed import collectives
from ppdet.engine.hooks.base import Hook
from ppdet.modeling.losses import SSODFCOSLoss
from ppdet.utils.logger import get_logger

if TYPE_CHECKING:
    from ppdet.engine.trainer import Trainer

logger = get_logger(__name__)
MARGIN = 2.0  # locations that the teacher selects per positive location of labeled images
DECAY = 0.99  # of the moving average in a step: it remembers about 100 steps
INTERVAL = 32  # steps between two readings of the average, after the first ones


class AutoRatioHook(Hook):
    """Sets the share of locations that the teacher selects for each class: twice its share of positives.

    Locations that are not selected are learned as background, so too few cost more than too many: the loss at a
    selected location is weighted by the teacher's own scores there. One share for all classes would select those that
    are frequent or found easily, and the student would unlearn the others.

    A class's share is (number of its positives) / (number of locations) in labeled images, where both numbers are sums
    over the labeled batches of all ranks in which a step counts 0.99 times as much as the next one. The first batch
    therefore gives the first value. The average is read in steps 1, 2, 4, 8, 16 and 32, and in every 32nd step after
    these, since reading makes the host wait for the device.

    Args:
        num_classes: number of classes, C.

    Attributes:
        counts: (C + 1,) float32, the sums of each class's positives and that of locations, on the device.
        steps: number of steps that the sums contain.
        ratio: the C shares that were set last, each from 0 to 1; None before the first step.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts: Tensor | None = None
        self.steps = 0
        self.ratio: list[float] | None = None

    def before_train(self, trainer: "Trainer") -> None:
        loss_of(trainer).ratio = self.ratio  # of the checkpoint, if there is one

    def before_step(self, trainer: "Trainer") -> None:
        counts = collectives.sum_over_ranks(count_positives(trainer.batches, self.num_classes))
        self.counts = counts if self.counts is None else self.counts * DECAY + counts
        self.steps += 1
        if self.steps % INTERVAL == 0 or (self.steps < INTERVAL and self.steps.bit_count() == 1):
            *positives, locations = self.counts.tolist()
            self.ratio = [min(1.0, MARGIN * number / locations) for number in positives]
            loss_of(trainer).ratio = self.ratio

    def state(self) -> dict[str, Any] | None:
        if self.counts is None:
            return None
        return {"counts": self.counts.numpy(), "steps": self.steps, "ratio": self.ratio}

    def load_state(self, state: dict[str, Any]) -> None:
        if len(state["counts"]) != self.num_classes + 1:
            logger.info(
                "DenseTeacher.train_cfg.ratio: the checkpoint has no share for each class; they are counted anew"
            )
            return
        self.counts = paddle.to_tensor(state["counts"], dtype="float32")
        self.steps, self.ratio = state["steps"], state["ratio"]


def loss_of(trainer: "Trainer") -> SSODFCOSLoss:
    """Return the loss on unlabeled images, whose ratio is set."""
    return trainer.method.layer.loss


def count_positives(batches: list[dict[str, Any]], num_classes: int) -> Tensor:
    """Return the number of each class's positive locations in labeled batches and that of all, (C + 1,) float32."""
    labels = [batch["target_labels"] for batch in batches]
    classes = paddle.arange(1, num_classes + 1, dtype=labels[0].dtype)
    positives = sum((values.reshape([-1, 1]) == classes).astype("float32").sum(axis=0) for values in labels)
    return paddle.concat([positives, paddle.full([1], sum(values.size for values in labels), "float32")])
