"""A look at whether DenseTeacher selects enough."""

from ppdet.engine.hooks.base import Hook
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
STEPS = 50  # that are looked at


class SelectionHook(Hook):
    """Warns once when the teacher selects fewer locations than are positive in labelled images.

    What is not selected is learned as background, so that the student would unlearn objects. The published ratio, 0.01,
    suits COCO, where less than 1 % of the locations are positive; a crowd of large objects has ten times as many.

    Args:
        ratio: share of the locations that is selected.
    """

    def __init__(self, ratio: float) -> None:
        self.ratio = ratio
        self.positives, self.locations, self.steps = 0.0, 0, 0

    def after_step(self, trainer: object) -> None:
        if self.steps == STEPS:
            return
        # Added up on the device: reading would wait for it.
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
