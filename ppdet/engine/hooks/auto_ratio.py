"""DenseTeacher's ratio from the data: the share of positive locations in labeled images."""

from typing import TYPE_CHECKING, Any

import paddle
from paddle import Tensor

from ppdet.engine.distributed import collectives
from ppdet.engine.hooks.base import Hook
from ppdet.modeling.losses import SSODFCOSLoss

if TYPE_CHECKING:
    from ppdet.engine.trainer import Trainer

MARGIN = 2.0  # locations that the teacher selects per positive location of labeled images
DECAY = 0.99  # of the moving average in a step: it remembers about 100 steps
INTERVAL = 32  # steps between two readings of the average, after the first ones


class AutoRatioHook(Hook):
    """Sets the share of locations that the teacher selects: twice the share of positives in labeled images.

    Locations that are not selected are learned as background, so too few cost more than too many: the loss at a
    selected location is weighted by the teacher's own scores there.

    The share is (number of positives) / (number of locations), where both numbers are sums over the labeled batches of
    all ranks in which a step counts 0.99 times as much as the next one. The first batch therefore gives the first
    value. The average is read in steps 1, 2, 4, 8, 16 and 32, and in every 32nd step after these, since reading makes
    the host wait for the device.

    Attributes:
        counts: (2,) float32, the sums of positives and of locations, on the device.
        steps: number of steps that the sums contain.
        ratio: the share that was set last, from 0 to 1; None before the first step.
    """

    def __init__(self) -> None:
        self.counts: Tensor | None = None
        self.steps = 0
        self.ratio: float | None = None

    def before_train(self, trainer: "Trainer") -> None:
        loss_of(trainer).ratio = self.ratio  # of the checkpoint, if there is one

    def before_step(self, trainer: "Trainer") -> None:
        counts = collectives.sum_over_ranks(count_positives(trainer.batches))
        self.counts = counts if self.counts is None else self.counts * DECAY + counts
        self.steps += 1
        if self.steps % INTERVAL == 0 or (self.steps < INTERVAL and self.steps.bit_count() == 1):
            positives, locations = self.counts.tolist()
            self.ratio = min(1.0, MARGIN * positives / locations)
            loss_of(trainer).ratio = self.ratio

    def state(self) -> dict[str, Any] | None:
        if self.counts is None:
            return None
        return {"counts": self.counts.numpy(), "steps": self.steps, "ratio": self.ratio}

    def load_state(self, state: dict[str, Any]) -> None:
        self.counts = paddle.to_tensor(state["counts"], dtype="float32")
        self.steps, self.ratio = state["steps"], state["ratio"]


def loss_of(trainer: "Trainer") -> SSODFCOSLoss:
    """Return the loss on unlabeled images, whose ratio is set."""
    return trainer.method.layer.loss


def count_positives(batches: list[dict[str, Any]]) -> Tensor:
    """Return the number of positive locations in labeled batches and that of all locations, (2,) float32."""
    labels = [batch["target_labels"] for batch in batches]
    positives = sum((values > 0).sum() for values in labels).astype("float32")
    return paddle.stack([positives, paddle.full([], sum(values.size for values in labels), "float32")])
