"""The parameters of a component, read from its constructor, with their types and checks."""

import collections.abc
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import UnionType
from typing import Any, Union

from ppdet.utils.errors import ComponentError

REQUIRED = inspect.Parameter.empty
LISTS = (list, tuple, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)


class Boolean:
    """Replaces bool during type checks, because Python's bool is a subclass of int, but YAML's true is no number."""


@dataclass(frozen=True)
class Parameter:
    """One constructor parameter.

    Attributes:
        default: the default value, or REQUIRED.
        injected: `__inject__` lists the parameter: its value names a component, and the constructor gets the object.
        shared: `__shared__` lists the parameter: the global setting of the same name is its default.
        meaning: the parameter's text under `Args:` in the docstring, in one line; "" if it has none.
        given: for a parameter that the program supplies, which a configuration cannot set: where its value comes from.
            It comes from the class attribute `__given__`; "" for all other parameters.
    """

    name: str
    annotation: Any
    default: Any
    injected: bool
    shared: bool
    meaning: str = ""
    given: str = ""

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
    """A component: its name, its class, and its parameters in the order of the constructor.

    Attributes:
        unused: parameters that PaddleDetection's files may set and that change nothing, each with the reason. They
            come from the class attribute `__unused__`, and the constructor never gets them, even if it has them.
    """

    name: str
    cls: type
    parameters: dict[str, Parameter]
    unused: Mapping[str, str]

    @property
    def without_effect(self) -> dict[str, str]:
        """Parameters that change nothing in a configuration, each with the reason: unused and given ones."""
        return {**self.unused, **{name: p.given for name, p in self.parameters.items() if p.given}}

    @property
    def from_config(self) -> Callable[..., Mapping[str, Any]] | None:
        """The class method that computes constructor arguments from a ComponentConfig, if the class has one."""
        return getattr(self.cls, "from_config", None)

    @property
    def check_settings(self) -> Callable[..., None] | None:
        """The static method that raises ValueError for values that do not fit together, if the class has one.

        It takes some of the constructor's parameters by name, and is called whenever a configuration is read.
        """
        return getattr(self.cls, "check_settings", None)

    @cached_property
    def summary(self) -> str:
        """The first sentence of the class's docstring."""
        return first_sentence(inspect.cleandoc(self.cls.__doc__ or "").partition("\n\n")[0])


def read_schema(cls: type) -> Schema:
    """Read the schema of a class.

    Raises:
        ComponentError: YAML could not set the constructor's parameters: it has *args or **kwargs, or a parameter called
            `name` (which names the component in YAML); a default does not fit its annotation; or `__inject__`,
            `__shared__` or `__given__` lists another name than that of a parameter.
    """
    injected, shared = list(getattr(cls, "__inject__", [])), list(getattr(cls, "__shared__", []))
    given = dict(getattr(cls, "__given__", {}))
    unused = dict(getattr(cls, "__unused__", {}))
    meanings = _read_meanings(cls)
    parameters = {}
    constructor = inspect.getattr_static(cls, "__init__")
    # A class without a constructor of its own has the constructor of object or of paddle's layers, which YAML has no
    # use for.
    if isinstance(constructor, types.FunctionType) and not constructor.__module__.startswith("paddle."):
        try:
            hints = typing.get_type_hints(constructor)
        except NameError as error:
            raise ComponentError(
                f"{cls.__name__}: {error.name} is not defined: import the types of the constructor's parameters, and "
                "not only for type checkers"
            ) from None
        for name, parameter in list(inspect.signature(constructor).parameters.items())[1:]:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
                raise ComponentError(
                    f"{cls.__name__}: a component's constructor names its parameters, {parameter} does not"
                )
            annotation, default = hints.get(name, Any), parameter.default
            # The default None stands for "unset" in constructors of PaddleDetection's style.
            is_plain = isinstance(default, (bool, int, float, str, list, tuple, dict)) and name not in injected
            if is_plain and not (fits(default, annotation) or fits(_with_lists(default), annotation)):
                expected = f"it should be {type_in_words(annotation)}, as its annotation says"
                raise ComponentError(f"{cls.__name__}: the default of {name} is {value_in_words(default)}; {expected}")
            parameters[name] = Parameter(
                name=name,
                annotation=annotation,
                default=parameter.default,
                injected=name in injected,
                shared=name in shared,
                meaning=meanings.get(name, ""),
                given=given.get(name, ""),
            )
    if "name" in parameters:
        raise ComponentError(f"{cls.__name__}: a parameter cannot be called 'name', it names the component in YAML")
    for name in [*injected, *shared, *given]:
        if name not in parameters:
            raise ComponentError(
                f"{cls.__name__}: {name!r} of __inject__, __shared__ or __given__ is no constructor parameter"
            )
    parameters = {name: parameter for name, parameter in parameters.items() if name not in unused}
    return Schema(cls.__name__, cls, parameters, unused)


def first_sentence(text: str) -> str:
    """Return the text up to the first period that ends a sentence, in one line and without that period."""
    line = " ".join(text.split())
    return re.split(r"\.(?= [A-Z`])", line, maxsplit=1)[0].removesuffix(".")


def _read_meanings(cls: type) -> dict[str, str]:
    """Read the `Args:` sections in the docstrings of a class, its constructor and its base classes, nearest first."""
    meanings: dict[str, str] = {}
    for owner in cls.__mro__[:-1]:
        for documented in (owner, owner.__dict__.get("__init__")):
            for name, text in read_args(getattr(documented, "__doc__", None) or "").items():
                meanings.setdefault(name, text)
    return meanings


def read_args(docstring: str, heading: str = "Args") -> dict[str, str]:
    """Return the text of each parameter under a heading of a Google-style docstring, each in one line.

    `height, width: in pixels` gives both parameters the same text.
    """
    section = re.search(rf"^{heading}:\n((?:(?: +.*)?\n)*)", inspect.cleandoc(docstring) + "\n", re.MULTILINE)
    if section is None:
        return {}
    pattern = r"^(\w+(?:, \w+)*)(?: \([^)\n]*\))?:\s"
    entries = re.split(pattern, inspect.cleandoc("\n" + section[1]), flags=re.MULTILINE)[1:]
    return {
        name: " ".join(text.split())
        for names, text in zip(entries[::2], entries[1::2], strict=True)
        for name in names.split(", ")
    }


def fits(value: Any, annotation: Any) -> bool:
    """Tell whether a value read from YAML has the annotated type, in every item of every list and dictionary.

    A whole number counts as a float; true and false are not numbers; text is not a list of letters.
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


def type_in_words(annotation: Any) -> str:
    """Name a type in the words of a YAML author: "list of int", "one of 'iou', 'giou'", "float or null"."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if is_union(annotation):
        rest = [type_in_words(choice) for choice in arguments if choice is not type(None)]
        return " or ".join([*rest, "null"] if type(None) in arguments else rest)
    if origin is typing.Literal:
        choices = ", ".join(repr(choice) for choice in arguments)
        return choices if len(arguments) == 1 else f"one of {choices}"
    if annotation in (Any, object):
        return "any value"
    if _origin(annotation) in LISTS:
        items = [type_in_words(argument) for argument in arguments if argument is not ...]
        if not items:
            return "list"
        return f"list of ({items[0]})" if is_union(arguments[0]) else f"list of {items[0]}"
    if origin in (dict, collections.abc.Mapping):
        return f"mapping of {type_in_words(arguments[0])} to {type_in_words(arguments[1])}"
    if annotation in (dict, collections.abc.Mapping, typing.Mapping):
        return "mapping"
    plain = {bool: "true or false", int: "int", float: "float", str: "text"}
    return plain.get(annotation) or str(getattr(annotation, "__name__", annotation))


def value_in_words(value: Any) -> str:
    """Show a value that has the wrong type, shortened, with its type: `'80' (text)`."""
    kinds = {bool: "true/false", int: "int", float: "float", str: "text", list: "list", dict: "mapping"}
    if value is None:
        return "null"
    text = repr(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    return f"{text} ({kinds.get(type(value), type(value).__name__)})"


def literal_choices(annotation: Any) -> list[str]:
    """Return the words that an annotation with typing.Literal allows; [] for other annotations."""
    if typing.get_origin(annotation) is typing.Literal:
        return [choice for choice in typing.get_args(annotation) if isinstance(choice, str)]
    if is_union(annotation):
        return [word for choice in typing.get_args(annotation) for word in literal_choices(choice)]
    return []


def list_item(annotation: Any) -> Any:
    """Return the item type of the list that an annotation allows; None if it allows no list, or several kinds."""
    choices = typing.get_args(annotation) if is_union(annotation) else (annotation,)
    lists = [choice for choice in choices if _origin(choice) in LISTS and typing.get_args(choice)]
    return typing.get_args(lists[0])[0] if len(lists) == 1 else None


def is_union(annotation: Any) -> bool:
    """Tell whether an annotation is a union: Optional[X], Union[X, Y] or X | Y."""
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
        return types.GenericAlias(list, _strict(arguments[0])) if arguments else list
    if origin in (list, dict, tuple, collections.abc.Mapping):
        return origin[tuple(argument if argument is ... else _strict(argument) for argument in arguments)]
    return annotation


def _with_lists(value: Any) -> Any:
    """Return a value as YAML would hold it: with lists in place of tuples."""
    return [_with_lists(item) for item in value] if isinstance(value, (list, tuple)) else value


def _mark_booleans(value: Any) -> Any:
    """Replace every true and false in a value by a Boolean object."""
    if isinstance(value, bool):
        return Boolean()
    if isinstance(value, list):
        return [_mark_booleans(item) for item in value]
    if isinstance(value, dict):
        return {key: _mark_booleans(item) for key, item in value.items()}
    return value
