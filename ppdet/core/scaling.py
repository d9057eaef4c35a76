"""Which values of a configuration `auto_lr` scales, and which the user has set for this very run.

auto_lr says how many images an update had when a file's values were tuned. So it speaks of the values beside it and
below it: those of the same file, of its bases, or of the same command line. A value from above it (of a file that has
that one as its base, of merge_config, of -o) is the user's own, and stays as it is.
"""

from typing import TYPE_CHECKING, Optional

from ppdet.core.errors import ConfigKeyError
from ppdet.core.settings import SCALED

if TYPE_CHECKING:
    from ppdet.core.config import Config

BASE_LR = "LearningRate.base_lr"


def is_scaled(config: "Config", name: str) -> bool:
    """Tell whether auto_lr scales `name`, one of SCALED."""
    return config["auto_lr"] is not None and name not in literal_values(config)


def literal_values(config: "Config") -> list[str]:
    """Return those of SCALED that auto_lr leaves as they are: set above it, or named by auto_lr.literal."""
    listed, list_layer = config["auto_lr"]["literal"] or [], config.layer("auto_lr.literal")
    found = []
    for name in SCALED:
        layer = layer_of(config, name)
        if layer > config.layer("auto_lr") or (name in listed and layer <= list_layer):
            found.append(name)
    return found


def layer_of(config: "Config", name: str) -> int:
    if name == "base_lr":
        return config.layer(BASE_LR)
    if name == "max_iters":
        return config.layer("max_iters")
    decay = scheduler_key(config, "milestones")
    if decay is None or config.value(f"{decay}.unit") != "iteration":
        return 0
    return max(config.layer(f"{decay}.{word}") for word in ("milestones", "unit"))


def scheduler_key(config: "Config", parameter: str) -> Optional[str]:
    """Return the dotted key of the learning rate's scheduler that has `parameter`; None if there is none."""
    for index in range(len(config.component("LearningRate")["schedulers"] or ())):
        key = f"LearningRate.schedulers.{index}"
        try:
            config.origin(f"{key}.{parameter}")
        except ConfigKeyError:
            continue
        return key
    return None
