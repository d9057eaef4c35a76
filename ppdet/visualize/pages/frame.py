"""The frame of a page: its head, style sheet, script, sections and tables."""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ppdet.utils.disk.files import atomic_path, read_text
from ppdet.visualize.pages.markup import Html, as_html, element, join


class Section(NamedTuple):
    """A part of a page.

    title: its heading, which the list at the top of the page links to.
    parts: its content, one below the other: HTML as the functions of this room return it, or text.
    note: what the reader should know before looking.
    """

    title: str
    parts: Sequence[object]
    note: str = ""


def page(title: str, sections: Iterable[Section], subtitle: str = "") -> str:
    """A whole page of HTML, which loads nothing else and runs only its own script."""
    sections = list(sections)
    style, script = (read_text(Path(__file__).with_name(name)) for name in ("pages.css", "pages.js"))
    policy = f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}"
    links = [element("a", section.title, href=f"#part{number}") for number, section in enumerate(sections)]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("title", title),
        element("style", Html(style)),
    )
    header = element("header", element("h1", title), element("p", subtitle) if subtitle else "")
    body = [_section(number, section) for number, section in enumerate(sections)]
    content = [header, element("nav", *links, aria_label="Sections"), element("main", *body)]
    content.append(element("script", Html(script)))
    return f"<!doctype html>\n{element('html', head, element('body', *content), lang='en')}\n"


def write_page(path: str | Path, title: str, sections: Iterable[Section], subtitle: str = "") -> None:
    """Write a page (see `page`) atomically.

    Raises:
        OSError: the file cannot be written; an older one stays.
    """
    text = page(title, sections, subtitle)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def table(columns: Sequence[object], rows: Iterable[Sequence[object]], caption: str = "") -> Html:
    """A table whose first column is text; the other columns are numbers, and are aligned to the right.

    On a phone, each row of a table of more than two columns is a list, in which a cell has its column's name above it.
    """
    columns = list(columns)
    is_wide = len(columns) > 2
    body = [
        element(
            "tr",
            element("th", first, scope="row"),
            *(element("td", cell, data_column=name if is_wide else None) for name, cell in zip(columns[1:], rest)),
        )
        for first, *rest in rows
    ]
    head = element("thead", element("tr", *(element("th", name, scope="col") for name in columns)))
    # A wide table scrolls within its own place, also by the keyboard; its title stays.
    whole = element(
        "table", head, element("tbody", *body), class_="columns" if is_wide else None, aria_label=caption or None
    )
    title = element("figcaption", caption) if caption else ""
    return element("figure", title, element("div", whole, class_="wide", tabindex=0))


def tiles(values: Mapping[str, object]) -> Html:
    """The few most important numbers, each with its name, side by side."""
    return element("dl", *(element("div", element("dt", name), element("dd", value)) for name, value in values.items()))


def charts_in_row(charts: Iterable[Html]) -> Html:
    """Charts side by side, as many as the window has room for."""
    return element("div", *charts, class_="charts")


def _section(number: int, section: Section) -> Html:
    note = element("p", section.note, class_="muted") if section.note else ""
    parts = join(part if isinstance(part, Html) else element("p", as_html(part)) for part in section.parts)
    return element("section", element("h2", section.title), note, parts, id=f"part{number}")


def _hash(text: str) -> str:
    """How a content security policy names an inline style or script: nothing else is allowed."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
