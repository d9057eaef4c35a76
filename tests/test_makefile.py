"""What the Makefile installs, and which tests it runs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OLDER = " numpy<2 opencv-python-headless<4.12 setuptools"


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make")
@pytest.mark.parametrize(
    ("paddle", "target", "expected"),
    [
        (None, ".installed", ".[cpu]"),
        (None, ".installed-dev", ".[cpu,dev]"),
        ("paddlepaddle-3.3.1", ".installed", ".[cpu]"),
        ("paddlepaddle_gpu-3.2.0", ".installed", "."),
        ("paddlepaddle_gpu-3.2.0", ".installed-dev", ".[dev]"),
        ("paddlepaddle_gpu-2.6.2.post120", ".installed", f".{OLDER}"),
        ("paddlepaddle_gpu-2.6.2", ".installed-dev", f".[dev]{OLDER}"),
        ("paddlepaddle-xpu-3.3.0", ".installed", "."),
        ("paddlepaddle_dcu-3.0.0", ".installed", "."),
    ],
)
def test_a_users_own_paddle_stays(tmp_path, paddle, target, expected):
    """A fake pip notes its arguments, in an environment in which only this Paddle is installed."""
    packages, folder = tmp_path / "packages", tmp_path / "bin"
    folder.mkdir()
    packages.mkdir()
    if paddle:
        name, _, version = paddle.rpartition("-")
        (packages / f"{paddle}.dist-info").mkdir()
        (packages / f"{paddle}.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    python = f'#!/bin/sh\nPYTHONPATH={packages} exec {sys.executable} -S "$@"\n'
    for file, text in (("python", python), ("pip", f'#!/bin/sh\necho "$*" > {tmp_path}/asked\n')):
        (folder / file).write_text(text)
        (folder / file).chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    subprocess.run(["make", "-s", f"{tmp_path}/{target}", f"VENV={tmp_path}"], cwd=ROOT, check=True, env=environment)
    asked = (tmp_path / "asked").read_text().strip()
    assert asked == f"install --disable-pip-version-check -q -e {expected}"
    included = {".installed", target}  # no later command asks pip for a part of what is there
    assert {path.name for path in tmp_path.glob(".installed*")} == included


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make")
@pytest.mark.parametrize(
    ("pip", "says"),
    [
        ("exit 1", "make gpu-wheel: paddlepaddle-gpu==2.6.2 could not be installed"),
        ('echo "$*" > "$(dirname "$0")/asked"', None),
    ],
)
def test_the_build_for_gpus_can_be_missing(tmp_path, pip, says):
    """One line tells it, and the next call tries again."""
    (tmp_path / "bin").mkdir()
    # This Python claims to be the version, and to run on the machine, that the build is for.
    python = '#!/bin/sh\ncase "$1" in -c) exec true ;; esac\nexit 1\n'
    for file, text in (("python", python), ("pip", f"#!/bin/sh\n{pip}\n")):
        (tmp_path / "bin" / file).write_text(text)
        (tmp_path / "bin" / file).chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    command = ["make", "-s", f"{tmp_path}/.installed", f"GPU_WHEEL={tmp_path}", f"PYTHON={tmp_path}/bin/python"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if says:
        assert done.returncode and says in done.stderr.splitlines()[0]
        assert not (tmp_path / ".installed").exists()
    else:
        assert done.returncode == 0, done.stderr
        asked = (tmp_path / "bin" / "asked").read_text()
        assert {"paddlepaddle-gpu==2.6.2", "numpy<2", "opencv-python-headless<4.12"} <= set(asked.split())


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make")
@pytest.mark.parametrize(("target", "program"), [("cpp", "apt-get"), ("javascript", "npm")])
def test_the_packages_of_clients_can_be_missing(tmp_path, target, program):
    for file in (program, "bin/python"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / file).chmod(0o755)
    (tmp_path / ".installed-dev").touch()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    environment["PATH"] = f"{tmp_path}{os.pathsep}{environment['PATH']}"
    command = ["make", "-s", f"{tmp_path}/.installed-{target}", f"VENV={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    [line] = [line for line in done.stderr.splitlines() if line.startswith(f"make {target}: ")]
    assert done.returncode and "installed: " in line
    assert not (tmp_path / f".installed-{target}").exists()


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make")
def test_the_build_for_gpus_needs_its_python(tmp_path):
    old = f"#!{sys.executable}\nimport sys\nsys.version_info = (3, 13, 0)\nexec(sys.argv[2])\n"
    (tmp_path / "python").write_text(old)
    (tmp_path / "python").chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    command = ["make", "-s", f"{tmp_path}/.installed", f"GPU_WHEEL={tmp_path}", f"PYTHON={tmp_path}/python"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode and "is for Python 3.10 to 3.12 on Linux x86_64, this is Python 3.13" in done.stderr


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make")
def test_the_build_for_gpus_gets_all_tests_of_device_code():
    """These are the unit tests that import ppdet.utils.device, or the stand-in for a GPU's NMS kernel."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    printed = subprocess.check_output(["make", "-n", "gpu-wheel"], cwd=ROOT, env=environment, text=True)
    named = [ROOT / word for word in printed.splitlines()[-1].split() if word.startswith("tests/")]
    assert all(path.exists() for path in named)
    imports = re.compile(r"^(from ppdet\.utils import .*\bdevice\b|from gpu_nms import)", re.MULTILINE)
    # The other two need a plugin, which such a build does not accept, or train and export for minutes.
    rooms = set((ROOT / "tests").iterdir()) - {ROOT / "tests" / name for name in ("custom_device", "end_to_end")}
    files = [path for room in sorted(rooms) for path in room.rglob("test_*.py")]
    device_tests = {path for path in files if imports.search(path.read_text(encoding="utf-8"))}
    assert len(device_tests) > 15
    missing = {str(path.relative_to(ROOT)) for path in device_tests if not {path, *path.parents} & set(named)}
    assert not missing, f"Makefile: DEVICE_TESTS lacks {missing}"
