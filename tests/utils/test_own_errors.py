"""No `except` turns an error of ours, which says what to do, into another message."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ppdet.data.loading.collate import SampleSource, Task
from ppdet.data.transforms.composing.compose import Compose
from ppdet.utils.disk.object_storage import storage_errors
from ppdet.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("ppdet", "tools", "deploy", "dataset")
# Our errors are of these classes too, so that an `except` for one of them takes them.
BROAD = {"Exception", "BaseException", "ValueError", "RuntimeError", "OSError", "IOError", "KeyError", "LookupError"}
# Methods of files, lists, arrays and libraries that have the name of a function of ours.
GENERIC = {
    *("open", "read", "write", "append", "extend", "join", "split", "load", "loads", "send", "flush", "close"),
    *("update", "parse", "find", "add", "put", "items", "values", "format", "array", "bind", "metadata", "providers"),
    *("reset", "read_schema"),
}
# Clauses that are meant: what was raised does not matter, or none of ours is raised there.
MEANT = {
    ("ppdet/acceptance/launched_jobs.py", "process_of"): "a process that has ended has no variables",
    ("ppdet/acceptance/rank_recorder.py", "memory_of_cards"): "there is no nvidia-smi, or it refuses",
    ("ppdet/core/tree.py", "compose"): "PyYAML raises none of ours",
    ("ppdet/data/image_files/png.py", "decode_pixels"): "Pillow raises none of ours",
    ("ppdet/engine/checkpoints/class_names.py", "_from_header"): "reading the arrays raises the error",
    ("ppdet/engine/checkpoints/class_names.py", "_from_manifest"): "a damaged manifest does not name classes",
    ("ppdet/engine/checkpoints/class_names.py", "log_unknown_classes"): "its warning says that the manifest is damaged",
    ("ppdet/engine/export/check.py", "check_images"): "the export is checked on the images that can be read",
    (
        "ppdet/engine/checkpoints/manifest.py",
        "read_manifest",
    ): "a damaged manifest is none, and its checkpoint not complete",
    ("ppdet/engine/runs/trained.py", "started_in"): "a damaged file does not say where the run was started",
    ("ppdet/engine/runs/trained.py", "warn_of_chance"): "a damaged manifest does not say how many images chose weights",
    ("ppdet/utils/formats/annotation_kinds.py", "_kind_in_folder"): "a file that cannot be read is of another kind",
    ("ppdet/utils/formats/annotation_kinds.py", "kind_of_file"): "a file that is no JSON is of no kind",
    ("ppdet/utils/disk/lock.py", "require_free"): "LockedError is no OSError",
    ("ppdet/utils/disk/remote_files.py", "read_remote"): "reading and writing a copy raise none of ours",
    ("ppdet/modeling/cpu/kept_checks.py", "kept_difference"): "the result that could not be kept is returned",
    ("ppdet/utils/formats/coco_cache.py", "_write"): "safetensors raises none of ours",
    ("ppdet/utils/formats/coco_columns.py", "read_columns"): "msgspec raises none of ours",
    ("ppdet/utils/logger.py", "emit"): "_write is the handler's own",
}


class Clause(NamedTuple):
    place: str
    function: str
    line: int
    calls: tuple[str, ...]


def trees() -> dict[str, ast.Module]:
    return {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


def name_of(node: ast.AST | None) -> str:
    """The last part of a name: `a.b.c` is c, and so is `a.b.c(…)`."""
    node = node.func if isinstance(node, ast.Call) else node
    return getattr(node, "attr", None) or getattr(node, "id", "")


def own_errors(modules: dict[str, ast.Module]) -> set[str]:
    """Classes that are UserErrors."""
    bases = {
        node.name: {name_of(base) for base in node.bases}
        for tree in modules.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    found = {"UserError"}
    while True:
        more = {name for name, above in bases.items() if above & found} - found
        if not more:
            return found
        found |= more


def called(body: list[ast.stmt]) -> set[str]:
    """Names of what a block calls."""
    names = set()
    for node in (node for statement in body for node in ast.walk(statement)):
        if isinstance(node, ast.Call):
            of_self = isinstance(node.func, ast.Attribute) and name_of(node.func.value) in ("self", "cls")
            if isinstance(node.func, ast.Name) or of_self or name_of(node) not in GENERIC:
                names.add(name_of(node))
    return names


def raising(modules: dict[str, ast.Module], errors: set[str]) -> set[str]:
    """Names of functions and classes that raise an error of ours, or call one that does."""
    calls: dict[str, set[str]] = {}
    found: set[str] = set()
    for tree in modules.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                # To make an object is to call its constructor.
                bodies = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                bodies = [node]
            else:
                continue
            body = [statement for one in bodies for statement in one.body]
            calls.setdefault(node.name, set()).update(called(body))
            raised = {name_of(n.exc) for s in body for n in ast.walk(s) if isinstance(n, ast.Raise) and n.exc}
            if raised & errors:
                found.add(node.name)
    while True:
        more = {name for name, names in calls.items() if names & found} - found
        if not more:
            return found
        found |= more


def caught(handler: ast.expr | None) -> set[str]:
    if handler is None:
        return {"BaseException"}
    return {name_of(one) for one in (handler.elts if isinstance(handler, ast.Tuple) else [handler])}


def keeps(handler: ast.ExceptHandler, errors: set[str]) -> bool:
    """Whether what was caught is raised again, or is said by what is no error with a traceback."""
    nodes = [node for statement in handler.body for node in ast.walk(statement)]
    raised = [node for node in nodes if isinstance(node, ast.Raise)]
    if any(node.exc is None for node in raised):
        return True
    if any(name_of(node.exc) not in {*errors, handler.name, "Refused", "config_error"} for node in raised):
        return False
    for node in nodes:
        if isinstance(node, ast.Name) and node.id == handler.name and isinstance(node.ctx, ast.Load):
            return True
    return False


def swallowing(tree: ast.Module, place: str, ours: set[str], errors: set[str]) -> Iterator[Clause]:
    """Clauses that may take an error of ours, and neither raise it again nor say it."""

    def visit(node: ast.AST, function: str) -> Iterator[Clause]:
        function = node.name if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else function
        if isinstance(node, ast.Try):
            calls = tuple(sorted(called(node.body) & ours))
            for handler in node.handlers:
                names = caught(handler.type)
                if "UserError" in names:
                    break
                if names & BROAD and calls and not keeps(handler, errors):
                    yield Clause(place, function, handler.lineno, calls)
        if isinstance(node, (ast.With, ast.AsyncWith)):
            for item in node.items:
                suppressed = isinstance(item.context_expr, ast.Call) and name_of(item.context_expr) == "suppress"
                if suppressed and {name_of(one) for one in item.context_expr.args} & BROAD:
                    calls = tuple(sorted(called(node.body) & ours))
                    if calls:
                        yield Clause(place, function, node.lineno, calls)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, function)

    return visit(tree, "")


@pytest.fixture(scope="module")
def modules():
    return trees()


def test_no_clause_swallows_an_error_of_ours(modules):
    """Mend one that is found: `except UserError: raise` before it, or say in its message what was caught."""
    errors = own_errors(modules)
    ours = raising(modules, errors)
    found = [clause for place, tree in modules.items() for clause in swallowing(tree, place, ours, errors)]
    assert {(clause.place, clause.function): clause for clause in found}.keys() <= MEANT.keys(), found


SWALLOWED = """
class Bad(UserError, ValueError):
    pass

def read():
    raise Bad("the width is missing")

def convert():
    return int(read())
"""


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("try:\n    convert()\nexcept ValueError:\n    raise Bad('no number') from None", True),
        ("try:\n    convert()\nexcept (TypeError, ValueError) as error:\n    raise Bad('no number') from error", False),
        ("try:\n    convert()\nexcept Exception as error:\n    raise RuntimeError(f'failed: {error}')", True),
        ("try:\n    convert()\nexcept Exception:\n    pass", True),
        ("try:\n    convert()\nexcept:\n    pass", True),
        ("with suppress(ValueError):\n    convert()", True),
        ("try:\n    convert()\nexcept UserError:\n    raise\nexcept ValueError:\n    pass", False),
        ("try:\n    convert()\nexcept ValueError as error:\n    raise Bad(f'no number: {error}') from None", False),
        ("try:\n    convert()\nexcept Exception:\n    stop()\n    raise", False),
        ("try:\n    convert()\nexcept TypeError:\n    pass", False),
        ("try:\n    int(text)\nexcept ValueError:\n    raise Bad('no number') from None", False),
    ],
)
def test_what_counts_as_swallowing(code, found):
    base = ast.parse("class UserError(Exception):\n    pass\n" + SWALLOWED)
    tree = ast.parse(code)
    errors = own_errors({"a": base})
    assert bool(list(swallowing(tree, "b", raising({"a": base}, errors), errors))) == found


class WidthMissing(UserError, ValueError):
    pass


def fail(*_):
    raise WidthMissing("the width is missing")


def test_a_transform_and_a_worker_keep_the_line():
    """Of any error of ours, not of DataError alone."""
    with pytest.raises(WidthMissing, match="the width is missing"):
        Compose([fail])({"im_file": "a.jpg"})
    source = SampleSource([{"im_file": "a.jpg"}], [fail], seed=0, replace=False, max_skipped=1)
    assert source[Task(0, 0, 0)].error == "the width is missing"


def test_storage_keeps_the_line():
    with pytest.raises(WidthMissing, match=r"^the width is missing$"), storage_errors("s3://bucket/images"):
        fail()
