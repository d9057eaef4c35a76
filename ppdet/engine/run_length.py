"""How long a run is, in steps of this run, whatever its configuration counts in."""

from ppdet.core.config import Config
from ppdet.core.errors import ConfigError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)


def steps_per_iteration(cfg: Config, images_per_step: int) -> float:
    """Steps of this run for each iteration that `max_iters` and PiecewiseDecay's milestones count.

    With `auto_lr`, iterations of the files have base_batch_size images, as the learning rate has: a run with fewer
    images per step makes more steps, and sees as many images. A number that the user sets by -o max_iters= counts
    steps, and so do the milestones then.
    """
    set_by_hand = cfg["max_iters"] is not None and cfg.origin("max_iters") == "-o"
    if cfg["auto_lr"] is None or set_by_hand:
        return 1.0
    return cfg["auto_lr"]["base_batch_size"] / images_per_step


def total_steps(cfg: Config, steps_per_epoch: int, steps_per_iteration: float) -> int:
    """Steps of the whole run: `epoch` epochs or `max_iters` iterations, whichever are fewer.

    Raises:
        ConfigError: both are null.
    """
    epochs, iterations = cfg["epoch"], cfg["max_iters"]
    if iterations is None:
        if epochs is None:
            raise ConfigError(f"{cfg.path}: epoch and max_iters are both null: set one of them")
        return epochs * steps_per_epoch
    steps = max(1, round(iterations * steps_per_iteration))
    if steps_per_iteration != 1:
        logger.info(
            "max_iters: %d steps, for %d of %d images (auto_lr; -o max_iters= counts steps of this run)",
            *(steps, iterations, cfg["auto_lr"]["base_batch_size"]),
        )
    return steps if epochs is None else min(steps, epochs * steps_per_epoch)
