"""The number of threads that a process computes with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ppdet.utils.process.paddle_setup import local_processes

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("variables", "count"),
    [
        ({}, 1),
        ({"PADDLE_LOCAL_SIZE": "4", "PADDLE_TRAINER_ENDPOINTS": "10.0.0.1:1,10.0.0.2:1"}, 4),
        (
            {
                "PADDLE_TRAINER_ENDPOINTS": "10.0.0.1:1,10.0.0.1:2,10.0.0.2:1",
                "PADDLE_CURRENT_ENDPOINT": "10.0.0.1:2",
            },
            2,
        ),
    ],
)
def test_processes_of_this_machine(monkeypatch, variables, count):
    for name in ("PADDLE_LOCAL_SIZE", "PADDLE_TRAINER_ENDPOINTS", "PADDLE_CURRENT_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert local_processes() == count


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc")
@pytest.mark.parametrize(("user", "expected"), [(None, "True"), ("1", "False")])
def test_number_of_threads_that_the_launcher_chose_is_not_the_users(user, expected):
    """Importing paddle, the launcher sets OMP_NUM_THREADS to 1 for all that it starts."""
    worker = (
        "from ppdet.utils.process.paddle_setup import is_set_by_launcher; print(is_set_by_launcher('OMP_NUM_THREADS'))"
    )
    launcher = (
        "import os, subprocess, sys; os.environ.update(OMP_NUM_THREADS='1', PADDLE_TRAINERS_NUM='2');"
        f"subprocess.run([sys.executable, '-c', {worker!r}])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    if user:
        environment["OMP_NUM_THREADS"] = user
    result = subprocess.run(
        [sys.executable, "-c", launcher], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == expected
