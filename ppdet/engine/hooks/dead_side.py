"""A watch on sides that stop learning."""

from ppdet.engine.hooks.base import Hook
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)


class DeadSideHook(Hook):
    """Warns when a side is predicted as zero at nearly all positives of a level.

    Distances that pass through ReLU get no gradient where they are zero: such a side stays dead, and the loss alone
    does not show it.

    Args:
        window: steps, at least, over which positives are counted. share: of zeros that raises the warning.
        least: positives that a level must have had in a window to be judged.
    """

    SIDES = ("left", "top", "right", "bottom")

    def __init__(self, window: int = 50, share: float = 0.95, least: int = 50) -> None:
        self.window = window
        self.share = share
        self.least = least
        self.steps = 0
        self.positives = self.zeros = 0
        self.warned: set[tuple[int, int]] = set()

    def after_step(self, trainer: object) -> None:
        if "zero_sides" not in trainer.losses:
            return
        self.positives = self.positives + trainer.losses["positives"]
        self.zeros = self.zeros + trainer.losses["zero_sides"]
        self.steps += 1
        if self.steps >= self.window and trainer.is_log_step:
            self.judge(trainer.model.locations.strides)
            self.steps = 0
            self.positives = self.zeros = 0

    def judge(self, strides: tuple[int, ...]) -> None:
        positives, zeros = self.positives.numpy(), self.zeros.numpy()
        for level, stride in enumerate(strides):
            for side, name in enumerate(self.SIDES):
                dead = positives[level] >= self.least and zeros[level, side] > self.share * positives[level]
                if dead and (level, side) not in self.warned:
                    self.warned.add((level, side))
                    logger.warning(
                        "dead side: the %s distance of level P%d (stride %d) is zero at %d of %d positives in the last "
                        "%d steps, so it learns nothing any more. Boxes will miss that side. Start again with a lower "
                        "base_lr or a longer warm-up, or from trained weights",
                        name,
                        stride.bit_length() - 1,
                        stride,
                        zeros[level, side],
                        positives[level],
                        self.steps,
                    )
