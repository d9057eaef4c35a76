"""All registered components by name, and the decorators that register them."""

import sys
from typing import Any, TypeVar

from ppdet.core.schema import Schema, read_schema
from ppdet.utils.errors import ComponentError, ConfigError, nearest

Class = TypeVar("Class", bound=type)

# Kinds of components, in the order of the data flow, and the package whose classes and their subclasses are of a kind.
KINDS = {
    "architectures": "ppdet.modeling.architectures",
    "backbones": "ppdet.modeling.backbones",
    "necks": "ppdet.modeling.necks",
    "heads": "ppdet.modeling.heads",
    "losses": "ppdet.modeling.losses",
    "kinds of NMS": "ppdet.modeling.nms",
    "data sets": "ppdet.data.sources",
    "readers": "ppdet.data.loading",
    "transforms": "ppdet.data.transforms",
    "schedules": "ppdet.optimizer.learning_rate",
    "optimizers": "ppdet.optimizer.optimizer",
    "metrics": "ppdet.metrics",
    "hooks": "ppdet.engine.hooks",
}
OTHER_KIND = "other components"

_schemas: dict[str, Schema] = {}
_taggable: set[str] = set()


def register(cls: Class) -> Class:
    """Class decorator: make a class a component, which YAML files configure, name and inject by the class's name.

    A class that is defined again at the same place, as when a notebook's cell runs twice, replaces the earlier one.

    Raises:
        ComponentError: another class has this name, or YAML could not set the constructor's parameters.
    """
    known = _schemas.get(cls.__name__)
    if known is not None and (known.cls.__module__, known.cls.__qualname__) != (cls.__module__, cls.__qualname__):
        # The user's class is the one to be renamed, even if it was imported before the project's own components.
        first, second = (cls, known.cls) if cls.__module__.startswith("ppdet.") else (known.cls, cls)
        raise ComponentError(
            f"a component called {cls.__name__} is already registered by {_defined_in(first)}: give the one in "
            f"{_defined_in(second)} another name"
        )
    _schemas[cls.__name__] = read_schema(cls)
    return cls


def _defined_in(cls: type) -> str:
    """Return the name of a class's module, with its file if it has one."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return f"{cls.__module__} ({file})" if file else cls.__module__


def serializable(cls: Class) -> Class:
    """Class decorator: let YAML files name a registered component by the tag !Name as well."""
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
    """Tell whether YAML files may use the tag `!name`."""
    return name in _schemas and name in _taggable


def get_schema(name: str) -> Schema:
    """Return the schema of a registered component. Raises ConfigError, with the nearest name, if it does not exist."""
    if name not in _schemas:
        raise ConfigError(f"there is no component {name!r}{nearest(name, _schemas)}")
    return _schemas[name]


def component_names() -> list[str]:
    """Return the names of all registered components, sorted."""
    return sorted(_schemas)


def names_that_fit(key: str) -> list[str]:
    """Return the names of the components that may be meant at a dotted key, for suggestions.

    The key's last word tells the kind: `architecture`, `FCOS.backbone`, `TrainReader.sample_transforms.0`. Components
    of no known kind, such as layers from outside, may be meant everywhere; a key without a kind allows all names.
    """
    words = [word for word in key.lower().split(".") if word != "name" and not word.isdigit()]
    endings = tuple(f"{words[-1]}{plural}" for plural in ("", "s", "es")) if words else ()
    for kind in KINDS:
        if any(ending.endswith(kind.lower().rpartition(" ")[2]) for ending in endings):
            return [schema.name for schema in [*components_of(kind), *components_of(OTHER_KIND)]]
    return component_names()


def taggable_names() -> list[str]:
    """Return the names that may be YAML tags, sorted."""
    return sorted(name for name in _schemas if name in _taggable)


def components_of(kind: str) -> list[Schema]:
    """Return the components of a kind, sorted by name: a key of KINDS, or OTHER_KIND."""
    return [schema for name, schema in sorted(_schemas.items()) if _kind_of(schema.cls) == kind]


def _kind_of(cls: type) -> str:
    """Return the kind of a component class: the kind of the first class in its method resolution order that has one."""
    for owner in cls.__mro__:
        for kind, package in KINDS.items():
            if f"{owner.__module__}.".startswith(f"{package}."):
                return kind
    return OTHER_KIND
