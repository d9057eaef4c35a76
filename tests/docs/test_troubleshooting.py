"""The messages that docs/TROUBLESHOOTING.md and its translation explain are those of the code."""

import ast
import re
from pathlib import Path

import pytest

import ppdet

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "TROUBLESHOOTING.md"
GAP = "\0"  # stands for a value in a template
PERCENT = re.compile(r"%[-+,.\d]*[sdgfer]")
# Modules whose errors and warnings are all on the page: those that people meet who bring their own images.
EXPLAINED = (
    "cli/init.py",
    "engine/hooks/boards.py",
    "engine/picking",
    "engine/proposal",
    "engine/report",
    "engine/shown_batches.py",
    "data/annotations/pre_annotations.py",
    "data/checking",
)
# Messages of these modules that say all there is to say.
SELF_EXPLAINING = (
    "…: not JSON: …",
    "…: … ppdet eval RUN --report DIR writes …",
    "the threshold of … is …, expected a number from 0 to 1",
    "skipped: …",
    "the images are on different drives: copy them into one folder",
    "…: scalars could not be written: …",
)


def template(node: ast.AST) -> str | None:
    """The text of a literal, with GAP for each value; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return PERCENT.sub(GAP, node.value).replace("%%", "%")
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else GAP for part in node.values)
        return "".join(map(str, parts))
    return None


@pytest.fixture(scope="module")
def templates() -> list[str]:
    """All texts of the package, without docstrings and back quotes."""
    found: set[str] = set()
    for path in Path(ppdet.__file__).parent.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        texts = (template(node) for node in nodes if id(node) not in docstrings)
        found.update(text.replace("`", "") for text in texts if text)
    return sorted(found)


def told(module: Path) -> list[str]:
    """The texts of the errors that a module raises, and of the warnings and errors that it logs."""
    found = []
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        call = node.exc if isinstance(node, ast.Raise) else node
        is_logged = isinstance(call, ast.Call) and ast.unparse(call.func) in ("logger.warning", "logger.error")
        if isinstance(call, ast.Call) and call.args and (is_logged or call is not node):
            found.append(template(call.args[0]))
    return [text.replace("`", "") for text in found if text and re.search("[a-z]{3}", text)]


def messages_of(page: Path) -> list[str]:
    """The messages of the package that a page explains: the first cells of its tables of messages.

    The first column of those tables is called "message", and none of them follows the line that announces messages of
    other programs.
    """
    found: list[str] = []
    is_ours = False
    before = ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("|"):
            cell = line.split(" | ")[0].removeprefix("| ")
            if cell in ("message", "报错信息"):
                is_ours = not before.startswith(("Messages of other programs", "其他程序"))
            elif is_ours and cell.startswith("`"):
                found.append(cell.strip("`"))
        elif line.startswith("#"):
            is_ours = False
        if line and not line.startswith("|"):
            before = line
    return found


def is_in(message: str, text: str) -> bool:
    """Whether a template has the parts of a message in their order. "…" between two parts is at least one value."""
    place = 0
    for number, part in enumerate(message.strip("…").strip().split("…")):
        start = text.find(part, place)
        if start < 0 or (number and GAP not in text[place:start]):
            return False
        place = start + len(part)
    return True


def test_every_message_is_one_of_the_code(templates):
    messages = messages_of(PAGE)
    assert len(messages) > 80
    assert len(set(messages)) == len(messages)
    gone = [message for message in messages if not any(is_in(message, text) for text in templates)]
    assert not gone, f"mend these in docs/TROUBLESHOOTING.md and docs/zh/TROUBLESHOOTING.md: {gone}"


def test_every_message_of_these_modules_is_explained():
    package = Path(ppdet.__file__).parent
    places = [package / name for name in EXPLAINED]
    modules = [path for place in places for path in (place.rglob("*.py") if place.is_dir() else [place])]
    texts = [text for module in modules for text in told(module)]
    assert len(texts) > 30
    known = [*messages_of(PAGE), *SELF_EXPLAINING]
    missing = [text.replace(GAP, "…") for text in texts if not any(is_in(message, text) for message in known)]
    assert not missing, f"explain these in docs/TROUBLESHOOTING.md and docs/zh/TROUBLESHOOTING.md: {missing}"
    unused = [message for message in SELF_EXPLAINING if not any(is_in(message, text) for text in texts)]
    assert not unused


def test_a_message_that_is_not_in_the_code_is_found(templates):
    for message in ("annotation file … exists: …", "paddle is not uninstalled: …", "only … images to train upon"):
        assert not any(is_in(message, text) for text in templates)


def test_options_that_the_page_advises_exist(templates):
    options = set(re.findall(r"--[a-z_]+\b", re.sub(r"`docker [^`]*`", "", PAGE.read_text(encoding="utf-8"))))
    assert len(options) > 10
    known = {word for text in templates for word in re.findall(r"--[a-z_]+", text)}
    assert not options - known
