"""Calls of the commands, by the names of their files in tools/ and deploy/: in a new process, or in this one.

A call in this process saves two seconds, which importing paddle takes.
"""

import contextlib
import functools
import importlib.util
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ppdet.cli.commands import load as load_command

ROOT = Path(__file__).resolve().parents[1]


def run(*command: object, code: int = 0) -> str:
    """Run `python COMMAND` and return what it prints, standard output before standard error."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, *map(str, command)]
    result = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert result.returncode == code, (result.stdout + result.stderr)[-3000:]
    return result.stdout + result.stderr


def execute(file: str, *arguments: object) -> subprocess.CompletedProcess:
    """Call the `main` of a command in this process, and return the exit code of its process."""
    stdout, stderr = io.StringIO(), io.StringIO()
    code = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(sys, "argv", [file, *map(str, arguments)])
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            try:
                load(file).main()
            except SystemExit as end:
                code = end.code or 0
    return subprocess.CompletedProcess(sys.argv, code, stdout.getvalue(), stderr.getvalue())


def call(file: str, *arguments: object, code: int = 0) -> str:
    """Do the same as `run` in this process."""
    result = execute(file, *arguments)
    assert result.returncode == code, (result.stdout + result.stderr)[-3000:]
    return result.stdout + result.stderr


@functools.cache
def load(file: str) -> ModuleType:
    """Return the module of the command that a file of tools/ or deploy/ runs, or the file itself as a module."""
    name = re.search(r'run_command\("(.*)"\)', (ROOT / file).read_text(encoding="utf-8"))
    if name:
        return load_command(name[1])
    spec = importlib.util.spec_from_file_location(f"command_{Path(file).stem}", ROOT / file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
