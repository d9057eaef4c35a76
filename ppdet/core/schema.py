"""What a component accepts, read from its constructor: names, types, defaults, __inject__, __shared__."""

import collections.abc
import inspect
import typing
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union

from ppdet.utils.errors import ComponentError

REQUIRED = inspect.Parameter.empty
LISTS = (list, tuple, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)


class Boolean:
    """Stands for bool while types are checked: Python's bool is a kind of int, and a YAML true is not."""


@dataclass(frozen=True)
class Parameter:
    """One constructor parameter. `default` is REQUIRED when there is none."""

    name: str
    annotation: Any
    default: Any
    injected: bool
    shared: bool

    @property
    def required(self) -> bool:
        return self.default is REQUIRED

    @property
    def accepts_none(self) -> bool:
        return self.default is None or any(choice in (Any, object, type(None)) for choice in self._choices())

    @property
    def accepts_list(self) -> bool:
        return any(choice in (Any, object) or _origin(choice) in LISTS for choice in self._choices())

    @property
    def accepts_single(self) -> bool:
        return any(_origin(choice) not in LISTS and choice is not type(None) for choice in self._choices())

    def _choices(self) -> tuple:
        return typing.get_args(self.annotation) if is_union(self.annotation) else (self.annotation,)


@dataclass(frozen=True)
class Schema:
    """A component's name, class and parameters by name, in the order of the constructor."""

    name: str
    cls: type
    parameters: dict[str, Parameter]

    @property
    def has_from_config(self) -> bool:
        return hasattr(self.cls, "from_config")


def read_schema(cls: type) -> Schema:
    """Read the schema of `cls`.

    Raises ComponentError for a constructor that YAML could not address: *args or **kwargs, a parameter called
    `name` (it names the component in YAML), or an entry of __inject__ or __shared__ that is no parameter.
    """
    injected, shared = list(getattr(cls, "__inject__", [])), list(getattr(cls, "__shared__", []))
    parameters = {}
    if cls.__init__ is not object.__init__:
        hints = typing.get_type_hints(cls.__init__)
        for name, parameter in list(inspect.signature(cls.__init__).parameters.items())[1:]:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
                raise ComponentError(
                    f"{cls.__name__}: a component's constructor names its parameters, {parameter} does not"
                )
            parameters[name] = Parameter(
                name, hints.get(name, Any), parameter.default, name in injected, name in shared
            )
    if "name" in parameters:
        raise ComponentError(f"{cls.__name__}: a parameter cannot be called 'name', it names the component in YAML")
    for name in injected + shared:
        if name not in parameters:
            raise ComponentError(f"{cls.__name__}: {name!r} of __inject__ or __shared__ is no constructor parameter")
    return Schema(cls.__name__, cls, parameters)


def fits(value: Any, annotation: Any) -> bool:
    """Tell whether a value read from YAML has the annotated type, in every item of every list and dictionary.

    A whole number is a float; true and false are not numbers; text is not a list of letters.
    """
    from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

    try:
        check_type(
            _mark_booleans(value),
            _strict(annotation),
            collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS,
        )
    except TypeCheckError:
        return False
    return True


def describe(annotation: Any) -> str:
    """Say a type in the words of a YAML author: "list of int", "one of 'iou', 'giou'", "float or null"."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if is_union(annotation):
        rest = [describe(choice) for choice in arguments if choice is not type(None)]
        return " or ".join([*rest, "null"] if type(None) in arguments else rest)
    if origin is typing.Literal:
        return "one of " + ", ".join(repr(choice) for choice in arguments)
    if annotation in (Any, object):
        return "any value"
    if _origin(annotation) in LISTS:
        items = [describe(argument) for argument in arguments if argument is not ...]
        return f"list of {items[0]}" if items else "list"
    if origin in (dict, collections.abc.Mapping):
        return f"mapping of {describe(arguments[0])} to {describe(arguments[1])}"
    if annotation in (dict, collections.abc.Mapping, typing.Mapping):
        return "mapping"
    plain = {bool: "true or false", int: "int", float: "float", str: "text"}
    return plain.get(annotation) or getattr(annotation, "__name__", str(annotation))


def literal_choices(annotation: Any) -> list[str]:
    """Return the words a parameter can be, if its annotation lists them with typing.Literal."""
    if typing.get_origin(annotation) is typing.Literal:
        return [choice for choice in typing.get_args(annotation) if isinstance(choice, str)]
    if is_union(annotation):
        return [word for choice in typing.get_args(annotation) for word in literal_choices(choice)]
    return []


def list_item(annotation: Any) -> Any:
    """Return the type of the items of the one kind of list that an annotation allows, None if unclear."""
    choices = typing.get_args(annotation) if is_union(annotation) else (annotation,)
    lists = [choice for choice in choices if _origin(choice) in LISTS and typing.get_args(choice)]
    return typing.get_args(lists[0])[0] if len(lists) == 1 else None


def is_union(annotation: Any) -> bool:
    """Tell Optional[X], Union[X, Y] and X | Y from other annotations."""
    return typing.get_origin(annotation) in (Union, UnionType)


def _origin(annotation: Any) -> Any:
    return typing.get_origin(annotation) or annotation


def _strict(annotation: Any) -> Any:
    """Rewrite an annotation for values from YAML: bool becomes Boolean, any kind of sequence becomes list."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is bool:
        return Boolean
    if origin is typing.Literal:
        return Union[tuple(Boolean if isinstance(choice, bool) else typing.Literal[choice] for choice in arguments)]  # noqa: UP007
    if is_union(annotation):
        return Union[tuple(_strict(choice) for choice in arguments)]  # noqa: UP007
    if _origin(annotation) in LISTS[2:]:
        return list[_strict(arguments[0])] if arguments else list
    if origin in (list, dict, tuple, collections.abc.Mapping):
        return origin[tuple(argument if argument is ... else _strict(argument) for argument in arguments)]
    return annotation


def _mark_booleans(value: Any) -> Any:
    if isinstance(value, bool):
        return Boolean()
    if isinstance(value, list):
        return [_mark_booleans(item) for item in value]
    if isinstance(value, dict):
        return {key: _mark_booleans(item) for key, item in value.items()}
    return value
