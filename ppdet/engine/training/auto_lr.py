"""A learning rate that follows the number of images per update."""

from ppdet.core.compose.scaling import BASE_LR, is_scaled, tuned_rate
from ppdet.core.config import Config
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
FAR = 4.0  # a factor between two learning rates that is worth a warning


def learning_rate(cfg: Config, images_per_step: int) -> object:
    """The configuration's `LearningRate`, its base_lr made right for so many images per update of all devices.

    With `auto_lr`, a base_lr of a file beside or below it is for `base_batch_size` images, and grows linearly with
    their number. A base_lr of the user's own (ppdet.core.compose.scaling) stays as it is.
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
            "learning rate: %g, as %s sets it, whatever the images per step (auto_lr.literal=[] has it scaled)",
            *(schedule.base_lr, cfg.origin(BASE_LR)),
        )
    ratio = schedule.base_lr / scaled
    if not 1 / FAR <= ratio <= FAR:
        logger.warning(
            "%s: %s %g is %.3g times the rate that %d images per step would have by auto_lr (%g)",
            *(cfg.origin(BASE_LR), BASE_LR, schedule.base_lr, ratio, images_per_step, scaled),
        )
    return schedule
