"""The audit of libraries fails at a known fault, and says so where it cannot know."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WELL = {"name": "well", "version": "1.0", "vulns": []}
ILL = {
    "name": "ill",
    "version": "2.0",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.1", "3.0"], "description": "bad"}],
}
UNKNOWN = {"name": "x", "skip_reason": "Dependency not found on PyPI and could not be audited: x (1.0)"}
# In place of pip-audit: it writes a report, if it has one, and says something.
PIP_AUDIT = """
import pathlib, sys
report = {report!r}
if report is not None:
    pathlib.Path(sys.argv[sys.argv.index("--output") + 1]).write_text(report)
sys.exit("a traceback\\nConnectionError: no route")
"""


@pytest.mark.parametrize(
    ("libraries", "code", "says"),
    [
        ([WELL, UNKNOWN], 0, "1 of 2 libraries were audited"),
        ([WELL, ILL], 1, "ill 2.0: PYSEC-1, mended in 2.1, 3.0"),
        ([UNKNOWN], 0, "were not audited, the advisory database is out of reach: it knows none of the libraries"),
        (None, 0, "were not audited, the advisory database is out of reach: ConnectionError: no route"),
    ],
)
def test_outcomes(tmp_path, libraries, code, says):
    report = None if libraries is None else json.dumps({"dependencies": libraries, "fixes": []})
    (tmp_path / "pip_audit.py").write_text(PIP_AUDIT.format(report=report))
    command = [sys.executable, ROOT / "tests" / "audit.py"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == code and says in done.stdout and "Traceback" not in done.stderr


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no checkout: git does not know the project's files")
def test_bandit_reads_all_code_but_tests():
    [folders] = re.findall(r"bandit .* -r ([a-z. ]+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    tracked = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {*folders.split(), "tests"} == {line.partition("/")[0] for line in tracked.splitlines()}
