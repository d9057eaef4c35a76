"""Classes are known by their names: files that number them differently are brought into one order."""

from collections.abc import Sequence
from typing import NamedTuple

from ppdet.utils.errors import nearest

SHOWN = 8  # names of a list in a message


class Classes(NamedTuple):
    """The classes that a model tells apart: class 0, 1, …

    names: of the classes. category_ids: their ids in the COCO file that the model was trained on. source: what said
    so, for messages.
    """

    names: list[str]
    category_ids: list[int]
    source: str


def mismatch(names: Sequence[str], source: str, classes: Classes) -> str:
    """What hinders mapping `names`, which `source` lists, to `classes` by name; "" when nothing does."""
    if list(names) == classes.names:
        return ""
    new = [name for name in names if name not in classes.names]
    missing = [name for name in classes.names if name not in names]
    if new or missing:
        return (
            f"only in {source}: {listed(new, classes.names)}; only in {classes.source}: {listed(missing)} "
            "(names are compared letter by letter)"
        )
    both = [*names, *classes.names]
    twice = next((name for name in classes.names if both.count(name) != 2 or list(names).count(name) != 1), None)
    if twice is not None:
        return f"several classes are called {twice!r}, and {source} and {classes.source} number them differently"
    return ""


def listed(names: Sequence[str], known: Sequence[str] = ()) -> str:
    """The names in quotation marks, each with the one of `known` that may be meant; "nothing" if there are none."""
    shown = [f"{name!r}{hint(name, known)}" for name in names[:SHOWN]]
    more = [f"and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return ", ".join([*shown, *more]) or "nothing"


def hint(name: str, known: Sequence[str]) -> str:
    found = nearest(name, known)
    return f" ({found[2:]})" if found else ""
