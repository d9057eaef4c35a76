"""MkDocs: the pages of the repository as a site, in the same folders, so that their links hold in both.

Code hosts show the pages as files. Here README.md becomes the start, docs/TRAINING.md becomes docs/TRAINING.html, and a
file that a page links to and that is no page, such as a configuration or a notebook, becomes a page with its text.
"""

import json
import posixpath
import re
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element  # nosec B405  # only its type

from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (".", "docs/**", "dataset", "benchmarks", "deploy/*")
FILES = (
    *(f"{folder}/*.md" for folder in FOLDERS),
    "docs/images/**/*.*",
    "docs/notebooks/*.ipynb",
    "docs/site/*.css",
    "docs/site/*.js",
)
API = "docs/site/api.md"
LANGUAGES = {".yml": "yaml", ".py": "python", ".sh": "bash", ".service": "ini"}
FENCE = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s#]+)((?:#[^)\s]*)?)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give headings the anchors that code hosts give them, and cells of wide tables their column's heading."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    config.markdown_extensions.append(WideTables())
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Return the files of the theme, the pages of the repository, and the files that they link to."""
    found = [file for file in files if file.src_dir != config.docs_dir]
    paths = {path.relative_to(ROOT).as_posix() for pattern in FILES for path in ROOT.glob(pattern)} - {API}
    found += [File.generated(config, path, abs_src_path=str(ROOT / path)) for path in sorted(paths)]
    reference = (ROOT / API).read_text(encoding="utf-8")
    found.append(File.generated(config, "docs/API.md", content=reference))
    linked = {
        target
        for path in paths
        if path.endswith(".md")
        for part in FENCE.split((ROOT / path).read_text(encoding="utf-8"))[::2]
        for target in map(shown_file, re.findall(LINK, part), [path] * len(part))
        if target
    }
    found += [File.generated(config, f"{target}.file.md", content=as_page(target)) for target in sorted(linked)]
    return Files(found)


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Lead links to files that are no pages to the pages that show them."""
    path = page.file.src_uri

    def lead(match: re.Match[str]) -> str:
        target = shown_file(match.groups(), path)
        return match[0] if target is None else f"]({match[1]}.file.md)"

    parts = FENCE.split(markdown)
    parts[::2] = [LINK.sub(lead, part) for part in parts[::2]]
    return "".join(parts)


class WideTables(Extension):
    """On a phone, site.css shows each row of a table of three columns or more as a list, with these headings."""

    def extendMarkdown(self, md: Markdown) -> None:
        md.treeprocessors.register(Headings(md), "headings", 5)  # after the inline patterns, which have 20


class Headings(Treeprocessor):
    """Copies the headings of columns to the attribute data-label of cells."""

    def run(self, root: Element) -> None:
        for table in root.iter("table"):
            headings = ["".join(heading.itertext()) for heading in table.iter("th")]
            for row in table.iter("tr") if len(headings) > 2 else ():
                for heading, cell in zip(headings, row.findall("td")):
                    cell.set("data-label", heading)


def shown_file(link: tuple[str | Any, ...], page: str) -> str | None:
    """Return the path, from the repository's root, of the text file that a link of a page leads to; else None."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(page), link[0]))
    is_text = not target.endswith((".md", ".png", ".jpg", ".svg", ".gif"))
    return target if is_text and (ROOT / target).is_file() else None


def as_page(path: str) -> str:
    """Return a page with the text of a file, or with the cells of a notebook. Its fence is longer than any inside."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".ipynb"):
        cells = [("".join(cell["source"]), cell["cell_type"] == "code") for cell in json.loads(text)["cells"]]
        return "\n\n".join(f"`````` python\n{source}\n``````" if is_code else source for source, is_code in cells)
    language = LANGUAGES.get(posixpath.splitext(path)[1], "text")
    return f"---\nsearch: {{exclude: true}}\n---\n# {path}\n\n`````` {language}\n{text}\n``````\n"
