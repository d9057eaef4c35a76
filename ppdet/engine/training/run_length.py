"""How long a run is, in steps of this run, whatever its configuration counts in."""

from ppdet.core.compose.scaling import is_scaled
from ppdet.core.config import Config
from ppdet.utils.errors import ConfigError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)


def steps_per_iteration(cfg: Config, name: str, images_per_step: int) -> float:
    """Steps of this run for each iteration that `name` counts: max_iters, or PiecewiseDecay's milestones.

    With `auto_lr`, iterations that a file sets beside or below it have base_batch_size images, as the learning rate
    has: a run with fewer images per step makes more steps, and sees as many images. Numbers of the user's own
    (ppdet.core.compose.scaling) count steps.
    """
    return cfg["auto_lr"]["base_batch_size"] / images_per_step if is_scaled(cfg, name) else 1.0


def total_steps(cfg: Config, steps_per_epoch: int, images_per_step: int) -> int:
    """Steps of the whole run: `epoch` epochs or `max_iters` iterations, whichever are fewer.

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
