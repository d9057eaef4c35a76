"""Comparing two configurations in the settings that change what given weights detect."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from ppdet.core.compose.inject import ComponentConfig
from ppdet.core.config import Config
from ppdet.core.registry import is_component
from ppdet.core.schema import Parameter
from ppdet.core.tree import render_inline, to_plain
from ppdet.utils.errors import ConfigError

# The settings of a reader that change detections; its batch size, for example, does not.
READER_SETTINGS = ("sample_transforms", "batch_transforms")
# Settings that matter in training alone, or that users change on purpose when they evaluate, such as NMS thresholds.
IGNORED = {
    "ResNet": ("lr_mult_list", "norm_decay", "freeze_norm", "freeze_at"),
    "FPN": ("freeze_norm",),
    "Resize": ("input_size",),
    "FCOSHead": ("prior_prob", "fcos_loss", "nms", "class_threshold", "level_top_k", "level_top_k_of"),
}
MAX_ROWS = 12


def differences(ours: Config, theirs: Config, reader: str) -> list[tuple[str, str, str]]:
    """Compare the settings that change what given weights detect.

    Args:
        reader: EvalReader or TestReader, whose transforms are compared.

    Returns:
        (key, value in ours, value in theirs) of each setting that differs; a last row counts those after `MAX_ROWS`.

    Raises:
        ConfigError: a component of one of them is invalid.
    """
    try:
        one, other = (dict(settings(cfg, reader)) for cfg in (ours, theirs))
    except RecursionError:
        raise ConfigError("a component contains itself") from None
    keys = [key for key in one if key in other and one[key] != other[key]]
    rows = [(key, render_inline(one[key]), render_inline(other[key])) for key in keys[:MAX_ROWS]]
    more = len(keys) - MAX_ROWS
    return [*rows, (f"{more} more", "others", "others")] if more > 0 else rows


def settings(cfg: Config, reader: str) -> Iterator[tuple[str, Any]]:
    """Yield (key, value) of the settings of the network and of the reader's transforms."""
    yield "architecture", cfg["architecture"]
    if is_component(cfg["architecture"]):
        yield from component_settings(cfg.component(cfg["architecture"]), "")
    config = cfg.component(reader)
    for name in READER_SETTINGS:
        yield from injected_settings(config, config.schema.parameters[name], f"{reader}.{name}")


def component_settings(config: ComponentConfig, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield (key, value) of the parameters of a component and of its parts, such as ("FCOSHead.num_shift", 0.5)."""
    key = f"{prefix}{config.schema.name}"
    for parameter in config.schema.parameters.values():
        is_set = parameter.name in config.values_set or not parameter.required
        if not is_set or parameter.name in IGNORED.get(config.schema.name, ()):
            continue
        if parameter.name == "input_size":  # a default for target_size, and compared there
            continue
        if parameter.injected:
            yield from injected_settings(config, parameter, f"{key}.{parameter.name}")
        else:
            value = to_plain(config.node(parameter))
            if parameter.name == "target_size" and value is None:
                value = config["input_size"]
            # In evaluation, synchronized batch norms compute what ordinary ones do.
            yield f"{key}.{parameter.name}", "bn" if value == "sync_bn" else value


def injected_settings(config: ComponentConfig, parameter: Parameter, key: str) -> Iterator[tuple[str, Any]]:
    """Yield the names of the components that a parameter holds (a component, or a list of them), and their settings.

    Components of a list have keys such as "EvalReader.sample_transforms.Resize.interp", or with their index where the
    name occurs twice.
    """
    node = config.node(parameter)
    if node.value is None:
        yield key, None
        return
    items = node.value if node.is_list else [node]
    parts = [config.nested(item, key, None if node.is_list else parameter.default) for item in items]
    names = [part.schema.name for part in parts]
    yield key, names if node.is_list else names[0]
    for index, part in enumerate(parts):
        number = f"{index}." if Counter(names)[part.schema.name] > 1 else ""
        yield from component_settings(part, f"{key}.{number}" if node.is_list else "")
