"""Comparing the classes of a data set with a model's. They are matched by name, not by number."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ppdet.utils.errors import nearest
from ppdet.utils.formats.coco_file import short_repr

SHOWN = 8  # names listed in a message


class Classes(NamedTuple):
    """The classes of a model, in the order of their numbers 0, 1, …

    Attributes:
        names: names of the classes.
        category_ids: their ids in the COCO file that the model was trained on.
        source: where this is known from, for messages, such as the path of the weights.
    """

    names: list[str]
    category_ids: list[int]
    source: str


def category_id(label: int, category_ids: Sequence[int]) -> int:
    """Return the category id of class `label`; the class's own number if a model has more classes than ids."""
    return category_ids[label] if label < len(category_ids) else label


def mismatch(names: Sequence[str], source: str, classes: Classes) -> str:
    """Return why the classes `names` of `source` cannot be mapped to `classes` by name; "" if they can."""
    if list(names) == classes.names:
        return ""
    ours, others = Counter(names), Counter(classes.names)
    new = [name for name in names if name not in others]
    missing = [name for name in classes.names if name not in ours]
    if new or missing:
        return (
            f"only in {source}: {quote_names(new, classes.names)}; only in {classes.source}: {quote_names(missing)} "
            "(names are compared letter by letter)"
        )
    repeated = next((name for name in classes.names if ours[name] != 1 or others[name] != 1), None)
    if repeated is not None:
        return f"several classes are called {repeated!r}, and {source} and {classes.source} number them differently"
    return ""


def quote_names(names: Sequence[str], known: Sequence[str] = ()) -> str:
    """Return the names in quotation marks, each with the most similar name of `known`; "nothing" if there are none."""
    similar = (nearest(name, known).removeprefix("; ") for name in names[:SHOWN])
    shown = [f"{short_repr(name)}{f' ({hint})' if hint else ''}" for name, hint in zip(names, similar)]
    more = [f"and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return ", ".join([*shown, *more]) or "nothing"
