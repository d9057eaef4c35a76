"""Writing values with their reasons as YAML."""

import math
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple, Union

from ppdet.utils.printable import printable

WIDTH = 120


class Choice(NamedTuple):
    """A value and the reason for it, which becomes its comment; "": no comment."""

    value: Any
    why: str


Section = dict[str, Union[Choice, "Section", list[Choice]]]


def render(values: Section, head: str) -> str:
    """Return a YAML file. In a list of choices, values are texts that are YAML already, such as "!Tag {a: 1}".

    Args:
        head: text of the comment with which the file begins.
    """
    comment = textwrap.fill(printable(head), WIDTH, initial_indent="# ", subsequent_indent="# ")
    return "\n".join([comment, *_lines(values, "")]) + "\n"


def _lines(values: Section, indent: str) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Choice):
            yield from _with_reason(f"{indent}{key}: {scalar(value.value)}", value.why)
        elif isinstance(value, list):
            yield f"{indent}{key}:"
            for item in value:
                yield from _with_reason(f"{indent}- {item.value}", item.why)
        else:
            yield f"{indent}{key}:"
            yield from _lines(value, indent + "  ")


def _with_reason(line: str, why: str) -> Iterator[str]:
    """A line with its comment; above it where both do not fit into WIDTH."""
    why = printable(" ".join(why.split()))
    if not why:
        yield line
    elif len(line) + len(why) + 4 <= WIDTH:
        yield f"{line}  # {why}"
    else:
        start = line[: len(line) - len(line.lstrip())] + "# "
        yield from textwrap.wrap(why, WIDTH, initial_indent=start, subsequent_indent=start)
        yield line


def scalar(value: Any) -> str:
    """Return a value as YAML in one line, with escapes for characters that are not shown."""
    import yaml

    options: dict[str, Any] = {"default_flow_style": True, "width": math.inf, "sort_keys": False}
    text: str = yaml.safe_dump(value, allow_unicode=True, **options)
    if printable(text.rstrip("\n")) != text.rstrip("\n"):
        text = yaml.safe_dump(value, **options)
    return text.removesuffix("\n").removesuffix("\n...")
