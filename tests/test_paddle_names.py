"""Names of Paddle's that the code asks for are there, with the arguments that calls name: in the version at hand.

The suite runs with Paddle 3, `make gpu-wheel` runs this with a GPU build of 2.6. Names that a CPU build has, too, say
nothing of a GPU's kernels: tests/gpu_wheel asks for those.
"""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import paddle
import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = [path for folder in ("ppdet", "tools", "deploy", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
# What a file calls an object that it was given, and whose names are Paddle's.
OBJECTS = {"config": "paddle.inference.Config", "predictor": "paddle.inference.Predictor"}
# What a version has not; the code looks whether it is there, or at the version, before it asks for it.
ABSENT = {
    "3": ("paddle.tensorrt",),  # in builds for GPUs alone, whose names nothing here can look up
    "2.6": ("paddle.tensorrt", "paddle.version.nccl", "paddle.base.core.device_memory_stat_reset_peak_value"),
}


class Use(NamedTuple):
    """place: file and line. name: the dotted name. keywords: names of the call's arguments, None if it is not
    called."""

    place: str
    name: str
    keywords: tuple[str, ...] | None


def imported(tree: ast.AST) -> dict[str, str]:
    """Names in a file that are modules or objects of Paddle's, with what they stand for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "paddle":
                    names[alias.asname or "paddle"] = alias.name if alias.asname else "paddle"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "paddle":
            names.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    return names


def dotted(node: ast.AST) -> str | None:
    """a.b.c of an expression that is only that."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return before and f"{before}.{node.attr}"
    return None


def uses(path: Path) -> Iterator[Use]:
    """What a file asks Paddle for; the longest dotted names."""
    text = path.read_text(encoding="utf-8")
    if "paddle" not in text:
        return
    tree = ast.parse(text)
    names = imported(tree)
    if not names:
        return
    configures = "inference" in names or any(name.startswith("paddle.inference") for name in names.values())
    if configures:
        names = {**OBJECTS, **names}
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for name in [value for key, value in names.items() if key not in OBJECTS]:
        yield Use(str(path.relative_to(ROOT)), name, None)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or id(node) in inner:
            continue
        name = dotted(node)
        first, _, rest = (name or "").partition(".")
        if configures and first == "self" and rest.startswith("predictor."):
            first, _, rest = rest.partition(".")
        if first not in names or not rest:
            continue
        call = called.get(id(node))
        keywords = call and tuple(keyword.arg for keyword in call.keywords if keyword.arg)
        yield Use(f"{path.relative_to(ROOT)}:{node.lineno}", f"{names[first]}.{rest}", keywords)


def find(name: str) -> object:
    """The object of a dotted name.

    Raises:
        AttributeError: there is none.
    """
    found = paddle
    parts = name.split(".")[1:]
    for number, part in enumerate(parts, start=1):
        if not hasattr(found, part) and inspect.ismodule(found):
            try:
                importlib.import_module(".".join(["paddle", *parts[:number]]))
            except ImportError:  # as paddle.tensorrt where TensorRT is not installed
                return in_source(parts)
        found = getattr(found, part)
    return found


def in_source(parts: list[str]) -> ast.AST:
    """The definition of paddle.PARTS in a module's source.

    Raises:
        AttributeError: there is none.
    """
    folder = Path(paddle.__file__).parent
    for length in range(len(parts), 0, -1):
        module = folder.joinpath(*parts[:length])
        for path in (module.with_suffix(".py"), module / "__init__.py"):
            if path.is_file():
                return definition(ast.parse(path.read_text(encoding="utf-8")), parts[length:])
    raise AttributeError(".".join(parts))


def definition(scope: ast.AST, parts: list[str]) -> ast.AST:
    if not parts:
        return scope
    for node in scope.body:
        aliases = node.names if isinstance(node, (ast.Import, ast.ImportFrom)) else ()
        names = {alias.asname or alias.name for alias in aliases} | {getattr(node, "name", None)}
        if isinstance(node, ast.Assign):
            names |= {dotted(target) for target in node.targets}
        if parts[0] in names:
            return definition(node, parts[1:])
    raise AttributeError(".".join(parts))


def parameters(found: object) -> set[str] | None:
    """Names of arguments that a call may give; None if they are unknown, or any name is accepted."""
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        # A function of C++ says them in its documentation.
        lines = re.findall(r"^\d*\.? ?\w+\((.*)\) -> ", getattr(found, "__doc__", None) or "", re.MULTILINE)
        names = {name for line in lines for name in re.findall(r"(\w+): ", line)}
        return names or None
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    return None if inspect.Parameter.VAR_KEYWORD in kinds else set(signature.parameters)


USES = [use for path in FILES for use in uses(path)]
VERSION = "3" if paddle.__version__.startswith("3") else "2.6"


def absent(use: Use) -> str | None:
    """What is wrong with a use."""
    try:
        found = find(use.name)
    except AttributeError:
        return use.name
    known = parameters(found) if use.keywords else None
    missing = set(use.keywords or ()) - known if known is not None else set()
    return f"{use.name}({', '.join(sorted(missing))})" if missing else None


def test_names_are_there():
    found = {}
    for use in USES:
        what = absent(use)
        if what:
            found.setdefault(what, use.place)
    unknown = {what: place for what, place in found.items() if not what.startswith(ABSENT[VERSION])}
    assert not unknown, f"Paddle {paddle.__version__} has not: {unknown}"
    for name in ABSENT[VERSION]:
        assert any(what.startswith(name) for what in found), f"{name} is there: it needs no line in ABSENT"


def test_the_names_of_devices_are_among_these():
    """They are what this test is for."""
    names = {use.name for use in USES}
    assert {
        "paddle.device.synchronize",
        "paddle.device.cuda.get_device_capability",
        "paddle.device.get_all_custom_device_type",
        "paddle.inference.Config.enable_use_gpu",
        "paddle.inference.PrecisionType.Half",
        "paddle.inference.create_predictor",
    } <= names
    assert len(names) > 150


@pytest.mark.parametrize(
    "name, keywords, what",
    [
        ("paddle.device.cuda.max_memory_allocated", None, None),
        ("paddle.device.cuda.most_memory", None, "paddle.device.cuda.most_memory"),
        ("paddle.amp.auto_cast", ("level", "dtype", "wide"), "paddle.amp.auto_cast(wide)"),
        ("paddle.inference.Config.enable_tensorrt_engine", ("use_static",), None),
        ("paddle.inference.Config.enable_tensorrt_engine", ("static",), "static"),
    ],
)
def test_what_is_not_there_is_found(name, keywords, what):
    found = absent(Use("here", name, keywords))
    assert found == what if what is None or "(" in what or "." in what else what in found
