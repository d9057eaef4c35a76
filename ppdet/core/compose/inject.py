"""Building components: from the values of a configuration to objects."""

import copy
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from ppdet.core.compose.spelling import read_component
from ppdet.core.compose.validate import missing_value, section_of
from ppdet.core.registry import component_names, get_schema, is_component
from ppdet.core.schema import Parameter, Schema
from ppdet.core.settings import SLOTS
from ppdet.core.tree import Node, from_plain, to_plain
from ppdet.utils.errors import ComponentError, ConfigError, ConfigKeyError, UserError, config_error, nearest

MAX_DEPTH = 30  # nesting deeper than this is reported as a component that contains itself


class ComponentConfig(Mapping[str, Any]):
    """The effective parameters of one component, by name. `from_config` gets this mapping as its argument `cfg`.

    The value of a parameter is the first of: the overrides where the component is named, the component's section, the
    global setting of that name if the parameter is shared, the constructor's default.

    Attributes:
        root: the whole configuration.
        key: dotted key at which the component is named, such as "FCOS.backbone", or its name.
        location: where the component is named, such as "fcos.yml:12", for errors.
        values_set: parameters that the configuration sets, without defaults and without `ignored`.
        ignored: parameters that the configuration sets, but that change nothing; see `Schema.without_effect`.
        shared_from: names of the parameters in `values_set` whose value comes from a global setting.
    """

    def __init__(self, root: Node, schema: Schema, overrides: Node, key: str) -> None:
        self.root, self.schema, self.key = root, schema, key
        section = section_of(root, schema.name)
        self.location = section.origin if schema.name in root.value and not overrides.value else overrides.origin
        values = {**section.value, **overrides.value}
        self.ignored: dict[str, Node] = {name: values.pop(name) for name in schema.without_effect if name in values}
        self.values_set: dict[str, Node] = values
        self.shared_from: set[str] = set()
        for parameter in schema.parameters.values():
            if parameter.shared and parameter.name not in self.values_set and parameter.name in root.value:
                self.values_set[parameter.name] = root.value[parameter.name]
                self.shared_from.add(parameter.name)

    def __getitem__(self, name: str) -> Any:
        parameter = self._parameter(name)
        if parameter.given:
            raise ConfigKeyError(f"{self.key}.{name} is no setting: {parameter.given}")
        if name in self.values_set:
            return to_plain(self.values_set[name])
        if parameter.required:
            raise ConfigKeyError(str(missing_value(self.location, f"{self.key}.{name}", self.schema, parameter)))
        return copy.deepcopy(parameter.default)

    def __iter__(self) -> Iterator[str]:
        parameters = (p for p in self.schema.parameters.values() if not p.given)
        return (p.name for p in parameters if p.name in self.values_set or not p.required)

    def __len__(self) -> int:
        return len(list(iter(self)))

    def create(self, name: str, **kwargs: Any) -> Any:
        """Build the value of the injected parameter `name`: an object, a list of objects, or None.

        Keyword arguments go to the component's `from_config` if it has one, else to its constructor.
        """
        parameter = self._parameter(name)
        if not parameter.injected:
            raise TypeError(f"{self.schema.name}.{name} is not in __inject__")
        return self._build_value(self.node(parameter), f"{self.key}.{name}", kwargs, parameter.default)

    def node(self, parameter: Parameter) -> Node:
        """Return the effective value of a parameter with its origin, which is "default" if nothing sets it."""
        if parameter.name in self.values_set:
            return self.values_set[parameter.name]
        if parameter.required:
            raise missing_value(self.location, f"{self.key}.{parameter.name}", self.schema, parameter)
        return from_plain(parameter.default, "default")

    def nested(self, node: Node, key: str, default: Any = None) -> "ComponentConfig":
        """Return the parameters of a component that a value in this one names.

        Args:
            node: the value.
            key: its dotted key.
            default: the default of the parameter that has this value. If it is a mapping for the same component, the
                overrides in the value lie over it.
        """
        name, overrides = read_component(node, key, default)
        if isinstance(default, dict) and default.get("name") == name:
            below = {word: from_plain(value, "default") for word, value in default.items() if word != "name"}
            overrides = Node({**below, **overrides.value}, overrides.origin)
        return ComponentConfig(self.root, get_schema(name), overrides, key)

    def build(self, kwargs: Mapping[str, Any]) -> Any:
        """Build the component. What `from_config` returns, or else `kwargs`, wins over the configuration.

        Raises:
            ConfigError: the constructor raises a ValueError; the message names the place of the component.
        """
        try:
            from_config = self.schema.from_config
            self._check_supplied(kwargs)
            given = kwargs if from_config is None else from_config(self, **kwargs)
            return self.schema.cls(**self._arguments(given))
        except UserError:
            raise
        except ValueError as error:
            raise config_error(self.location, self.key, str(error)) from error

    def check_settings(self) -> None:
        """Let the component's class check the values, without building it; see `Schema.check_settings`.

        Raises:
            ConfigError: they do not fit together; the message names the place of the parameter that it is about.
        """
        check = self.schema.check_settings
        if check is None:
            return
        try:
            check(**{name: self[name] for name in inspect.signature(check).parameters})
        except ValueError as error:
            named = (word for word in self.values_set if str(error).startswith(f"{self.schema.name}.{word} "))
            first = next(named, None)
            origin = self.location if first is None else self.values_set[first].origin
            raise config_error(origin, self.key, str(error)) from error

    def _check_supplied(self, kwargs: Mapping[str, Any]) -> None:
        """Raise ConfigError unless the component accepts `kwargs`, the arguments that the program supplies."""
        name, from_config = self.schema.name, self.schema.from_config
        supplied = ", ".join(["cls", "cfg", *kwargs])
        if from_config is not None:
            try:
                inspect.signature(from_config).bind(self, **kwargs)
            except TypeError as error:
                problem = f"from_config of {name} cannot be called as from_config({supplied}) ({error})"
                raise config_error(self.location, self.key, f"{problem}: {name} does not fit here") from None
        missing = next((word for word in kwargs if word not in self.schema.parameters), None)
        if from_config is None and missing is not None:
            hint = nearest(missing, self.schema.parameters)
            problem = f"{name} has neither a parameter {missing!r}{hint} nor a class method from_config({supplied})"
            raise config_error(self.location, self.key, f"{problem} (docs/EXTENDING.md)")

    def _parameter(self, name: str) -> Parameter:
        if name not in self.schema.parameters:
            hint = nearest(name, self.schema.parameters)
            raise ConfigKeyError(f"{self.schema.name} has no parameter {name!r}{hint}")
        return self.schema.parameters[name]

    def _build_value(self, node: Node, key: str, kwargs: Mapping[str, Any], default: Any = None) -> Any:
        if node.is_list:
            return [self._build_value(item, f"{key}.{index}", kwargs) for index, item in enumerate(node.value)]
        if not (node.is_map or isinstance(node.value, str)):
            return node.value  # null, or an object from Python
        if key.count(".") > MAX_DEPTH:
            raise config_error(self.location, self.key, f"{self.schema.name} is built inside itself without end")
        return self.nested(node, key, default).build(kwargs)

    def _arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the constructor's arguments: those given, and all others that the configuration sets."""
        for name in given:
            if name not in self.schema.parameters:
                hint = nearest(name, self.schema.parameters)
                raise ComponentError(f"{self.schema.name} has no parameter {name!r}, which from_config gives{hint}")
        arguments = dict(given)
        for parameter in self.schema.parameters.values():
            if parameter.name in given:
                continue
            node = self.node(parameter)
            if parameter.injected:
                arguments[parameter.name] = self.create(parameter.name) if node.value is not None else None
            elif parameter.name in self.values_set:
                arguments[parameter.name] = to_plain(node)
        return arguments


def listed_components(root: Node, key: str) -> list[ComponentConfig]:
    """Return the components that a global setting such as `hooks` lists."""
    node = root.value.get(key)
    listed = []
    for index, item in enumerate(node.value if node is not None else ()):
        name, overrides = read_component(item, f"{key}.{index}")
        listed.append(ComponentConfig(root, get_schema(name), overrides, f"{key}.{index}"))
    return listed


def component_config(root: Node, name: str) -> ComponentConfig:
    """Return the parameters of the component `name`, or of the component that the slot `name` holds."""
    if name in SLOTS and not is_component(name):
        node = root.value.get(name)
        if node is None or node.value is None:
            raise config_error(root.origin, name, "not set; it should hold a data set, such as {name: COCODataSet}")
        component, overrides = read_component(node, name)
        return ComponentConfig(root, get_schema(component), overrides, name)
    if not is_component(name):
        hint = nearest(str(name), [*component_names(), *SLOTS])
        raise ConfigError(f"there is no component {name!r}{hint}")
    return ComponentConfig(root, get_schema(name), Node({}, root.origin), name)
