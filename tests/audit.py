"""Looks for known faults of the installed libraries with pip-audit: `make audit`.

    python tests/audit.py

The exit code is 1 if a library has a fault that is not in ACCEPTED. Where the advisory database cannot be reached, a
line says so, and the exit code is 0.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

# Faults that do not concern this project, by their identifier, and why.
ACCEPTED: dict[str, str] = {}
AUDIT = [sys.executable, "-m", "pip_audit", "--skip-editable", "--progress-spinner", "off", "--timeout", "15"]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        done = subprocess.run([*AUDIT, "--format", "json", "--output", report], capture_output=True, text=True)
        try:
            libraries = json.loads(report.read_text())["dependencies"]
        except (OSError, ValueError):  # the report is written at the end
            libraries = []
    audited = [library for library in libraries if "skip_reason" not in library]
    if not audited:
        said = "" if libraries else done.stderr.strip()
        reason = (said.splitlines() or ["it knows none of the libraries"])[-1]
        print(f"pip-audit: the libraries were not audited, the advisory database is out of reach: {reason}")
        return 0
    code = 0
    for library in audited:
        for fault in library["vulns"]:
            accepted = next((ACCEPTED[name] for name in (fault["id"], *fault["aliases"]) if name in ACCEPTED), None)
            mended = ", ".join(fault["fix_versions"]) or "no version"
            print(f"{library['name']} {library['version']}: {fault['id']}, mended in {mended}"
                  + (f"; accepted: {accepted}" if accepted else ""))  # fmt: skip
            code = code if accepted else 1
    print(f"pip-audit: {len(audited)} of {len(libraries)} libraries were audited")
    return code


if __name__ == "__main__":
    sys.exit(main())
