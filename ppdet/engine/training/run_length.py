"""Counting in steps: how long a run is, and at which step a resumed run continues."""

from typing import Literal

from ppdet.core.compose.scaling import is_scaled
from ppdet.core.config import Config
from ppdet.engine.checkpoints.manifest import TrainingState
from ppdet.optimizer.learning_rate import Length
from ppdet.utils.errors import ConfigError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)


def steps_per_iteration(cfg: Config, name: Literal["max_iters", "milestones"], images_per_step: int) -> float:
    """Return how many steps of this run one iteration of a setting means.

    With `auto_lr`, iterations that a file sets beside or below it have `base_batch_size` images: a run with fewer
    images per step makes more steps, and sees as many images. For example, 1.0 iteration of 16 images is 4.0 steps of
    4 images. Numbers that the user sets otherwise (ppdet.core.compose.scaling) count steps.

    Args:
        name: `max_iters`, or `milestones` of PiecewiseDecay.
    """
    return cfg["auto_lr"]["base_batch_size"] / images_per_step if is_scaled(cfg, name) else 1.0


def total_steps(cfg: Config, steps_per_epoch: int, images_per_step: int) -> int:
    """Return the steps of the whole run: `epoch` epochs or `max_iters` iterations, whichever are fewer.

    Raises:
        ConfigError: both are null.
    """
    epochs, iterations = cfg["epoch"], cfg["max_iters"]
    if iterations is None:
        if epochs is None:
            raise ConfigError(f"{cfg.path}: epoch and max_iters are both null: set one of them")
        return epochs * steps_per_epoch
    factor = steps_per_iteration(cfg, "max_iters", images_per_step)
    steps = max(1, round(iterations * factor))
    if factor != 1:
        logger.info(
            "max_iters: %d steps, for %d of %d images (auto_lr; a max_iters of your own counts steps)",
            *(steps, iterations, cfg["auto_lr"]["base_batch_size"]),
        )
    return steps if epochs is None else min(steps, epochs * steps_per_epoch)


def steps_before(cfg: Config, name: Literal["semi_start_iters", "ema_start_iters"], steps_of_run: int) -> int:
    """Return the number of steps that a setting stands for, which may be a share of the run, such as 35%."""
    return round(Length(epoch=0, iteration=0, run=steps_of_run).steps(cfg[name], "step"))


def resumed_place(
    state: TrainingState, steps_per_epoch: int, images_per_step: int, steps_of_run: int
) -> tuple[int, int, int]:
    """Return the epoch, the step within it, and the number of finished steps at which a resumed run continues.

    The run may have another batch size or number of ranks than the checkpoint; then it continues at the same share of
    the epoch.
    """
    epoch, first_step = state.epoch, state.images // images_per_step
    cut_off = state.epoch * state.steps_per_epoch - state.iteration  # steps that max_iters cut off the last epoch
    if cut_off > 0:
        epoch -= 1
        first_step = (state.steps_per_epoch - cut_off) * steps_per_epoch // state.steps_per_epoch
    iteration = epoch * steps_per_epoch + first_step
    if cut_off > 0 and iteration >= steps_of_run:  # this run ends at the same step
        epoch, first_step = state.epoch, 0
    return epoch, first_step, iteration
