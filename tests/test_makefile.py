"""What the Makefile installs beside the Paddle that is there."""

import os
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
    """pip is one that writes down what it is asked for, in an environment that has this Paddle alone."""
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
    assert (tmp_path / target).exists()
