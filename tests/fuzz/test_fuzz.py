"""The harness: it notices what must not happen, and cases can be repeated."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="this system has no limits for processes")
pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
pytest.importorskip("pyarrow", reason="the extra `batch` is not installed")
if sys.platform != "linux":
    pytest.skip("memory and processor time of one case are limited on Linux only", allow_module_level=True)

from fuzz import faulty, unbounded
from fuzz.sandbox import FAILED, READ, REFUSED, Limits
from fuzz.workers import Job, run_all

# Cases of each kind; `make fuzz` runs thousands.
SHORT = {"weights": 60, "yaml": 30, "json": 60, "images": 60, "requests": 60, "batches": 30}
WITHIN = 5  # cases of the sort that a limit is there for
EXPECTED = {
    "raises": "KeyError: 'width'",
    "loops": "the process ended: more than 0.5 s of processor time",
    "sleeps": "the process ended: not finished within 2 s, or the system killed it",
    "eats": "MiB of memory for files of 4 bytes",
    "gets_no_memory": "MemoryError",
    "hides_memory": "memory ran out",
    "writes": "'../outside' is opened for writing",
    "runs": "code from the file was executed",
    "starts": "os.system is called",
    "connects": "socket.getaddrinfo is called",
    "warns": "RuntimeWarning: overflow",
    "colors": "standard output has",
    "colors_past_python": "the log of libraries has",
    "hides_memory_past_python": "memory ran out: Failed to allocate",
    "ends": "the process ended: exit code 3",
    "crashes": "the process ended: SIGABRT",
    "names_nothing": "the line names no file",
    "exits": "exit code 1",
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What the harness says of each faulty reader."""
    folder: Path = tmp_path_factory.mktemp("fuzz")
    found = {}
    sleeping = list(faulty.SUBJECTS).index("sleeps")
    for numbers, wall_s in (({*range(len(faulty.SUBJECTS))} - {sleeping}, 600), ({sleeping}, 2)):
        jobs = [Job("faulty", 0, number) for number in numbers]
        limits = Limits(processor_s=0.5, wall_s=wall_s)
        for one in run_all(jobs, processes=1, limits=limits, folder=folder, module="fuzz.faulty"):
            found[one.subject] = one
    assert not list(folder.iterdir())
    return found


@pytest.mark.parametrize("name", list(EXPECTED))
def test_what_must_not_happen_is_noticed(outcomes, name):
    outcome = outcomes[name].outcome
    assert outcome.result == FAILED
    assert any(EXPECTED[name] in finding for finding in outcome.findings), outcome.findings


def test_what_may_happen_is_no_finding(outcomes):
    assert set(outcomes) == {*EXPECTED, "refuses", "accepts"}
    assert outcomes["refuses"].outcome[:3] == (REFUSED, "error: file.txt: too long", [])
    assert outcomes["accepts"].outcome[:3] == (READ, "text", [])


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> list:
    jobs = [Job(name, 0, number) for name, count in SHORT.items() for number in (*range(count), 5)]
    folder = tmp_path_factory.mktemp("short")
    # On a machine that does much else, the clock tells little.
    return list(run_all(jobs, processes=1, limits=Limits(wall_s=1200), folder=folder))


@pytest.mark.parametrize("name", list(SHORT))
def test_hostile_input_is_accepted_or_refused_in_one_line(short, name):
    found = [one for one in short if one.job.kind == name]
    faults = {one.job: one.outcome.findings for one in found if one.outcome.findings}
    assert not faults, f"python tests/fuzz/run.py --kind {name} --case {next(iter(faults)).number}"
    assert len(found) == SHORT[name] + 1
    assert {one.outcome.result for one in found} == {READ, REFUSED}


@pytest.mark.parametrize("name", list(SHORT))
def test_a_case_is_a_function_of_its_number(short, name):
    first, second = (one for one in short if one.job == Job(name, 0, 5))
    assert (first.subject, first.made, first.outcome.line) == (second.subject, second.made, second.outcome.line)
    assert len({(one.subject, one.made, one.outcome.line) for one in short if one.job.kind == name}) > 10


@pytest.mark.parametrize("name", list(unbounded.LIMITS))
def test_a_limit_that_is_switched_off_is_noticed(tmp_path, name):
    limits = Limits(processor_s=0.5, wall_s=1200)
    options = {"processes": 1, "limits": limits, "folder": tmp_path, "module": "fuzz.unbounded"}
    cases = run_all((Job(f"{name} without", 0, number) for number in range(WITHIN)), **options)
    found = next((one for one in cases if one.outcome.findings), None)
    assert found, f"none of {WITHIN} cases notices that the limit of {name} is switched off"
    with_limit = next(run_all([found.job._replace(kind=f"{name} with")], **options))
    assert not with_limit.outcome.findings
    assert with_limit.outcome.result == REFUSED
