"""The report of a run: report.json with everything, report.html to attach to an issue, report.md to paste into one."""

import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

import ppdet
from ppdet.acceptance.check_registry import GROUPS, Check
from ppdet.acceptance.context import ROOT
from ppdet.acceptance.facts import Facts
from ppdet.acceptance.outcomes import FAIL, PASS, SKIPPED, Result, plain
from ppdet.acceptance.page import page
from ppdet.acceptance.wording import markdown
from ppdet.utils.disk.files import atomic_path, write_json

FORMAT = 1  # of report.json


class Report:
    """What is known so far; `add` writes it anew, so that a run that is killed leaves what it had.

    Args:
        folder: of the three files. command: that was typed. checks: that are to be run.
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
            "commit": commit(),
            "python": platform.python_version(),
            "system": platform.platform(),
            "facts": plain(asdict(facts)),
        }
        self.write(finished=False)

    @property
    def counts(self) -> dict[str, int]:
        return {status: sum(r.status == status for r in self.results) for status in (PASS, FAIL, SKIPPED)}

    def add(self, result: Result) -> None:
        self.results.append(result)
        self.write(finished=False)

    def finish(self) -> None:
        self.write(finished=True)

    def write(self, *, finished: bool) -> None:
        """Write the three files.

        Raises:
            OSError: a file cannot be written.
        """
        content = self.content(finished)
        write_json(self.folder / "report.json", content)
        for name, text in (("report.html", page(content)), ("report.md", markdown(content))):
            with atomic_path(self.folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8")

    def content(self, finished: bool) -> dict:
        """What report.json holds."""
        titles = {group.name: group.title for group in GROUPS}
        rows = []
        for result in self.results:
            check = self.checks[result.name]
            more = {"title": check.title, "group": titles[check.group], "advice": check.advice}
            rows.append({**result.to_json(), **more})
        done = {result.name for result in self.results}  # skipped ones come before others of their group
        left = [name for name in self.checks if name not in done]
        return {**self.head, "finished": finished, "summary": self.counts, "not_run": left, "checks": rows}


def commit() -> str | None:
    """The checkout's commit, with a + where files differ from it; None without git."""
    if not shutil.which("git"):
        return None
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None
