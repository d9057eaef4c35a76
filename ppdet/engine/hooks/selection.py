"""A warning when DenseTeacher selects too few locations."""

from typing import TYPE_CHECKING, Any

from ppdet.engine.hooks.base import Hook
from ppdet.utils.logger import get_logger

if TYPE_CHECKING:
    from ppdet.engine.trainer import Trainer

logger = get_logger(__name__)
STEPS = 50  # at the start of a run, over which locations are counted


class SelectionHook(Hook):
    """Warns once if the teacher selects a smaller share of locations than is positive in labelled images.

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
        if self.steps == STEPS:
            return
        self.positives = self.positives + trainer.losses["positives"].sum()
        self.locations += sum(batch["target_labels"].size for batch in trainer.batches)
        self.steps += 1
        if self.steps == STEPS:
            share = float(self.positives) / self.locations
            if self.ratio < share:
                logger.warning(
                    "%.1f %% of the locations of labelled images are positive, but DenseTeacher.train_cfg.ratio "
                    "selects %.1f %% of the unlabelled: what is not selected is learned as background; %.2f would be "
                    "safe",
                    *(100 * share, 100 * self.ratio, min(1.0, 2 * share)),
                )
