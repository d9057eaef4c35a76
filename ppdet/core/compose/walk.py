"""All components of a configuration, however deep they are named."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ppdet.core.compose.inject import MAX_DEPTH, ComponentConfig, listed_components, over_default
from ppdet.core.compose.validate import parse_spec
from ppdet.core.registry import get_schema, is_component
from ppdet.core.settings import SETTINGS, SLOTS
from ppdet.core.tree import Node

if TYPE_CHECKING:
    from ppdet.core.config import Config


def walk(config: "Config", names: list[str] | None = None) -> Iterator[ComponentConfig]:
    """Yield each component once: those of `names`, what they name, and so on.

    Without `names` it begins with all sections, slots and the architecture. The key of a component that is named
    without overrides is its name, as that of a section.
    """
    if names is None:
        architecture = config["architecture"]
        names = [key for key in config.root.value if is_component(key) or (key in SLOTS and config[key])]
        names += [architecture] if architecture else []
    found: set[str] = set()
    seen: list[Node] = []  # kept, so that no other node can have the same id
    queue: list = list(names)
    for key in SETTINGS:
        if SETTINGS[key].holds_components:
            queue += listed_components(config.root, key)
    while queue:
        component = queue.pop(0)
        if isinstance(component, str):
            if component in found:
                continue
            found.add(component)
            component = config.component(component)
        yield component
        for parameter in component.schema.parameters.values():
            if parameter.injected and (parameter.name in component.values_set or not parameter.required):
                node = component.node(parameter)
                if component.key.count(".") < MAX_DEPTH and not any(node is one for one in seen):
                    seen.append(node)
                    queue += _below(component, node, parameter.name, parameter.default)


def component_below(config: ComponentConfig, node: Node, key: str, default: Any = None) -> ComponentConfig:
    """The component that a value of `config` names, with the overrides that stand there."""
    name, overrides = parse_spec(node, key, default)
    return ComponentConfig(config.root, get_schema(name), over_default(overrides, name, default), key)


def _below(config: ComponentConfig, node: Node, parameter: str, default: Any) -> list:
    """Components that an injected value holds, and names of those without overrides."""
    key = f"{config.key}.{parameter}"
    if node.is_list:
        return [component_below(config, item, f"{key}.{index}") for index, item in enumerate(node.value)]
    if node.is_map:
        return [component_below(config, node, key, default)]
    return [node.value] if is_component(node.value) else []
