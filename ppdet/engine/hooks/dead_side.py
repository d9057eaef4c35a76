"""A warning when a side of the boxes stops learning."""

from typing import TYPE_CHECKING, Any

from ppdet.engine.hooks.base import Hook
from ppdet.utils.logger import get_logger

if TYPE_CHECKING:
    from ppdet.engine.trainer import Trainer

logger = get_logger(__name__)
SIDES = ("left", "top", "right", "bottom")


class DeadSideHook(Hook):
    """Warns when the distance to one side is predicted as zero at nearly all positive locations of a level.

    Distances that pass through a ReLU get no gradient where they are zero: such a side never recovers, and the loss
    alone does not show it.

    Args:
        window: number of steps over which positives are counted, at least; counts are read at log steps only.
        share: share of zeros among a level's positives above which the hook warns, 0 to 1.
        least: number of positives that a level must have in a window to be judged.
    """

    def __init__(self, window: int = 50, share: float = 0.95, least: int = 50) -> None:
        self.window = window
        self.share = share
        self.least = least
        self.steps = 0
        self.positives: Any = 0  # (levels,), on the device
        self.zeros: Any = 0  # (levels, 4), on the device
        self.warned: set[tuple[int, int]] = set()

    def after_step(self, trainer: "Trainer") -> None:
        if "zero_sides" not in trainer.losses:
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
