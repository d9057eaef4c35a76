"""A learning rate that follows the number of images per update."""

from ppdet.core.config import Config
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
KEY = "LearningRate.base_lr"
FAR = 4.0  # a factor between two learning rates that is worth a warning


def learning_rate(cfg: Config, images_per_step: int) -> object:
    """The configuration's `LearningRate`, its base_lr made right for so many images per update of all devices.

    With `auto_lr`, the base_lr of the files is for `base_batch_size` images, and grows linearly with their number. A
    base_lr that the user sets by -o stays as it is.
    """
    if cfg["auto_lr"] is None:
        return cfg.create("LearningRate")
    tuned_for = cfg["auto_lr"]["base_batch_size"]
    tuned = cfg.in_files(KEY)
    scaled = tuned * images_per_step / tuned_for
    if cfg.origin(KEY) != "-o":
        if images_per_step != tuned_for:
            logger.info(
                "learning rate: %g for %d images per step, from %g for %d (auto_lr; -o %s= sets another)",
                *(scaled, images_per_step, tuned, tuned_for, KEY),
            )
        return cfg.create("LearningRate", base_lr=scaled)
    schedule = cfg.create("LearningRate")
    ratio = schedule.base_lr / scaled
    if not 1 / FAR <= ratio <= FAR:
        logger.warning(
            "-o %s=%g is %.3g times the rate that %d images per step would have by auto_lr (%g)",
            *(KEY, schedule.base_lr, ratio, images_per_step, scaled),
        )
    return schedule
