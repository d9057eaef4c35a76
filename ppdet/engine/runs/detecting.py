"""Which settings change what given weights detect, and how two configurations differ in them."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from ppdet.core.compose.inject import ComponentConfig
from ppdet.core.compose.walk import component_below
from ppdet.core.config import Config
from ppdet.core.registry import is_component
from ppdet.core.schema import Parameter
from ppdet.core.tree import render_inline, to_plain
from ppdet.utils.errors import ConfigError

# Of a reader these count; its batch size, say, does not.
READER = ("sample_transforms", "batch_transforms")
# These count in training alone, or say which detections are kept: thresholds are there to be tried.
LEFT_OUT = {
    "ResNet": ("lr_mult_list", "norm_decay", "freeze_norm", "freeze_at"),
    "FPN": ("freeze_norm",),
    "Resize": ("input_size",),
    "FCOSHead": ("prior_prob", "fcos_loss", "nms", "trt", "class_threshold", "level_top_k", "level_top_k_of"),
}
SHOWN = 12


def differences(ours: Config, theirs: Config, reader: str) -> list[tuple[str, str, str]]:
    """Key, and value in both, of the settings in which weights would detect otherwise; at most SHOWN of them.

    Raises:
        ConfigError: one of them cannot be built.
    """
    try:
        one, other = (dict(detecting(cfg, reader)) for cfg in (ours, theirs))
    except RecursionError:
        raise ConfigError("a component holds itself") from None
    found = [key for key in one if key in other and one[key] != other[key]]
    rows = [(key, render_inline(one[key]), render_inline(other[key])) for key in found[:SHOWN]]
    more = len(found) - SHOWN
    return [*rows, (f"{more} more", "others", "others")] if more > 0 else rows


def detecting(cfg: Config, reader: str) -> Iterator[tuple[str, Any]]:
    """Settings by key that change what weights detect: the network's, and those of the reader's transforms."""
    yield "architecture", cfg["architecture"]
    if is_component(cfg["architecture"]):
        yield from values(cfg.component(cfg["architecture"]), "")
    config = cfg.component(reader)
    for name in READER:
        yield from below(config, config.schema.parameters[name], f"{reader}.{name}")


def values(config: ComponentConfig, prefix: str) -> Iterator[tuple[str, Any]]:
    """Values of a component and of those in it, under `prefix` and its name."""
    key = f"{prefix}{config.schema.name}"
    for parameter in config.schema.parameters.values():
        is_set = parameter.name in config.values_set or not parameter.required
        if not is_set or parameter.name in LEFT_OUT.get(config.schema.name, ()):
            continue
        if parameter.name == "input_size":  # stands in for a target_size, and is compared as one
            continue
        if parameter.injected:
            yield from below(config, parameter, f"{key}.{parameter.name}")
        else:
            value = to_plain(config.node(parameter))
            if parameter.name == "target_size" and value is None:
                value = config["input_size"]
            # Batch norms of several devices are ordinary ones when they detect.
            yield f"{key}.{parameter.name}", "bn" if value == "sync_bn" else value


def below(config: ComponentConfig, parameter: Parameter, key: str) -> Iterator[tuple[str, Any]]:
    """Which components a parameter holds, and their values: of a list's, under the parameter's key."""
    node = config.node(parameter)
    if node.value is None:
        yield key, None
        return
    items = node.value if node.is_list else [node]
    parts = [component_below(config, item, key, None if node.is_list else parameter.default) for item in items]
    names = [part.schema.name for part in parts]
    yield key, names if node.is_list else names[0]
    for index, part in enumerate(parts):
        # A list's by name, as long as that tells them apart.
        number = f"{index}." if Counter(names)[part.schema.name] > 1 else ""
        yield from values(part, f"{key}.{number}" if node.is_list else "")
