"""HTML files in a real browser."""

from pathlib import Path
from typing import Any

# Text elements whose box leaves the drawing that they are in, and letters of charts that are too small to read.
UNREADABLE = """() => [...document.querySelectorAll("svg text")].filter((text) => {
  const own = text.getBoundingClientRect(), all = text.ownerSVGElement.getBoundingClientRect();
  const height = 12 * all.width / text.ownerSVGElement.viewBox.baseVal.width;
  return text.textContent && (height < 10 || own.left < all.left - 1 || own.right > all.right + 1
    || own.top < all.top - 1 || own.bottom > all.bottom + 1);
}).map((text) => text.textContent)"""

# Tables that reach beyond the edge of the part that they are in, behind which nothing tells that there is more.
CUT_TABLES = """() => [...document.querySelectorAll("td, th")].filter((cell) => {
  const own = cell.getBoundingClientRect(), all = cell.closest("section").getBoundingClientRect();
  return own.width && own.right > all.right;
}).map((cell) => cell.textContent)"""


def opened(browser: Any, path: Path, width: int, scheme: str = "light") -> Any:
    """The page in a new context; `problems` are what went wrong in it and what it asked the network for."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda line: page.problems.append(line.text))
    page.on("request", lambda request: page.problems.append(request.url))
    page.goto(path.as_uri())
    page.problems = [text for text in page.problems if not text.startswith(("data:", path.as_uri()))]
    return page
