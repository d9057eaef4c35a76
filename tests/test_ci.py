"""`.ci/run`: the order of its jobs, and what a failure does. A stand-in for make notes what it is called for."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE, wait_until
from processes import wait_for_end

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(sys.platform != "linux" or not shutil.which("bash"), reason="written for bash on Linux")

# Its targets are files for the script: what it has made, exists. FAIL names a target, and HANG one that never ends.
MAKE = """#!/usr/bin/env bash
name=$1
echo "begin $name" >> calls
echo "$name $PPDET_TORCH_PYTHON $PPDET_ONNXRUNTIME $PPDET_NODE_MODULES" >> environments
echo "output of $name"
if [[ $name == "$HANG" ]]; then sleep 1000 & echo $! >> hanging; wait; fi
sleep 0.02
echo "end $name" >> calls
if [[ " $FAIL " == *" $name "* ]]; then exit 7; fi
case $name in .venv*) mkdir -p "${name%/*}"; touch "$name";; esac
"""
INSTALLED = {
    "environment": ".venv/.installed-audit",
    "site": ".venv-site/.installed",
    "gpu-wheel": ".venv-gpu-wheel/.installed",
    "cpp": ".venv/.installed-cpp",
    "javascript": ".venv/.installed-javascript",
}
SMALL = ["lint", "collect", "types", "audit", "zoo", "notebook", "wheel-check", "site"]
STAGES = ["test", "processors", "gpu-wheel"]


@pytest.fixture
def start(tmp_path):
    """Start the script in a folder of its own; keyword arguments are variables of the environment."""
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("make", MAKE), ("chromium", "#!/bin/sh\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    begun = []

    def start(**variables):
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PPDET_")}
        environment = {**ours, "PATH": path, "FAIL": "", "HANG": "", **variables}
        for name in ("PPDET_TORCH_PYTHON", "PPDET_ONNXRUNTIME", "PPDET_NODE_MODULES"):
            environment[name] = ""
        begun.append(
            subprocess.Popen(
                # Bash cannot trap a signal that whoever runs the tests ignores.
                ["env", "--default-signal=INT", "bash", str(tmp_path / ".ci" / "run")],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.wait()


def ended(process):
    """Exit code and output."""
    printed, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, printed


def calls(folder):
    return (folder / "calls").read_text().splitlines()


def environment_of_the_tests(folder):
    """Where `make test` is told that PyTorch, ONNX Runtime and the packages from npm are."""
    (line,) = (line for line in (folder / "environments").read_text().splitlines() if line.startswith("test "))
    return [str(Path(path).relative_to(folder.resolve())) for path in line.split()[1:]]


def test_all_jobs_run_in_an_order_that_suits_them(start, tmp_path):
    code, printed = ended(start())
    assert code == 0, printed
    order = calls(tmp_path)
    names = {line.split()[1] for line in order}
    assert names == {*INSTALLED.values(), ".venv-peer/.installed", *SMALL, *STAGES}
    at_once = 0
    for line in order:
        at_once += 1 if line.startswith("begin") else -1
        assert 0 <= at_once <= 2
    for name in SMALL:
        assert order.index(f"end {INSTALLED['environment']}") < order.index(f"begin {name}")
    assert order.index(f"end {INSTALLED['site']}") < min(
        order.index(f"begin {name}") for name in ("site", "wheel-check")
    )
    assert order[-6:] == [f"{when} {name}" for name in STAGES for when in ("begin", "end")], "alone, and last"
    folders = [".venv-peer/bin/python", ".venv/onnxruntime", ".venv/javascript/node_modules"]
    assert environment_of_the_tests(tmp_path) == folders
    table = printed[printed.index("seconds  what") :]
    for name in [*SMALL, *STAGES, "environment", "torch", "cpp-packages", "in all"]:
        assert re.search(rf"^ *\d+  {name}$", table, re.MULTILINE), name
    assert all(f"output of {name}\n" in printed for name in names)


def test_packages_that_cannot_be_had_are_left_out(start, tmp_path):
    optional = sorted(INSTALLED.keys() - {"environment"})
    code, printed = ended(start(FAIL=" ".join(INSTALLED[name] for name in optional)))
    assert code == 0, printed
    for name in optional:
        assert len(re.findall(rf"^{name} is left out", printed, re.MULTILINE)) == 2, "when it fails, and at the end"
        assert f"begin {name}" not in calls(tmp_path)
    assert environment_of_the_tests(tmp_path) == [".venv-peer/bin/python"]


def test_a_browser_is_asked_for_where_there_is_none(start, tmp_path):
    """Only what is linked here is on PATH."""
    programs = tmp_path / "programs"
    (programs / "chromium").unlink()
    for name in ("bash", "cat", "dirname", "env", "mkdir", "mktemp", "rm", "sleep", "touch"):
        (programs / name).symlink_to(shutil.which(name))
    (programs / "apt-get").write_text('#!/usr/bin/env bash\necho "$*" >> asked\n[[ $1 == update ]]\n')
    (programs / "apt-get").chmod(0o755)
    code, printed = ended(start(PATH=str(programs)))
    assert code == 0, printed
    assert (tmp_path / "asked").read_text().splitlines() == ["update -qq", "install -y -qq chromium"]
    assert printed.splitlines()[-1] == "tests in a browser are left out: chromium cannot be installed"


def test_without_the_tools_of_the_audit_the_rest_is_installed(start, tmp_path):
    code, printed = ended(start(FAIL=INSTALLED["environment"]))
    assert code == 0, printed
    assert "audit is left out: its tools cannot be installed" in printed
    assert "end .venv/.installed-dev" in calls(tmp_path) and "begin audit" not in calls(tmp_path)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (f"{INSTALLED['environment']} .venv/.installed-dev", "environment"),
        ("site", "site"),
        ("test", "test"),
    ],
)
def test_the_first_failure_ends_the_run(start, tmp_path, target, name):
    code, printed = ended(start(FAIL=target))
    assert code == 7
    assert printed.splitlines()[-1] == f"{name} failed with exit code 7"
    assert f"output of {target.split()[-1]}\n" in printed and re.search(rf"^ *\d+  {name}$", printed, re.MULTILINE)
    later = STAGES[STAGES.index(name) + 1 :] if name in STAGES else STAGES
    assert not {f"begin {stage}" for stage in later} & set(calls(tmp_path))


def hanging(folder):
    """The processes that MAKE has started and that end only when they are stopped."""
    file = folder / "hanging"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def test_a_failure_stops_what_runs_beside(start, tmp_path):
    code, printed = ended(start(HANG=".venv-peer/.installed", FAIL="lint"))
    assert code == 7 and printed.splitlines()[-1] == "lint failed with exit code 7"
    assert hanging(tmp_path)
    wait_for_end(hanging(tmp_path))


@pytest.mark.parametrize(("number", "target"), [(signal.SIGTERM, ".venv-peer/.installed"), (signal.SIGINT, "test")])
def test_a_signal_stops_everything(start, tmp_path, number, target):
    process = start(HANG=target)
    wait_until(lambda: hanging(tmp_path), f"{target} hangs")
    process.send_signal(number)
    code, printed = ended(process)
    assert code == 128 + number
    assert "seconds  what" in printed
    wait_for_end(hanging(tmp_path))
