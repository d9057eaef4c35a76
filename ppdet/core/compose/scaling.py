"""Finds values of a configuration that `auto_lr` scales, and values that the user set for this run.

`auto_lr` states for how many images per update a file's values were tuned. It applies to values in the same file and
in its bases. A value of a file above (one that has that file as its base) is the user's own, and is never scaled. Nor
is a value from -o, load_config or merge_config, whatever these set in auto_lr. The one exception: if they set the list
`auto_lr.literal`, on the same layer as the value or above it, values that it does not name are scaled.
"""

from typing import TYPE_CHECKING

from ppdet.core.nested_settings import SCALED, ScaledName
from ppdet.utils.errors import ConfigKeyError

if TYPE_CHECKING:
    from ppdet.core.config import Config

BASE_LR = "LearningRate.base_lr"


def is_scaled(config: "Config", name: ScaledName) -> bool:
    """Tell whether auto_lr scales a value."""
    return config["auto_lr"] is not None and name not in literal_values(config)


def literal_values(config: "Config") -> list[ScaledName]:
    """Return the values that auto_lr does not scale: the user's own, and those that auto_lr.literal names."""
    return [name for name in SCALED if _is_literal(config, name)]


def tuned_rate(config: "Config") -> float:
    """Return the base_lr to which auto_lr applies, even if a base_lr of the user's own replaces it."""
    scaled = is_scaled(config, "base_lr")
    return config.up_to_layer(BASE_LR, config.layer("auto_lr") if scaled else _tuned_layer(config))


def scheduler_key(config: "Config", parameter: str) -> str | None:
    """Return the dotted key of the first of LearningRate.schedulers that has a parameter; None if none has it."""
    for index in range(len(config.component("LearningRate")["schedulers"] or ())):
        key = f"LearningRate.schedulers.{index}"
        try:
            config.origin(f"{key}.{parameter}")
        except ConfigKeyError:
            continue
        return key
    return None


def _is_literal(config: "Config", name: ScaledName) -> bool:
    layer, listed = _layer_of(config, name), config["auto_lr"]["literal"]
    list_layer = config.layer("auto_lr.literal")
    if listed is not None and layer <= list_layer and (name in listed or list_layer > config.files):
        return name in listed
    return layer > _tuned_layer(config)


def _tuned_layer(config: "Config") -> int:
    """Return the highest layer to whose values auto_lr applies: the layer of the file that sets it."""
    return min(config.layer("auto_lr"), config.files)


def _layer_of(config: "Config", name: ScaledName) -> int:
    """Return the layer of a value. Milestones that count epochs need no scaling: they are on layer 0."""
    if name == "base_lr":
        return config.layer(BASE_LR)
    if name == "max_iters":
        return config.layer("max_iters")
    decay = scheduler_key(config, "milestones")
    if decay is None or config.value(f"{decay}.unit") != "iteration":
        return 0
    return max(config.layer(f"{decay}.{word}") for word in ("milestones", "unit"))
