"""Writes the report: report.md to attach to an issue, and report.json with all figures."""

import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import ppdet
from ppdet.acceptance.check_registry import GROUPS, Check
from ppdet.acceptance.context import ROOT
from ppdet.acceptance.device_facts import Facts
from ppdet.acceptance.outcomes import FAIL, PASS, SKIPPED, Result, to_plain_json
from ppdet.acceptance.text_report import markdown_report
from ppdet.utils.disk.files import atomic_path, write_json

FORMAT = 1  # version of the format of report.json


class Report:
    """The report of a run. `add` rewrites its files after every check, so a killed run leaves what was known.

    Args:
        folder: folder of the two files.
        checks: all checks that are to be run.
        command: the command line of the run.
        quick: whether it is a quick run.
    """

    def __init__(self, folder: Path, facts: Facts, checks: Sequence[Check], *, command: str, quick: bool) -> None:
        self.folder, self.checks = folder, {check.name: check for check in checks}
        self.results: list[Result] = []
        self.head = {
            "format": FORMAT,
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "command": command,
            "quick": quick,
            "ppdet": ppdet.__version__,
            "commit": git_commit(),
            "python": platform.python_version(),
            "system": platform.platform(),
            "facts": to_plain_json(asdict(facts)),
        }
        self.write(finished=False)

    def add(self, result: Result) -> None:
        self.results.append(result)
        self.write(finished=False)

    def write(self, *, finished: bool) -> None:
        """Write the two files; `finished` tells whether the run is over."""
        content = self.content(finished)
        write_json(self.folder / "report.json", content)
        with atomic_path(self.folder / "report.md") as temporary:
            temporary.write_text(markdown_report(content), encoding="utf-8")

    def content(self, finished: bool) -> dict[str, Any]:
        """Return the content of report.json."""
        titles = {group.name: group.title for group in GROUPS}
        rows = []
        for result in self.results:
            check = self.checks[result.name]
            about = {"title": check.title, "group": titles[check.group], "advice": check.advice}
            rows.append({**result.to_json(), **about})
        done = {result.name for result in self.results}
        return {
            **self.head,
            "finished": finished,
            "summary": {status: sum(r.status == status for r in self.results) for status in (PASS, FAIL, SKIPPED)},
            "not_run": [name for name in self.checks if name not in done],
            "checks": rows,
        }


def git_commit() -> str | None:
    """Return the commit of the checkout, with a + if files differ from it; None without git."""
    if not shutil.which("git"):
        return None
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True)  # nosec B603  # constants, and our own folder
    return done.stdout.strip() or None
