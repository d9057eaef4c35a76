"""Links of the pages lead to files that exist, and to headings that these have."""

import re
from pathlib import Path

import pytest
from documents import PAGES, ROOT


def without_code(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them: links become their text; all but letters, digits, hyphens and spaces goes."""
    headings = re.findall(r"^#+ (.+)$", without_code(page), re.MULTILINE)
    texts = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", text).replace(" ", "-") for text in texts}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    broken = []
    for link in re.findall(r"\]\(\s*([^)\s]+)\s*\)", without_code(page)):
        if not link.startswith(("http://", "https://")):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(link)
    assert not broken


def test_there_are_pages():
    assert len(PAGES) > 25
