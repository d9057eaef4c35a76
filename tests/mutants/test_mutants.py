"""The tool that looks at the tests: on a small project with a test that notices and one that does not."""

import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("cosmic_ray", reason="the extra `mutants` is not installed")
pytest.importorskip("coverage", reason="the extra `mutants` is not installed")
sys.path.insert(0, str(Path(__file__).parent))
import forks
import mutations
import run

SOURCE = """
LIMIT = 3


def larger(one, other):
    if one > other:
        return one
    return other


def far(value):
    return abs(value) > LIMIT


def draw(make):
    return make(1, seed=0, size=2)
"""
TESTS = """
import numbers_of_ours as numbers


def test_larger():
    assert (numbers.larger(1, 2), numbers.larger(2, 1), numbers.larger(2, 2)) == (2, 2, 2)


def test_far():
    numbers.far(5)
"""


@pytest.fixture
def room(tmp_path, monkeypatch):
    tree = tmp_path / "tree"
    (tree / "tests").mkdir(parents=True)
    (tree / "numbers_of_ours.py").write_text(SOURCE)
    (tree / "tests" / "test_numbers.py").write_text(TESTS)
    (tmp_path / "output").mkdir()
    monkeypatch.chdir(tree)
    monkeypatch.syspath_prepend(str(tree))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    content = {"sources": ["*.py"], "tests": ["tests/*.py"], "absent": {"draw": "it is for another version"}}
    return run.Room("small", content, tree, tmp_path / "output")


def changes(source, **options):
    found = (mutations.mutant(place, source) for place in mutations.places("room", "x.py", source, **options))
    return {one.name for one in found if one is not None}


def test_changes_of_a_line():
    assert {
        "x.py: if one > other: -> if one >= other:",
        "x.py: if one > other: -> if one <= other:",
        "x.py: if one > other: -> if not one > other:",
        "x.py: LIMIT = 3 -> LIMIT = 4",
        "x.py: LIMIT = 3 -> LIMIT = 2 (2)",
        "x.py: return make(1, seed=0, size=2) -> return make(1, size=2)",
        "x.py: return make(1, seed=0, size=2) -> return make(1, seed=0) (2)",
    } <= changes(SOURCE)
    assert {name for name in changes(SOURCE) if "seed" in name} == changes(SOURCE) - changes(SOURCE, absent=["draw"])
    assert changes("def f(a, *, b):\n    '''1 + 1'''\n") == set()


def test_the_sample_stays_while_other_lines_change():
    def ranks(source):
        return sorted((place.rank(0), place.line) for place in mutations.places("room", "x.py", source))

    before, after = ranks(SOURCE), ranks("LONGEST = 2\n" + SOURCE)
    assert [one for one in after if "LONGEST" not in one[1]] == before and len(after) > len(before)
    assert before != sorted((place.rank(1), place.line) for place in mutations.places("room", "x.py", SOURCE))


def test_what_is_noticed_is_killed_and_what_is_not_survives(room):
    room.record()
    assert set(room.seconds) == {"tests/test_numbers.py::test_larger", "tests/test_numbers.py::test_far"}
    outcomes = {}
    for one in run.sample(room, seed=0):
        assert one.place.line != "return make(1, seed=0, size=2)"
        if "if one > other" in one.place.line:
            assert room.tests_of(one.place) == ["tests/test_numbers.py::test_larger"]
        outcomes[one.name] = run.try_one(one, room)
    assert (room.tree / "numbers_of_ours.py").read_text() == SOURCE
    by_line = {}
    for name, outcome in outcomes.items():
        by_line.setdefault(name.split(": ", 1)[1].split(" -> ")[0], set()).add(outcome)
    assert by_line["return abs(value) > LIMIT"] == {"survived"} and by_line["LIMIT = 3"] == {"survived"}
    equal = "numbers_of_ours.py: if one > other: -> if one >= other:"
    assert outcomes.pop(equal) == "survived", "the same program"
    assert {outcome for name, outcome in outcomes.items() if "one > other" in name} == {"killed"}


def test_a_test_that_does_not_end_is_ended(room):
    (room.tree / "tests" / "test_numbers.py").write_text("def test_far():\n    while True:\n        pass\n")
    assert forks.judge(["tests/test_numbers.py"], 1.0, room.log) == "timeout"


def test_a_run_that_is_stopped_leaves_no_test_behind(room, tmp_path, monkeypatch):
    note = tmp_path / "pid"
    (room.tree / "tests" / "test_numbers.py").write_text(
        "import os, pathlib, time\n\n\ndef test_far():\n"
        f"    pathlib.Path({str(note)!r}).write_text(f'{{os.getpid()}}\\n')\n    time.sleep(600)\n"
    )

    def stop(seconds):
        if note.is_file() and note.read_text().endswith("\n"):
            raise KeyboardInterrupt

    monkeypatch.setattr(forks, "time", SimpleNamespace(sleep=stop, monotonic=time.monotonic))
    with pytest.raises(KeyboardInterrupt):
        forks.judge(["tests/test_numbers.py"], 600, room.log)
    pid = int(note.read_text())
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def test_one_run_at_a_time(tmp_path, monkeypatch):
    descriptor = os.open(tmp_path / "lock", os.O_CREAT | os.O_WRONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    monkeypatch.setattr(sys, "argv", ["run.py", "--output", str(tmp_path)])
    with pytest.raises(SystemExit, match="another run writes there: wait for it, or name another --output"):
        run.main()
    os.close(descriptor)


def test_a_run_tells_of_entries_whose_lines_are_gone(tmp_path, monkeypatch, capsys):
    (tmp_path / "rooms.yml").write_text("small: {sources: ['*.py'], tests: ['tests/*.py']}\n")
    changes = ("LIMIT = 3 -> LIMIT = 4", "LIMIT = 5 -> LIMIT = 6")
    listed = [{"mutant": f"numbers_of_ours.py: {change}", "reason": "hardly matters"} for change in changes]
    (tmp_path / "survivors.yml").write_text(json.dumps(listed))
    output = tmp_path / "output"
    monkeypatch.setattr(run, "HERE", tmp_path)
    monkeypatch.setattr(run, "copy_tree", lambda tree: (tree.mkdir(), (tree / "numbers_of_ours.py").write_text(SOURCE)))
    monkeypatch.setattr(forks, "prepare", lambda tree: None)
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(run, "summarize", lambda outcomes, reasons: True)
    monkeypatch.setattr(sys, "argv", ["run.py", "--budget", "0", "--output", str(output)])
    assert run.main() == 1
    told = [line for line in capsys.readouterr().out.splitlines() if "lines that are gone" in line]
    assert len(told) == 1 and told[0].endswith(": numbers_of_ours.py: LIMIT = 5 -> LIMIT = 6")


def test_tests_that_fail_without_any_mutant(room):
    (room.tree / "tests" / "test_numbers.py").write_text("def test_far():\n    assert False\n")
    with pytest.raises(SystemExit, match="tests of small fail without any mutant"):
        room.record()


def test_results_are_kept(room, tmp_path):
    one, other = list(run.sample(room, seed=0))[:2]
    results = run.Results(tmp_path / "results.jsonl")
    results.add(one, "survived", "tests of today")
    results.add(other, "killed", "tests of today")
    with open(tmp_path / "results.jsonl", "a") as stream:
        stream.write('{"key": "torn')
    results = run.Results(tmp_path / "results.jsonl")
    assert results.find(one, "tests of today") == "survived" and results.find(one, "tests of tomorrow") == ""
    assert results.find(other, "tests of tomorrow") == "killed"


@pytest.mark.parametrize(
    ("killed", "survived", "reasons", "good"),
    [
        (19, 1, {"s0": {"reason": "hardly matters"}}, True),
        (19, 1, {}, False),
        (18, 2, {"s0": {"reason": "hardly matters"}, "s1": {"reason": "hardly matters"}}, False),
        (18, 2, {"s0": {"reason": "hardly matters"}, "s1": {"reason": "the same", "equivalent": True}}, False),
        (19, 2, {"s0": {"reason": "hardly matters"}, "s1": {"reason": "the same", "equivalent": True}}, True),
        (0, 0, {}, False),
    ],
)
def test_enough(killed, survived, reasons, good, capsys):
    results = {f"k{i}": "killed" for i in range(killed)} | {f"s{i}": "survived" for i in range(survived)}
    assert run.summarize({"room": results}, reasons) == good
    assert ("survived without a reason" in capsys.readouterr().out) == any(
        f"s{i}" not in reasons for i in range(survived)
    )
