"""Checking that objects of outside classes have the members that the project uses.

A contract is a Protocol, such as `ppdet.modeling.architectures.base.Backbone`, or a base class. It documents each
method by a docstring, and its data attributes in the section "Attributes:" of its own docstring.
"""

import inspect
from collections.abc import Collection
from typing import Any

from ppdet.core.schema import first_sentence, read_args
from ppdet.utils.errors import ConfigError

CALLED = ("__call__", "__len__")  # the special methods that contracts name


def require(value: Any, contract: type, place: str, *, only: Collection[str] = ()) -> None:
    """Check that an object has the members of a contract, and that its methods can be called as the contract says.

    Args:
        value: the object, such as a backbone that a configuration names.
        contract: the Protocol or base class. Whether `value` is derived from it makes no difference.
        place: where a configuration names the object, such as "FCOS.backbone".
        only: check these members alone; empty: all of them.

    Raises:
        ConfigError: a member is missing, is inherited from a base class that leaves it to its subclasses, is not a
            method where the contract has one, or takes other arguments. The message names the class, the member, and
            what the member is for.
    """
    for name, owner in _members(contract).items():
        if only and name not in only:
            continue
        problem = _problem(value, name, inspect.getattr_static(owner, name, None))
        if problem:
            what = type(value).__name__
            raise ConfigError(
                f"{place}: {what} {problem}, which {with_article(contract)} needs: {_member_meaning(owner, name)}"
            )


def _problem(value: Any, name: str, declared: Any) -> str:
    """What is wrong with a member of an object, such as "has no method forward()"; "" if it is right.

    Args:
        declared: the member of the contract; None for an attribute that it only annotates.
    """
    is_method = inspect.isfunction(declared)
    # A property of the class is there without being computed.
    if not (hasattr(type(value), name) or hasattr(value, name)):
        return f"has no {'method ' if is_method else 'attribute '}{name}{'()' if is_method else ''}"
    if not is_method:
        return ""
    if not callable(getattr(value, name)):
        return f"has {name}, but not as a method"
    # A layer is called by the method __call__ of paddle.nn.Layer, which calls forward().
    name = "forward" if name == "__call__" and hasattr(value, "forward") else name
    if _is_stub(type(value), name):
        return f"has no method {name}() of its own"
    parameters = list(inspect.signature(declared).parameters.values())[1:]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return ""
    inputs = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    signature = inspect.signature(getattr(value, name))
    try:
        signature.bind(*inputs, **dict.fromkeys(keywords))
    except TypeError:
        call = ", ".join([*inputs, *(f"{keyword}=" for keyword in keywords)])
        taken = ", ".join(map(str, signature.parameters))
        return f"has a method {name}({taken}) that cannot be called as {name}({call})"
    return ""


def _is_stub(cls: type, name: str) -> bool:
    """Whether a class inherits a method that is only declared: by a Protocol, or by raising NotImplementedError."""
    owner = next((base for base in cls.__mro__ if name in vars(base)), cls)
    code = getattr(vars(owner).get(name), "__code__", None)
    return getattr(owner, "_is_protocol", False) or (code is not None and code.co_names[:1] == ("NotImplementedError",))


def require_instance(value: Any, base: type, place: str) -> None:
    """Raise ConfigError unless an object is of a class that is derived from `base` and fulfils it; see `require`."""
    if not isinstance(value, base):
        what = (
            f"the class {value.__name__}, in place of an object," if isinstance(value, type) else type(value).__name__
        )
        raise ConfigError(
            f"{place}: {what} is not {with_article(base)}: derive the class from {base.__module__}.{base.__name__} "
            "(docs/EXTENDING.md)"
        )
    require(value, base, place)


def _members(contract: type) -> dict[str, type]:
    """The public members of a contract by name, with the class that declares each; the contract's own first."""
    members: dict[str, type] = {}
    for owner in contract.__mro__:
        if owner is object or owner.__module__ == "typing":
            continue
        for name in (*inspect.get_annotations(owner), *vars(owner)):
            if not name.startswith("_") or name in CALLED:
                members.setdefault(name, owner)
    return members


def with_article(contract: type) -> str:
    """The name of a class with its article: "a Backbone", "an EvalMetric"."""
    return f"{'an' if contract.__name__[0] in 'AEIOUaeiou' else 'a'} {contract.__name__}"


def _member_meaning(owner: type, name: str) -> str:
    """What a member is for, in one line: its own docstring, or what the class's docstring says of it."""
    own = inspect.getdoc(inspect.getattr_static(owner, name, None)) if name in vars(owner) else None
    text = inspect.getdoc(owner) or ""
    meaning = own or read_args(text, "Attributes").get(name) or text
    return f"{first_sentence(meaning.partition(chr(10) * 2)[0])} (docs/EXTENDING.md)"
