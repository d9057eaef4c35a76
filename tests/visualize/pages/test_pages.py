"""Pages in a real browser: nothing is loaded, all text is legible on small and large screens, filters find pictures."""

import re

import numpy as np
import pytest
from browsing import CUT_TABLES, UNREADABLE, opened

from ppdet.visualize.draw import class_color
from ppdet.visualize.pages import (
    Line,
    Picture,
    Section,
    Tag,
    bars,
    charts_in_row,
    gallery,
    heat_map,
    histogram,
    lines,
    table,
    tiles,
    write_page,
)

HOSTILE = '</title></style><script>document.title="broken"</script><img src=x onerror=alert(1)>"\' \u202e\x1b'
LONG = "a class name that says in many words what was seen, " * 4


@pytest.fixture
def example(tmp_path):
    """A page with everything, whose names are hostile and long."""
    image = np.full((60, 90, 3), 128, np.uint8)
    pictures = [
        Picture(f"{index}{HOSTILE}.jpg", [("", image)], [Tag(("car", HOSTILE)[index % 2], kind, index / 10)])
        for index, kind in enumerate(["missed", "wrong class", "missed", "correct"])
    ]
    x = np.linspace(0, 1, 20)
    charts = [
        bars("boxes", {HOSTILE: 120, LONG: 1, "none": 0}, " boxes"),
        histogram("sizes", [0, 8, 16, 32], [4, 1000, 0], "pixels"),
        lines("F1", [Line(LONG, x, x**2, 0), Line(HOSTILE, x, [np.nan] * 20, 1, True)], "score", "F1"),
        heat_map("pairs", [[0.9, 0.1], [0.0, 1.0]], [LONG, "b"], ["a", LONG], x_title="predicted", y_title="truth"),
        heat_map("many", np.eye(40).tolist(), [f"class {i}" for i in range(40)], [f"class {i}" for i in range(40)]),
    ]
    sections = [
        Section(HOSTILE, [tiles({"AP": 42.1, HOSTILE: LONG}), table(["class", "AP"], [(LONG, 1), (HOSTILE, 2)], LONG)]),
        Section("Numbers", [table(["class", "AP75", LONG, *"abcdef"], [(HOSTILE, *[0.123] * 8)])]),
        Section("Charts", [charts_in_row(charts)], LONG),
        Section("Pictures", [gallery(pictures, "error"), HOSTILE]),
        Section("Pairs", [gallery([Picture("p", [("truth", image), ("prediction", image)])])]),
    ]
    write_page(tmp_path / "page.html", HOSTILE, sections, LONG)
    return tmp_path / "page.html"


@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_is_legible_and_loads_nothing(browser, example, width):
    page = opened(browser, example, width, "dark" if width == 390 else "light")
    assert page.problems == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(UNREADABLE) == [] and page.evaluate(CUT_TABLES) == []
    # In a narrow window, a row of several columns is a list, in which each number has its column's name.
    cell = page.locator("td[data-column]").first
    title = cell.evaluate("cell => getComputedStyle(cell, '::before').content")
    assert title == ('"AP75"' if width == 390 else "none")
    assert page.locator(".columns thead").is_visible() == (width > 390)
    # A wide chart is seen whole where the window has room; else a shadow shows that it can be scrolled.
    hidden = page.evaluate("[...document.querySelectorAll('.large')].map(part => part.scrollWidth - part.clientWidth)")
    assert hidden and all(more > 0 if width == 390 else more == 0 for more in hidden)
    # The browser's own text shows what stands in the file: no name became HTML.
    visible = HOSTILE.replace("\u202e", "\\u202e").replace("\x1b", "\\x1b")
    assert page.title() == visible and page.locator("h1").inner_text() == visible
    assert page.locator("script").count() == 1 and page.locator("img:not([src^='data:'])").count() == 0
    assert page.locator("svg[role=img]").first.get_attribute("aria-label").startswith("boxes: ")
    assert page.locator("polyline").first.get_attribute("stroke") == "#{:02x}{:02x}{:02x}".format(*class_color(0))
    page.context.close()


def test_a_gallery_shows_what_its_filters_ask_for(browser, example):
    page = opened(browser, example, 390)
    first = page.locator(".gallery").first

    def shown():
        return [text[0] for text in first.locator("li:visible strong").all_inner_texts()]

    first.locator("[data-role=kind]").select_option(label="missed")
    assert shown() == ["0", "2"] and first.locator(".count").inner_text() == "2 of 4 pictures"
    first.locator("[data-role=least]").fill("0.15")
    assert shown() == ["2"]
    first.locator("[data-role=kind]").select_option(label="all")
    first.locator("[data-role=class]").select_option(label="car")
    assert shown() == ["2"]
    first.locator("[data-role=least]").fill("0")
    assert shown() == ["0", "2"]
    first.locator("li:visible button").first.click()
    # Enlarged, it is wider than a phone's window, in which it can be moved: what is written into it becomes legible.
    (wide,) = page.locator("dialog[open] img").evaluate_all("images => images.map(image => image.clientWidth)")
    assert wide > 1.5 * 390 and page.evaluate("document.documentElement.scrollWidth") == 390
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    assert page.problems == []
    page.context.close()


def test_a_heat_map_of_few_cells_has_a_frame():
    """Cells without anything in them are as white as the page."""
    page = str(heat_map("centers", [[0, 0], [0, 1]], ["", ""], ["", ""]))
    [x, y, width, height] = map(int, re.search(r'class="grid" d="M(\d+) (\d+)h(\d+)v(\d+)h-\d+z"', page).groups())
    cells = [(int(a), int(b)) for a, b in re.findall(r'class="cell" x="(\d+)" y="(\d+)"', page)]
    assert len(cells) == 4 and all(x < a < x + width and y < b < y + height for a, b in cells)
