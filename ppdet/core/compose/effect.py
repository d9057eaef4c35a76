"""Settings that change nothing: they are reported as warnings, or as errors if the user sets them for this run."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ppdet.core.compose.inject import ComponentConfig
from ppdet.core.compose.walk import walk
from ppdet.core.registry import is_component
from ppdet.core.settings import SETTINGS, SLOTS
from ppdet.core.tree import Node, children, to_plain, top_layer
from ppdet.utils.errors import config_error
from ppdet.utils.logger import get_logger

if TYPE_CHECKING:
    from ppdet.core.config import Config

logger = get_logger("ppdet.core")

# Settings that have an effect only if one of some other settings is true.
NEEDS = {
    **dict.fromkeys(
        ("ema_decay", "ema_start_iters", "ema_black_list", "ema_filter_no_grad"), ("use_ema", "use_simple_ema")
    ),
    "ema_decay_type": ("use_ema",),
    **dict.fromkeys(("amp_dtype", "amp_level", "custom_white_list", "custom_black_list"), ("amp", "eval_amp")),
    **dict.fromkeys(("semi_start_iters", "DenseTeacher", "UnsupTrainDataset"), ("ssod_method",)),
    "vdl_log_dir": ("use_vdl",),
}
LEVELS = ("downsample_ratios", "object_sizes_boundary")  # global settings that a transform's own values replace
SIZES = ("target_size", "input_dim")  # parameters of transforms in whose place input_size is used
ALWAYS_USED = ("EvalReader", "TestReader", "LearningRate", "OptimizerBuilder")


def check_effect(config: "Config", own_layer: int, *, is_new: bool) -> None:
    """Report settings that change nothing: settings of all layers if the configuration `is_new`, else of one layer.

    Args:
        own_layer: the layer with the values of -o, load_config or merge_config.

    Raises:
        ConfigError: that layer sets something that never has an effect, or no transform uses the input_size.
    """
    for key, node, reason in (*_never_used(config, own_layer), *_replaced_levels(config)):
        if top_layer(node) == own_layer:
            raise config_error(node.origin, key, f"changes nothing here: {reason}")
        if is_new:
            logger.warning("%s: %s changes nothing here: %s", node.origin, key, reason)
    if is_new or config.layer("input_size") == own_layer:
        check_input_size(config)
    for line in (*_without_needed_setting(config, own_layer), *_unused_parameters(config, own_layer)):
        logger.warning("%s", line)


def _never_used(config: "Config", own_layer: int) -> Iterator[tuple[str, Node, str]]:
    """Yield the dotted key, value and reason of everything that only other projects use.

    These are settings with `unused`, unless they have their default value, and parameters in `__unused__` or
    `__given__` of a component, unless they are null. Two values in a file are not reported: false for an unused
    parameter, and the default of a parameter in `__given__`, as PaddleDetection's files set FPN.spatial_scales.
    """
    for key, node in config.root.value.items():
        setting = SETTINGS.get(key)
        if setting is not None and setting.unused and to_plain(node) != setting.default:
            yield key, node, setting.unused
    reported: dict[int, Node] = {}  # by id
    for component in walk(config):
        for name, value in component.ignored.items():
            parameter = component.schema.parameters.get(name)
            default = parameter.default if parameter is not None else None
            is_default = to_plain(value) == (list(default) if isinstance(default, tuple) else default)
            is_off = value.value is None or (value.value is False and top_layer(value) != own_layer)
            if not (is_off or (is_default and top_layer(value) != own_layer)) and id(value) not in reported:
                reported[id(value)] = value
                yield f"{component.key}.{name}", value, component.schema.without_effect[name]


def _replaced_levels(config: "Config") -> Iterator[tuple[str, Node, str]]:
    """Yield the global settings of the levels that no component follows, since all have other values of their own."""
    for key in LEVELS:
        node = config.root.value.get(key)
        if node is None:
            continue
        owners = [one for one in walk(config) if (p := one.schema.parameters.get(key)) is not None and p.shared]
        own = [(one, one.values_set[key]) for one in owners if key not in one.shared_from]
        others = [(one, value) for one, value in own if to_plain(value) != to_plain(node)]
        if owners and len(others) == len(owners):
            one, value = others[0]
            yield key, node, f"{one.key}.{key}, {to_plain(value)} ({value.origin}), wins: set it there, or remove it"


def _without_needed_setting(config: "Config", layer: int) -> Iterator[str]:
    """Yield a warning for each setting of a layer that needs another setting, which is off."""
    for key, needed in NEEDS.items():
        node = config.root.value.get(key)
        if node is not None and top_layer(node) == layer and not any(config[name] for name in needed):
            yield f"{node.origin}: {key} changes nothing without {' or '.join(needed)}"


def _unused_parameters(config: "Config", layer: int) -> Iterator[str]:
    """Yield a warning for each parameter that a layer sets in a component's section and that nothing uses."""
    if not config["architecture"]:
        return
    sections = {key: node for key, node in config.root.value.items() if is_component(key) and top_layer(node) == layer}
    if not sections:
        return
    reader = "SemiTrainReader" if config["ssod_method"] else "TrainReader"
    roots = [config["architecture"], reader, *ALWAYS_USED, *(slot for slot in SLOTS if config[slot])]
    used = list(walk(config, [name for name in roots if name in SLOTS or is_component(name)]))
    values = [value for one in used for value in (*one.values_set.values(), *one.ignored.values())]
    taken = {id(node) for value in values for node in _all_nodes(value)}
    for section, node in sections.items():
        for name, value in node.value.items() if node.is_map else ():
            if name == "name" or top_layer(value) != layer or id(value) in taken:
                continue
            winners = [one for one in used if one.schema.name == section and name in one.values_set]
            if winners:
                winner = winners[0].values_set[name]
                why = f"{winners[0].key}.{name}, {to_plain(winner)} ({winner.origin}), wins"
            else:
                why = f"with ssod_method {reader} trains" if section == "TrainReader" else f"nothing uses {section}"
            yield f"{value.origin}: {section}.{name} changes nothing: {why}"


def _all_nodes(node: Node) -> Iterator[Node]:
    """Yield a value and everything in it."""
    yield node
    for child in children(node):
        yield from _all_nodes(child)


def check_input_size(config: "Config") -> None:
    """Report which transforms do not follow input_size, because they have a size of their own.

    Raises:
        ConfigError: no transform follows input_size, or a transform has neither a target_size nor an input_size.
    """
    node = config.root.value.get("input_size")
    # A section such as `Resize:` is no transform itself, but supplies parameters to all transforms of that class.
    sections = [key for key in config.root.value if is_component(key) and not _takes_input_size(config.component(key))]
    transforms = [one for one in walk(config, sections) if _takes_input_size(one)]
    sizes = [(one, *own_size) for one in transforms if (own_size := _own_size(one)) is not None]
    if node is None or node.value is None:
        with_size = {id(one) for one, _, _ in sizes}
        for one in transforms:
            if id(one) not in with_size and "target_size" in one.schema.parameters:
                message = f"{one.schema.name} has no target_size: set it, or set input_size for all transforms"
                raise config_error(one.location, one.key, message)
        return
    others = [(one, name, size) for one, name, size in sizes if to_plain(size) != to_plain(node)]
    has_followers = len(transforms) > len(others)
    overridden = [other for other in others if top_layer(other[2]) < top_layer(node)]
    same_layer = [other for other in others if top_layer(other[2]) == top_layer(node)]
    if not transforms and any(str(key).endswith("Reader") for key in config.root.value):
        advice = "add `Resize: {}` after Decode to the sample_transforms of TrainReader, EvalReader and TestReader"
        raise config_error(node.origin, "input_size", f"changes nothing: no transform resizes: {advice}")
    if not has_followers and overridden:
        raise config_error(node.origin, "input_size", f"changes nothing: {_describe_sizes(overridden)}")
    if overridden or (same_layer and not has_followers):
        sizes_text = _describe_sizes(overridden or same_layer)
        logger.warning("%s: input_size does not change everything: %s", node.origin, sizes_text)


def _takes_input_size(component: ComponentConfig) -> bool:
    parameter = component.schema.parameters.get("input_size")
    return parameter is not None and parameter.shared and any(name in component.schema.parameters for name in SIZES)


def _own_size(transform: ComponentConfig) -> tuple[str, Node] | None:
    """Return the name and value of the parameter that a transform uses in place of the global input_size, if any."""
    for name in (*SIZES, "input_size"):
        node = transform.values_set.get(name)
        if node is not None and node.value is not None and name not in transform.shared_from:
            return name, node
    return None


def _describe_sizes(sizes: Sequence[tuple[ComponentConfig, str, Node]]) -> str:
    """Say which sizes win over input_size, and how to change them."""
    texts = []
    for transform, name, node in sizes:
        size = str(to_plain(node)).replace(" ", "")
        texts.append(f"{transform.key}.{name}={size} ({node.origin})")
    verb = "win: set them" if len(texts) > 1 else "wins: set it"
    return f"{', '.join(texts)} {verb}, or set null there to follow input_size"
