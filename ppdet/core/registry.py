"""The components there are, by name."""

import sys
from typing import Any, TypeVar

from ppdet.core.schema import Schema, read_schema
from ppdet.utils.errors import ComponentError, ConfigError, nearest

Class = TypeVar("Class", bound=type)

_schemas: dict[str, Schema] = {}
_taggable: set[str] = set()


def register(cls: Class) -> Class:
    """Class decorator: YAML may configure, name and inject this class by its class name.

    A class that is defined again at the same place, as when a notebook's cell runs twice, replaces the earlier one.

    Raises:
        ComponentError: another class has this name, or the constructor does not suit YAML (`read_schema`).
    """
    known = _schemas.get(cls.__name__)
    if known is not None and (known.cls.__module__, known.cls.__qualname__) != (cls.__module__, cls.__qualname__):
        # A file from outside that is imported before the project's own components is still the one to be renamed.
        first, second = (cls, known.cls) if cls.__module__.startswith("ppdet.") else (known.cls, cls)
        raise ComponentError(
            f"a component called {cls.__name__} is already registered by {_defined_in(first)}: give the one in "
            f"{_defined_in(second)} another name"
        )
    _schemas[cls.__name__] = read_schema(cls)
    return cls


def _defined_in(cls: type) -> str:
    """The module of a class, with its file where it has one."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return f"{cls.__module__} ({file})" if file else cls.__module__


def serializable(cls: Class) -> Class:
    """Class decorator: YAML may also build this registered class with the tag !Name."""
    _taggable.add(cls.__name__)
    return cls


def named(component: str, **values: Any) -> Any:
    """Name the component that is the default of a parameter in `__inject__`.

    `backbone: nn.Layer = named("ResNet")` means: unless the configuration names another component, a ResNet with the
    parameters of its own section is built. `named("ResNet", depth=18)` gives some of its parameters other defaults.
    Called without a configuration, the constructor gets this name or mapping itself, and no component.

    Args:
        component: name of the class. It need not be registered yet.
        **values: parameters of that class.

    Returns:
        The name, or {"name": component, **values}. The type is Any, so that the parameter can be annotated with the
        class of the object that the constructor gets.
    """
    return {"name": component, **values} if values else component


def is_component(name: object) -> bool:
    """Tell whether `name` is the name of a registered component."""
    return isinstance(name, str) and name in _schemas


def is_taggable(name: str) -> bool:
    """Tell whether `!name` may stand in a YAML file."""
    return name in _schemas and name in _taggable


def get_schema(name: str) -> Schema:
    """Return the schema of a registered component; ConfigError with the nearest name if there is none."""
    if name not in _schemas:
        raise ConfigError(f"there is no component {name!r}{nearest(name, _schemas)}")
    return _schemas[name]


def components_of(package: str) -> list[str]:
    """Return the components that the modules of a package define, sorted."""
    return sorted(name for name, schema in _schemas.items() if f"{schema.cls.__module__}.".startswith(f"{package}."))


def component_names() -> list[str]:
    """Return the names of all registered components, sorted."""
    return sorted(_schemas)


def taggable_names() -> list[str]:
    """Return the names that may be YAML tags, sorted."""
    return sorted(name for name in _schemas if name in _taggable)
