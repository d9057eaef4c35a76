"""The ways in which a value of a configuration can name a component.

These mean the same: `FCOSLoss`, `{name: FCOSLoss}`, `!FCOSLoss {}` and `{FCOSLoss: {}}`. All but the first can also
give parameters ("overrides"): `{name: FCOSLoss, quality: iou}`. A mapping without a name, `{quality: iou}`, means the
component that the parameter has by default.
"""

from typing import Any

from ppdet.core.registry import get_schema, is_component, names_that_fit
from ppdet.core.schema import Schema, value_in_words
from ppdet.core.suggest.paddledetection import describe_foreign_component
from ppdet.core.tree import Node, from_plain, to_plain
from ppdet.utils.errors import IMPORT_ADVICE, ConfigError, config_error, nearest


def named_component(node: Node) -> str | None:
    """Return the component that a value names, in any of the spellings; None if it names none."""
    if node.tag is not None:
        return node.tag
    if node.is_map:
        if "name" in node.value:
            name = node.value["name"].value
            return name if isinstance(name, str) else None
        only = next(iter(node.value)) if len(node.value) == 1 else None
        return only if is_component(only) and _can_hold_parameters(node.value[only]) else None
    return node.value if is_component(node.value) else None


def with_name(node: Node) -> Node:
    """Rewrite a value that names a component as {name: X, **overrides}. Other values are returned unchanged."""
    name = named_component(node)
    if name is None or (node.is_map and "name" in node.value and node.tag is None):
        return node
    if node.is_map and node.tag is None:
        node = node.value[name] if node.value[name].is_map else node.holding({})
    overrides = node.value if node.is_map else {}
    return node.holding({**overrides, "name": node.holding(name)})


def read_component(node: Node, key: str, default: Any = None) -> tuple[str, Node]:
    """Return the name of the component that a value names, and the mapping of its overrides.

    Args:
        key: the dotted key of the value, for errors.
        default: the default of the parameter that has this value. It supplies the name for a mapping without one.

    Raises:
        ConfigError: the value names no component.
    """
    if node.tag is not None and "name" in node.value:
        raise config_error(node.value["name"].origin, f"{key}.name", f"!{node.tag} already names the component")
    if named_component(node) is None and node.is_map and "name" not in node.value:
        base = named_component(from_plain(default, "default"))
        if base is not None and not _is_misspelt_component(node, get_schema(base)):
            return base, node
        if not _is_misspelt_component(node):
            raise config_error(node.origin, key, "expected a component: add `name: ...` to this mapping")
        raise unknown_component(node.origin, key, next(iter(node.value)))
    named = with_name(node)
    name = named.value["name"].value if named.is_map else named.value
    if not is_component(name):
        if node.is_map and "name" in node.value:
            raise unknown_component(node.value["name"].origin, f"{key}.name", name)
        raise unknown_component(node.origin, key, name)
    return name, Node({word: child for word, child in named.value.items() if word != "name"}, node.origin)


def unknown_component(origin: str, key: str, name: Any) -> ConfigError:
    """Make the error for a `name` that stands where a component is expected and is none."""
    if not isinstance(name, str):
        shown = value_in_words(to_plain(Node(name, origin)))
        return config_error(origin, key, f"expected the name of a component, got {shown}")
    unknown = f"there is no component {name!r}{nearest(name, names_that_fit(key))}"
    return config_error(origin, key, (describe_foreign_component(name) or unknown) + IMPORT_ADVICE)


def _is_misspelt_component(node: Node, schema: Schema | None = None) -> bool:
    """Tell whether a mapping without a name is a misspelt component, {FCOSLos: {...}}, and not a set of overrides.

    `schema` is the schema of the component to which the overrides would belong.
    """
    key = next(iter(node.value), None)
    if len(node.value) != 1 or (schema is not None and key in schema.parameters):
        return False
    return _can_hold_parameters(node.value[key])


def _can_hold_parameters(node: Node) -> bool:
    return node.is_map or node.value is None
