"""Building components: values in, objects out."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from ppdet.core.compose.validate import missing_value, parse_spec, section_of
from ppdet.core.registry import component_names, get_schema, is_component
from ppdet.core.schema import Parameter, Schema
from ppdet.core.settings import SETTINGS, SLOTS
from ppdet.core.tree import Node, from_plain, to_plain
from ppdet.utils.errors import ConfigError, ConfigKeyError, UserError, config_error, nearest

MAX_DEPTH = 30


class ComponentConfig(Mapping):
    """The parameters of one component: overrides over its section over shared globals over its defaults.

    This is what `from_config(cls, cfg, **kwargs)` receives as `cfg`.
    """

    def __init__(self, root: Node, schema: Schema, overrides: Node, key: str) -> None:
        self.root, self.schema, self.key = root, schema, key
        section = section_of(root, schema.name)
        self.location = section.origin if schema.name in root.value and not overrides.value else overrides.origin
        self.values_set: dict[str, Node] = {**section.value, **overrides.value}
        self.shared_from: set[str] = set()
        for parameter in schema.parameters.values():
            if parameter.shared and parameter.name not in self.values_set and parameter.name in root.value:
                self.values_set[parameter.name] = root.value[parameter.name]
                self.shared_from.add(parameter.name)

    def __getitem__(self, name: str) -> Any:
        parameter = self._parameter(name)
        if name in self.values_set:
            return to_plain(self.values_set[name])
        if parameter.required:
            raise ConfigKeyError(str(missing_value(self.location, f"{self.key}.{name}", self.schema, parameter)))
        return copy.deepcopy(parameter.default)

    def __iter__(self) -> Iterator[str]:
        return (p.name for p in self.schema.parameters.values() if p.name in self.values_set or not p.required)

    def __len__(self) -> int:
        return len(list(iter(self)))

    def create(self, name: str, **kwargs: Any) -> Any:
        """Build what the __inject__ parameter `name` holds: an object, a list of objects, or None."""
        parameter = self._parameter(name)
        if not parameter.injected:
            raise TypeError(f"{self.schema.name}.{name} is not in __inject__")
        return self._build(self.node(parameter), f"{self.key}.{name}", kwargs, parameter.default)

    def node(self, parameter: Parameter) -> Node:
        """Return the value of a parameter with its origin; origin "default" if nothing sets it."""
        if parameter.name in self.values_set:
            return self.values_set[parameter.name]
        if parameter.required:
            raise missing_value(self.location, f"{self.key}.{parameter.name}", self.schema, parameter)
        return from_plain(parameter.default, "default")

    def _parameter(self, name: str) -> Parameter:
        if name not in self.schema.parameters:
            hint = nearest(name, self.schema.parameters)
            raise ConfigKeyError(f"{self.schema.name} has no parameter {name!r}{hint}")
        return self.schema.parameters[name]

    def _build(self, node: Node, key: str, kwargs: dict[str, Any], default: Any = None) -> Any:
        if node.is_list:
            return [self._build(item, f"{key}.{index}", kwargs) for index, item in enumerate(node.value)]
        if not (node.is_map or isinstance(node.value, str)):
            return node.value
        if key.count(".") > MAX_DEPTH:
            raise config_error(self.location, self.key, f"{self.schema.name} is built inside itself without end")
        name, overrides = parse_spec(node, key, default)
        overrides = over_default(overrides, name, default)
        return build(ComponentConfig(self.root, get_schema(name), overrides, key), kwargs)


def over_default(overrides: Node, name: str, default: Any) -> Node:
    """Put the overrides of component `name` over a default that is a mapping and names the same component."""
    if not isinstance(default, dict) or default.get("name") != name:
        return overrides
    below = {key: from_plain(value, "default") for key, value in default.items() if key != "name"}
    return Node({**below, **overrides.value}, overrides.origin)


def component_config(root: Node, name: str) -> ComponentConfig:
    """Return the parameters of the component `name`, or of the one that the slot `name` holds."""
    if name in SLOTS and not is_component(name):
        node = root.value.get(name)
        if node is None or node.value is None:
            raise config_error(root.origin, name, "not set; it should hold a data set, such as {name: COCODataSet}")
        component, overrides = parse_spec(node, name)
        return ComponentConfig(root, get_schema(component), overrides, name)
    if not is_component(name):
        hint = nearest(str(name), [*component_names(), *SLOTS])
        raise ConfigError(f"there is no component {name!r}{hint}")
    return ComponentConfig(root, get_schema(name), Node({}, root.origin), name)


def listed_components(root: Node, key: str) -> list[ComponentConfig]:
    """Return the components that a global setting such as `hooks` lists."""
    node = root.value.get(key)
    specs = [parse_spec(item, f"{key}.{index}") for index, item in enumerate(node.value if node else ())]
    return [
        ComponentConfig(root, get_schema(name), overrides, f"{key}.{index}")
        for index, (name, overrides) in enumerate(specs)
    ]


def create(name: str, config: Any, **kwargs: Any) -> Any:
    """Build the component or slot `name` of a Config. See Config.create."""
    if name in SETTINGS and SETTINGS[name].holds_components:
        return [build(component, kwargs) for component in listed_components(config.root, name)]
    return build(component_config(config.root, name), kwargs)


def build(config: ComponentConfig, kwargs: dict[str, Any]) -> Any:
    """Build one component. What from_config (or the caller) gives wins over the configuration.

    A ValueError of the constructor becomes a ConfigError that names the place of the component.
    """
    schema = config.schema
    try:
        given = schema.cls.from_config(config, **kwargs) if schema.has_from_config else kwargs
        return schema.cls(**_arguments(config, given))
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise config_error(config.location, config.key, str(error)) from error


def _arguments(config: ComponentConfig, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the constructor's arguments: those given, and from the configuration what it sets besides."""
    schema = config.schema
    for name in given:
        if name not in schema.parameters:
            source = "from_config gives" if schema.has_from_config else "the caller gives"
            raise TypeError(
                f"{schema.name} has no parameter {name!r}, which {source}{nearest(name, schema.parameters)}"
            )
    arguments = dict(given)
    for parameter in schema.parameters.values():
        if parameter.name in arguments:
            continue
        value = _argument(config, parameter)
        if value is not _UNSET:
            arguments[parameter.name] = value
    return arguments


_UNSET: Any = object()


def _argument(config: ComponentConfig, parameter: Parameter) -> Any | None:
    if parameter.injected:
        node = config.node(parameter)
        return config.create(parameter.name) if node.value is not None else None
    if parameter.name in config.values_set:
        return config[parameter.name]
    config.node(parameter)  # raises if it is required
    return _UNSET
