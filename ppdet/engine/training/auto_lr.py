"""Scaling the learning rate with the number of images per step (`auto_lr`)."""

from ppdet.core.compose.scaling import BASE_LR, is_scaled, tuned_rate
from ppdet.core.config import Config
from ppdet.optimizer.learning_rate import LearningRate
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
FAR = 4.0  # two learning rates that differ by this factor or more are worth a warning


def learning_rate(cfg: Config, images_per_step: int) -> LearningRate:
    """Build the configuration's `LearningRate`, with base_lr scaled if `auto_lr` is set.

    With `auto_lr`, a base_lr that a file sets beside or below it is meant for `base_batch_size` images per step, and is
    scaled linearly: 0.01 for 16 images becomes 0.0025 for 4. A base_lr that the user sets otherwise
    (ppdet.core.compose.scaling) is not scaled.

    Args:
        images_per_step: images of one update, on all devices together.
    """
    if cfg["auto_lr"] is None:
        return cfg.create("LearningRate")
    tuned_for = cfg["auto_lr"]["base_batch_size"]
    tuned = tuned_rate(cfg)
    scaled = tuned * images_per_step / tuned_for
    if is_scaled(cfg, "base_lr"):
        if images_per_step != tuned_for:
            logger.info(
                "learning rate: %g for %d images per step, from %g for %d (auto_lr; a %s of your own stays as it is)",
                *(scaled, images_per_step, tuned, tuned_for, BASE_LR),
            )
        return cfg.create("LearningRate", base_lr=scaled)
    schedule = cfg.create("LearningRate")
    if cfg.layer("auto_lr") >= cfg.layer(BASE_LR) > cfg.files and cfg["auto_lr"]["literal"] is None:
        logger.info(
            "learning rate: %g, as %s sets it; not scaled with the batch size: set auto_lr.literal=[] to scale it",
            *(schedule.base_lr, cfg.origin(BASE_LR)),
        )
    ratio = schedule.base_lr / scaled
    if not 1 / FAR <= ratio <= FAR:
        logger.warning(
            "%s: %s %g is %.3g times the rate that %d images per step would have by auto_lr (%g)",
            *(cfg.origin(BASE_LR), BASE_LR, schedule.base_lr, ratio, images_per_step, scaled),
        )
    return schedule
