"""HTML text from names and numbers. Names of files and classes come from strangers: all text is escaped here."""

import html
from collections.abc import Iterable

from ppdet.utils.printable import printable


class Html(str):
    """Text that is HTML already. Every other text is escaped where it enters an element."""

    __slots__ = ()


def as_html(value: object) -> Html:
    """The value's text as HTML: `Html` stays, everything else is escaped, and hidden characters become visible."""
    return value if isinstance(value, Html) else Html(html.escape(printable(value)))


def join(parts: Iterable[object]) -> Html:
    """The parts one after another, each as HTML."""
    return Html("".join(map(as_html, parts)))


def element(name: str, /, *children: object, **attributes: object) -> Html:
    """An element of HTML or SVG with these children and attributes.

    Args:
        name: its tag, given by position, as attributes may have any name.
        children: HTML, or text that is escaped.
        attributes: None and False leave an attribute out, True writes it without a value, numbers are rounded to 0.01.
            A trailing underline of a name is dropped (`class_`), others become dashes (`aria_label`).
    """
    written = []
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            written.append(f" {key}")
        elif value is not None and value is not False:
            value = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
            written.append(f' {key}="{html.escape(printable(value))}"')
    tag = f"{name}{''.join(written)}"
    return Html(f"<{tag}>" if name in ("img", "input", "meta", "br") else f"<{tag}>{join(children)}</{name}>")
