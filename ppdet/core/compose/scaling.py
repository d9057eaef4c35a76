"""Which values of a configuration `auto_lr` scales, and which the user has set for this very run.

auto_lr says how many images an update had when a file's values were tuned. So it speaks of the values beside it and
below it: those of the same file, and of its bases. A value of a file above it (one that has that file as its base) is
the user's own, and stays as it is. So does every value of -o, load_config or merge_config, whatever these say of
auto_lr, unless an auto_lr.literal of theirs, beside or above the value, does not name it.
"""

from typing import TYPE_CHECKING

from ppdet.core.settings import SCALED
from ppdet.utils.errors import ConfigKeyError

if TYPE_CHECKING:
    from ppdet.core.config import Config

BASE_LR = "LearningRate.base_lr"


def is_scaled(config: "Config", name: str) -> bool:
    """Tell whether auto_lr scales `name`, one of SCALED."""
    return config["auto_lr"] is not None and name not in literal_values(config)


def literal_values(config: "Config") -> list[str]:
    """Return those of SCALED that auto_lr leaves as they are: the user's own, or named by auto_lr.literal."""
    return [name for name in SCALED if _is_literal(config, name)]


def _is_literal(config: "Config", name: str) -> bool:
    layer, listed = layer_of(config, name), config["auto_lr"]["literal"]
    list_layer = config.layer("auto_lr.literal")
    if listed is not None and layer <= list_layer and (name in listed or list_layer > config.files):
        return name in listed
    return layer > _tuned_layer(config)


def tuned_rate(config: "Config") -> float:
    """Return the base_lr that auto_lr speaks of, which one of the user's own may lie above."""
    scaled = is_scaled(config, "base_lr")
    return config.up_to_layer(BASE_LR, config.layer("auto_lr") if scaled else _tuned_layer(config))


def _tuned_layer(config: "Config") -> int:
    """Number of the highest layer whose values auto_lr speaks of by its place alone."""
    return min(config.layer("auto_lr"), config.files)


def layer_of(config: "Config", name: str) -> int:
    if name == "base_lr":
        return config.layer(BASE_LR)
    if name == "max_iters":
        return config.layer("max_iters")
    decay = scheduler_key(config, "milestones")
    if decay is None or config.value(f"{decay}.unit") != "iteration":
        return 0
    return max(config.layer(f"{decay}.{word}") for word in ("milestones", "unit"))


def scheduler_key(config: "Config", parameter: str) -> str | None:
    """Return the dotted key of the learning rate's scheduler that has `parameter`; None if there is none."""
    for index in range(len(config.component("LearningRate")["schedulers"] or ())):
        key = f"LearningRate.schedulers.{index}"
        try:
            config.origin(f"{key}.{parameter}")
        except ConfigKeyError:
            continue
        return key
    return None
