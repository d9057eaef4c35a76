"""Settings that change nothing: said, or refused where somebody sets them for this very run."""

from collections.abc import Iterator
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

# Settings that count only where one of some others is on.
NEEDS = {
    **dict.fromkeys(
        ("ema_decay", "ema_start_iters", "ema_black_list", "ema_filter_no_grad"), ("use_ema", "use_simple_ema")
    ),
    "ema_decay_type": ("use_ema",),
    **dict.fromkeys(("amp_dtype", "amp_level", "custom_white_list", "custom_black_list"), ("amp", "eval_amp")),
    **dict.fromkeys(("semi_start_iters", "DenseTeacher", "UnsupTrainDataset"), ("ssod_method",)),
    "vdl_log_dir": ("use_vdl",),
}
ALWAYS = ("EvalReader", "TestReader", "LearningRate", "OptimizerBuilder")  # built whatever the configuration names


def check_effect(config: "Config", own_layer: int, *, is_new: bool) -> None:
    """Say which settings change nothing, once: all of them in a configuration `is_new`, else those of `own_layer`.

    Args:
        own_layer: the layer of -o, of load_config's values or of merge_config.

    Raises:
        ConfigError: that layer sets one, or nothing takes the input_size.
    """
    for key, node in config.root.value.items():
        setting = SETTINGS.get(key)
        if setting is None or not setting.unused or to_plain(node) == setting.default:
            continue
        if top_layer(node) == own_layer:
            raise config_error(node.origin, key, f"changes nothing here: {setting.unused}")
        if is_new:
            logger.warning(f"{node.origin}: {key} changes nothing here: {setting.unused}")
    if is_new or (config.layer("input_size") == own_layer):
        check_input_size(config)
    for line in (*without_what_they_need(config, own_layer), *unused_parameters(config, own_layer)):
        logger.warning(line)


def without_what_they_need(config: "Config", layer: int) -> Iterator[str]:
    """Settings of a layer that count only with another one, which is off."""
    for key, needed in NEEDS.items():
        node = config.root.value.get(key)
        if node is not None and top_layer(node) == layer and not any(config[name] for name in needed):
            yield f"{node.origin}: {key} changes nothing without {' or '.join(needed)}"


def unused_parameters(config: "Config", layer: int) -> Iterator[str]:
    """Parameters that a layer sets in sections of components, but nothing that runs takes."""
    if not config["architecture"]:
        return
    sections = {key: node for key, node in config.root.value.items() if is_component(key) and top_layer(node) == layer}
    if not sections:
        return
    reader = "SemiTrainReader" if config["ssod_method"] else "TrainReader"
    roots = [config["architecture"], reader, *ALWAYS, *(slot for slot in SLOTS if config[slot])]
    used = list(walk(config, [name for name in roots if name in SLOTS or is_component(name)]))
    taken = {id(node) for one in used for value in one.values_set.values() for node in every(value)}
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


def every(node: Node) -> Iterator[Node]:
    """A value and all that is in it."""
    yield node
    for child in children(node):
        yield from every(child)


def check_input_size(config: "Config") -> None:
    """Say which transforms do not follow input_size, since a size of their own stands below it.

    Raises:
        ConfigError: none follows it, or a transform has neither.
    """
    node = config.root.value.get("input_size")
    # A section of Resize is none of the transforms, only what they have in common.
    sections = [key for key in config.root.value if is_component(key) and not takes_input_size(config.component(key))]
    takers = [one for one in walk(config, sections) if takes_input_size(one)]
    if node is None or node.value is None:
        for one in takers:
            if own_size(one) is None:
                name = one.schema.name
                message = f"{name} has no target_size: set it, or input_size for all transforms that have none"
                raise config_error(one.location, one.key, message)
        return
    sizes = {id(one): own_size(one) for one in takers}
    others = [one for one in takers if sizes[id(one)] and to_plain(sizes[id(one)][1]) != to_plain(node)]
    followers = len(takers) - len(others)
    passed = [one for one in others if top_layer(sizes[id(one)][1]) < top_layer(node)]
    has_readers = any(str(key).endswith("Reader") for key in config.root.value)
    if not takers and has_readers:
        advice = "add `Resize: {}` after Decode to the sample_transforms of TrainReader, EvalReader and TestReader"
        raise config_error(node.origin, "input_size", f"changes nothing: no transform resizes: {advice}")
    if not followers and passed:
        raise config_error(node.origin, "input_size", f"changes nothing: {own_sizes(passed)}")
    beside = [one for one in others if top_layer(sizes[id(one)][1]) == top_layer(node)]
    if passed or (beside and not followers):
        logger.warning(f"{node.origin}: input_size does not change everything: {own_sizes(passed or beside)}")


def takes_input_size(component: ComponentConfig) -> bool:
    parameter = component.schema.parameters.get("input_size")
    return parameter is not None and parameter.shared and "target_size" in component.schema.parameters


def own_size(transform: ComponentConfig) -> tuple[str, Node] | None:
    """Name and value of the parameter that keeps a transform from following the global input_size."""
    for name in ("target_size", "input_size"):
        node = transform.values_set.get(name)
        if node is not None and node.value is not None and name not in transform.shared_from:
            return name, node
    return None


def own_sizes(transforms: list[ComponentConfig]) -> str:
    """What wins over input_size, and how to change it."""
    shown = []
    for one in transforms:
        name, node = own_size(one)
        size = str(to_plain(node)).replace(" ", "")
        shown.append(f"{one.key}.{name}={size} ({node.origin})")
    these = "win: set them" if len(shown) > 1 else "wins: set it"
    return f"{', '.join(shown)} {these}, or null there, which follows input_size"
