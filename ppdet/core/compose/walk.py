"""Visiting all components of a configuration, however deeply they are nested."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ppdet.core.compose.inject import MAX_DEPTH, ComponentConfig, listed_components
from ppdet.core.extensions import imported_modules
from ppdet.core.registry import is_component
from ppdet.core.settings import SETTINGS, SLOTS
from ppdet.core.tree import Node

if TYPE_CHECKING:
    from ppdet.core.config import Config


def walk(config: "Config", names: Sequence[str] | None = None) -> Iterator[ComponentConfig]:
    """Yield each component once: the components in `names`, the components that they name, and so on.

    A component that is named without overrides has its own name as its key, like a section.

    Args:
        names: components and slots; None means all sections, all slots that are set, and the architecture.
    """
    if names is None:
        architecture = config["architecture"]
        names = [key for key in config.root.value if is_component(key) or (key in SLOTS and config[key])]
        names += [architecture] if architecture else []
    visited_names: set[str] = set()
    visited_nodes: dict[int, Node] = {}  # by id; kept alive, so that no other node can get the same one
    queue: deque[str | ComponentConfig] = deque(names)
    for key, setting in SETTINGS.items():
        if setting.holds_components:
            queue += listed_components(config.root, key)
    while queue:
        component = queue.popleft()
        if isinstance(component, str):
            if component in visited_names:
                continue
            visited_names.add(component)
            component = config.component(component)
        yield component
        for parameter in component.schema.parameters.values():
            if parameter.injected and (parameter.name in component.values_set or not parameter.required):
                node = component.node(parameter)
                if component.key.count(".") < MAX_DEPTH and id(node) not in visited_nodes:
                    visited_nodes[id(node)] = node
                    queue += _components_in(component, node, parameter.name, parameter.default)


def required_modules(config: "Config") -> list[str]:
    """Return the modules from outside that have to be imported before a copy of the configuration can be loaded.

    These are the modules that `requires` names, those that `import_extensions` has imported, and those of components
    that the configuration names.
    """
    names = dict.fromkeys([*config["requires"], *imported_modules()])
    for component in walk(config):
        module = component.schema.cls.__module__
        is_outside = module != "__main__" and not module.startswith("ppdet.")
        if is_outside and not any(f"{module}.".startswith(f"{name}.") for name in names):
            names[module] = None
    return list(names)


def _components_in(config: ComponentConfig, node: Node, name: str, default: Any) -> Sequence[str | ComponentConfig]:
    """Return the components that the value of an injected parameter holds: only the name of one without overrides."""
    key = f"{config.key}.{name}"
    if node.is_list:
        return [config.nested(item, f"{key}.{index}") for index, item in enumerate(node.value)]
    if node.is_map:
        return [config.nested(node, key, default)]
    return [node.value] if is_component(node.value) else []
