"""The listed mutants refer to lines that exist in the code."""

import ast
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
import survivors

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ROOMS = yaml.safe_load((HERE / "rooms.yml").read_text())
SOURCE = """
def far(value: float) -> bool:
    return abs(
        value,
    ) > LIMIT

class Far:
    @staticmethod
    def draw():
        return far(1, size=2)
"""


@pytest.mark.parametrize(
    ("change", "there"),
    [
        ("return far(1, size=2) -> return far(1, size= 3)", True),
        ("return far(1, size=2) -> return far(1) (2)", True),
        ("return far(1, size=3) -> return far(1)", False),
        ("far(1, size=2) -> far(1)", False),
        ("@staticmethod -> ", True),
        ("@classmethod -> ", False),
        ("def far(value: float) -> bool: -> def far(value: float):", True),
        ("def far(value: int) -> bool: -> def far(value: float) -> int:", False),
        ("return abs( value, ) > LIMIT -> return abs( value, ) >= LIMIT", True),
        ("return abs( value, ) > LIMIT def -> return abs( value, ) >= LIMIT def", False),
    ],
)
def test_lines_that_are_there(tmp_path, change, there):
    (tmp_path / "a.py").write_text(SOURCE)
    mutant = f"a.py: {change}"
    assert survivors.stale([mutant, f"gone.py: {change}"], tmp_path) == [mutant] * (not there) + [f"gone.py: {change}"]


def test_survivors_are_of_the_code_as_it_is():
    listed = [entry["mutant"] for entry in yaml.safe_load((HERE / "survivors.yml").read_text())]
    assert len(listed) == len(set(listed)) and survivors.stale(listed, ROOT) == []


@pytest.mark.parametrize("name", ROOMS)
def test_rooms_have_what_they_name(name):
    room = ROOMS[name]
    for pattern in (*room["sources"], *room["tests"]):
        assert list(ROOT.glob(pattern)), f"rooms.yml: {name}: there is no {pattern}"
    trees = [ast.parse(path.read_text(encoding="utf-8")) for one in room["sources"] for path in ROOT.glob(one)]
    functions = {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert set(room.get("absent", {})) <= functions


def test_code_that_differs_by_device_is_in_a_room():
    sources = {path for room in ROOMS.values() for one in room["sources"] for path in ROOT.glob(one)}
    wanted = (
        "utils/device.py",
        "utils/process/start.py",
        "engine/device_choice.py",
        "modeling/nms.py",
        "data/loading/to_device.py",
    )
    backends = (ROOT / "ppdet/deploy/backends").glob("*.py")
    assert {*(ROOT / "ppdet" / one for one in wanted), *backends} <= sources
