"""The documentation as a site: every page has its place, and the built site needs no other server."""

import re
import shutil
from html.parser import HTMLParser

import pytest
import yaml
from documents import PAGES, ROOT

import ppdet

SITE = ROOT / "output" / "site"
API = (ROOT / "docs" / "site" / "api.md").read_text(encoding="utf-8")
needs_the_site = pytest.mark.skipif(not (SITE / "index.html").is_file(), reason="`make site` has not built the site")


def leaves(tree) -> list[str]:
    """The paths in a navigation, from top to bottom."""
    if isinstance(tree, str):
        return [tree]
    return [leaf for branch in (tree.values() if isinstance(tree, dict) else tree) for leaf in leaves(branch)]


def test_every_page_has_one_place_in_the_navigation():
    places = leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert places[0] == "README.md" and len(places) == len(set(places))
    pages = {path.relative_to(ROOT).as_posix() for path in PAGES}
    made = {"docs/API.md", *(place for place in places if place.endswith(".file.md"))}
    assert set(places) - made == pages, "add the page to `nav` in mkdocs.yml"


def test_the_page_on_python_has_every_public_name():
    names = re.findall(r"^::: (\S+)$", API, re.MULTILINE)
    assert {name.removeprefix("ppdet.") for name in names if name.count(".") == 1} == set(ppdet.__all__)


RIGHTMOST = "Math.max(0, ...[...document.querySelectorAll('td')].map(cell => cell.getBoundingClientRect().right))"
# Puts the text of another page into an open one, with the boxes that the theme's script has around tables: 20 times as
# fast as opening it.
SHOW = """html => {
  const page = new DOMParser().parseFromString(html, 'text/html')
  document.querySelector('article').replaceWith(page.querySelector('article'))
  for (const table of document.querySelectorAll('article table:not([class])')) {
    const scrolled = document.createElement('div'), inner = document.createElement('div')
    scrolled.className = 'md-typeset__scrollwrap'
    inner.className = 'md-typeset__table'
    table.replaceWith(scrolled)
    scrolled.append(inner)
    inner.append(table)
  }
}"""


class Loads(HTMLParser):
    """What a browser fetches to show a page; links that a reader follows are not among it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            self.found.append(values["href"])
        elif tag in ("script", "img", "iframe", "source", "video") and values.get("src"):
            self.found.append(values["src"])


@needs_the_site
def test_a_page_loads_only_files_of_the_site():
    pages = sorted(SITE.rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        assert len(loads.found) > 3
        for path in loads.found:
            is_there = page.name == "404.html" or (page.parent / path.partition("?")[0]).is_file()
            assert "//" not in path and (is_there or path.startswith("data:")), (page, path)


@needs_the_site
def test_the_site_in_a_browser_as_files(tmp_path):
    """Wide tables fit on a phone and a desktop, nothing comes from elsewhere, and the search finds a component."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install playwright")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium here (chromium, chromium-browser or google-chrome on PATH)")
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(SITE.rglob("*.html"))}
    asked: list[str] = []
    problems: list[str] = []
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for width in (390, 1280):
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.on("request", lambda request: asked.append(request.url))
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.goto(f"{(SITE / 'docs' / 'REFERENCE').as_uri()}.html")
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert page.evaluate(RIGHTMOST) <= width, "a table has to be scrolled sideways"
            if width == 390:
                with_tables = {path: text for path, text in texts.items() if "<td" in text}
                assert len(with_tables) > 30
                wide = {}
                for path, text in with_tables.items():
                    page.evaluate(SHOW, text)
                    wide[path.relative_to(SITE).as_posix()] = page.evaluate(RIGHTMOST)
                assert not {path: right for path, right in wide.items() if right > width}, "not seen on a phone"
        page.fill("[data-md-component=search-query]", "RandomResize")
        page.press("[data-md-component=search-query]", "End")  # the search reads its field when a key is released
        first = page.wait_for_selector(".md-search-result__link")
        assert "docs/REFERENCE.html" in first.get_attribute("href")
        browser.close()
    assert not problems
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
