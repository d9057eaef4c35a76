"""The Chinese pages say the same as the English ones, as far as a program can tell: commands, messages and tables."""

import re

import pytest
from documents import ROOT

ENGLISH = {
    "README.zh.md": "README.md",
    "docs/zh/DATA.md": "dataset/README.md",
    "docs/zh/OWN_DATA.md": "docs/OWN_DATA.md",
    "docs/zh/TROUBLESHOOTING.md": "docs/TROUBLESHOOTING.md",
}
HAN = re.compile(r"[\u4e00-\u9fff]")


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[list[str]]:
    """The lines of each block of code, with its language, without comments."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)
    return [[language, *(re.sub(r"\s*(^|\s)#.*", "", line) for line in code.splitlines())] for language, code in found]


def shape(page: str) -> list[int | str]:
    """The headings by their level, and each row of a table, in their order."""
    text = re.sub(r"^```.*?^```", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    return [
        len(line.split(" ")[0]) if line[0] == "#" else "row" for line in text.splitlines() if line[:1] in ("#", "|")
    ]


def test_every_chinese_page_has_an_english_one():
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "zh").rglob("*.md")}
    assert ENGLISH.keys() == pages | {"README.zh.md"}


@pytest.mark.parametrize("page", ENGLISH)
def test_blocks_of_code_are_those_of_the_english_page(page):
    assert blocks(page) == blocks(ENGLISH[page])
    assert blocks(page)


@pytest.mark.parametrize("page", ENGLISH)
def test_the_two_pages_link_to_each_other(page):
    for ours, theirs in ((page, ENGLISH[page]), (ENGLISH[page], page)):
        links = re.findall(r"\]\(([^)]+)\)", "".join(text_of(ours).splitlines(keepends=True)[:5]))
        assert (ROOT / theirs).resolve() in [((ROOT / ours).parent / link).resolve() for link in links], ours


@pytest.mark.parametrize("page", [page for page in ENGLISH if page != "README.zh.md"])
def test_headings_and_tables_are_those_of_the_english_page(page):
    assert shape(page) == shape(ENGLISH[page])


def first_cells(page: str) -> list[str]:
    """The first cells of tables that are code alone: messages, and names of commands, files and settings."""
    return re.findall(r"^\| (`[^`|]+`) \|", text_of(page), re.MULTILINE)


@pytest.mark.parametrize("page", ENGLISH)
def test_messages_and_names_in_tables_are_those_of_the_english_page(page):
    assert first_cells(page) == first_cells(ENGLISH[page])


def test_the_messages_are_many():
    assert len(first_cells("docs/zh/TROUBLESHOOTING.md")) > 100


def test_the_front_pages_link_to_the_same_pages():
    """Where a page exists in Chinese, the Chinese front page links to that one."""
    chinese = {english: page for page, english in ENGLISH.items()}
    english, ours = (set(re.findall(r"\]\(([\w./-]+)\)", text_of(page))) for page in ("README.md", "README.zh.md"))
    expected = {chinese.get(link, link) for link in english} - {"README.zh.md"}
    assert ours - {"README.md"} == expected


@pytest.mark.parametrize("page", ENGLISH)
def test_no_row_of_a_table_was_left_in_english(page):
    rows = [line for line in text_of(page).splitlines() if line.startswith("|") and not line.startswith("|---")]
    assert not [row for row in rows if not HAN.search(row)]
