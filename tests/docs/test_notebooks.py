"""The notebooks as files: without outputs, with links that lead somewhere. `make notebook` runs them."""

import ast
import json
import re

import pytest
from documents import ROOT

import ppdet

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.name)
def cells(request):
    return json.loads(request.param.read_text(encoding="utf-8"))["cells"]


def test_there_are_notebooks_and_each_has_checks():
    checks = re.findall(r'^    "(\w+\.ipynb)": """', (ROOT / "tests" / "notebooks.py").read_text("utf-8"), re.MULTILINE)
    assert checks == [path.name for path in NOTEBOOKS]
    assert "make notebook\n" in (ROOT / ".ci" / "run").read_text("utf-8")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_the_file_is_a_valid_notebook_and_small(path):
    nbformat = pytest.importorskip("nbformat", reason="nbformat is missing: pip install nbformat")
    nbformat.validate(nbformat.read(path, as_version=4))
    assert path.stat().st_size < 50_000


def test_outputs_are_not_committed(cells):
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 5
    for cell in code:
        assert cell["outputs"] == [] and cell["execution_count"] is None and cell["metadata"] == {}


def test_code_uses_public_names(cells):
    source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    names = {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ppdet"
    }
    assert len(names) > 5 and names <= set(ppdet.__all__)


def test_commands_are_run_where_their_files_are(cells):
    """The reader is in the repository's folder, and the notebook has written beside itself."""
    blocks = re.findall(r"```bash\n(.*?)```", "\n".join("".join(cell["source"]) for cell in cells), re.DOTALL)
    assert len(blocks) > 1
    for block in blocks:
        folder = ROOT
        for line in block.splitlines():
            words = line.split()
            if words[0] == "cd":
                folder = folder / words[1]
                assert folder.is_dir()
            for word in words:
                assert word.split("/")[0] != "shapes" or folder == ROOT / "docs" / "notebooks", line


def test_links_lead_somewhere(cells):
    text = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    assert not [link for link in links if not (ROOT / "docs" / "notebooks" / link.partition("#")[0]).exists()]
