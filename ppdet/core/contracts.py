"""The check that an object has what the project needs of it, for objects of classes from outside.

A contract is a Protocol, such as `ppdet.modeling.architectures.base.Backbone`, or a base class. It documents each
method by a docstring, and its data attributes in the section "Attributes:" of its own docstring.
"""

import inspect
import re
from typing import Any

from ppdet.utils.errors import ConfigError

CALLED = ("__call__", "__len__")  # the special methods that contracts name


def require(value: Any, contract: type, place: str) -> None:
    """Check that an object has all members of a contract.

    Args:
        value: the object, such as a backbone that a configuration names.
        contract: the Protocol or base class. Whether `value` is derived from it makes no difference.
        place: where a configuration names the object, such as "FCOS.backbone".

    Raises:
        ConfigError: a member is missing, or is not a method where the contract has one. The message names the class,
            the member, and what the member is for.
    """
    for name, owner in _members(contract).items():
        is_method = inspect.isfunction(inspect.getattr_static(owner, name, None))
        kind = f"method {name}()" if is_method else f"attribute {name}"
        # A property of the class is there without being computed.
        if not (hasattr(type(value), name) or hasattr(value, name)):
            problem = f"has no {kind}"
        elif is_method and not callable(getattr(value, name)):
            problem = f"has {name}, but not as a method"
        else:
            continue
        what = type(value).__name__
        raise ConfigError(f"{place}: {what} {problem}, which {with_article(contract)} needs: {_meaning(owner, name)}")


def require_instance(value: Any, base: type, place: str) -> None:
    """Raise ConfigError unless an object is of a class that is derived from `base`; `place` as in `require`."""
    if not isinstance(value, base):
        what = (
            f"the class {value.__name__}, in place of an object," if isinstance(value, type) else type(value).__name__
        )
        raise ConfigError(
            f"{place}: {what} is not {with_article(base)}: derive the class from {base.__module__}.{base.__name__} "
            "(docs/EXTENDING.md)"
        )


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
    """The contract's name with its article: "a Backbone", "an EvalMetric"."""
    return f"{'an' if contract.__name__[0] in 'AEIOU' else 'a'} {contract.__name__}"


def _meaning(owner: type, name: str) -> str:
    """What a member is for, in one line: its own docstring, or what the class's docstring says of it."""
    own = inspect.getdoc(inspect.getattr_static(owner, name, None)) if name in vars(owner) else None
    text = inspect.getdoc(owner) or ""
    listed = re.search(rf"^ +(?:\w+, )*{name}(?:, \w+)*: (.*(?:\n {{8,}}.*)*)", text, re.MULTILINE)
    meaning = own or (listed.group(1) if listed else text)
    first = re.split(r"\n\s*\n", meaning.strip(), maxsplit=1)[0]
    return f"{' '.join(first.split()).removesuffix('.')} (docs/EXTENDING.md)"
