"""Looking up the effective value at a dotted key: set by a file or -o, shared from a global setting, or a default."""

from collections.abc import Sequence

from ppdet.core.compose.inject import ComponentConfig, component_config
from ppdet.core.registry import component_names, get_schema, is_component
from ppdet.core.schema import type_in_words
from ppdet.core.setting_schema import Setting
from ppdet.core.settings import SETTINGS, SLOTS, setting_names
from ppdet.core.tree import Node, as_index, from_plain
from ppdet.utils.errors import ConfigKeyError, nearest


def find(root: Node, key: str) -> Node:
    """Return the effective value at a dotted key. Raises ConfigKeyError, with the nearest name, for an unknown key."""
    first, *rest = key.split(".")
    if is_component(first) or (first in SLOTS and first in root.value):
        if rest:
            return _find_parameter(component_config(root, first), rest, key)
        return root.value.get(first, Node({}, "default"))
    if first in SETTINGS:
        return _descend(with_defaults(SETTINGS[first], root.value.get(first)), rest, key, first)
    if first in root.value:
        return _descend(root.value[first], rest, key, first)
    if first in SLOTS:
        return Node(None, "default")
    hint = nearest(first, [*component_names(), *setting_names()])
    raise ConfigKeyError(f"{key}: neither a component nor a global setting{hint}")


def expected_value(key: str) -> str:
    """Return in words what the value at a dotted key may be: that of a global setting, or of a component's parameter.

    "" for other keys, and for parameters that are components.
    """
    first, *rest = key.split(".")
    if is_component(first):
        parameter = get_schema(first).parameters.get(".".join(rest))
        return "" if parameter is None or parameter.injected else type_in_words(parameter.annotation)
    setting = SETTINGS.get(first)
    for step in rest:
        setting = (setting.keys or {}).get(step) if setting is not None else None
    return "" if setting is None else setting.expected


def with_defaults(setting: Setting, node: Node | None) -> Node:
    """Return the value of a global setting, `node`, with defaults for the entries that it leaves out.

    None means a setting that is not set at all.
    """
    if node is None:
        node = from_plain(setting.default, "default")
    if node.value is None or not setting.keys:
        return node
    return node.holding({name: with_defaults(below, node.value.get(name)) for name, below in setting.keys.items()})


def _find_parameter(config: ComponentConfig, steps: Sequence[str], key: str) -> Node:
    """Return the value at steps[0].steps[1]… below a component. `key` is the whole dotted key, for errors."""
    name, *rest = steps
    if name == "name":
        return Node(config.schema.name, config.location)
    parameter = config.schema.parameters.get(name)
    if parameter is None:
        hint = nearest(name, config.schema.parameters)
        raise ConfigKeyError(f"{key}: {config.schema.name} has no parameter {name!r}{hint}")
    if parameter.given:
        raise ConfigKeyError(f"{key} is no setting: {parameter.given}")
    node = config.node(parameter)
    if not parameter.injected or not rest:
        return _descend(node, rest, key, f"{config.key}.{name}")
    if node.is_list:
        node = _descend(node, rest[:1], key, f"{config.key}.{name}")
        rest = rest[1:]
    if not rest:
        return node
    below = config.nested(node, key, parameter.default)
    if rest[0] == below.schema.name:
        rest = rest[1:]
    return _find_parameter(below, rest, key) if rest else node


def _descend(node: Node, steps: Sequence[str], key: str, above: str) -> Node:
    """Return the value at `steps` below a plain mapping or list, whose own key is `above`."""
    for step in steps:
        if node.is_map and step in node.value:
            node = node.value[step]
        elif node.is_list and (index := as_index(step)) is not None and index < len(node.value):
            node = node.value[index]
        else:
            choices = [str(word) for word in node.value] if node.is_map else []
            raise ConfigKeyError(f"{key}: {above} has no {step!r}{nearest(step, choices)}")
        above = f"{above}.{step}"
    return node
