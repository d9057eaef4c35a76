"""Runs the kit: from the options of the command line to the table on the screen, the report and the exit code."""

import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from ppdet.acceptance.check_registry import GROUPS, Check, CheckError, expected_seconds, select
from ppdet.acceptance.context import Context
from ppdet.acceptance.device_facts import Facts
from ppdet.acceptance.outcomes import FAIL, Result
from ppdet.acceptance.report_files import Report
from ppdet.acceptance.runner import Run, ask_for_facts
from ppdet.acceptance.text_report import environment_line, kind_line, summary_line
from ppdet.core.extensions import import_extensions, imported
from ppdet.utils.disk.lock import locked

CPU_FACTOR = 10.0  # factor of the time limits on a CPU; they are set for a GPU
LEAST_MINUTES = 10.0  # shortest default of --minutes
TIME_FACTOR = 1.5  # the default of --minutes is the expected duration times this factor


def run_kit(
    device: str,
    only: Sequence[str],
    output: Path,
    *,
    quick: bool = False,
    minutes: float | None = None,
    imports: Sequence[str] = (),
    command: str = "",
    stream: TextIO = sys.stdout,
) -> int:
    """Run checks, print a table, and write the report.

    Args:
        device: type of device, such as "gpu", or "auto".
        only: names of groups or checks as `select` takes them; empty runs all.
        output: folder of the report.
        quick: run fewer steps on smaller inputs; always true on a CPU.
        minutes: end the run after this time, the remaining checks count as failed; None: `default_minutes`.
        imports: Python files and modules that every process imports first.
        command: the command line, for the report.
        stream: where the table is printed.

    Returns:
        The exit code: 0, or 1 if a check failed.

    Raises:
        CheckError: there is no such check or device, or `output` is not writable.
        LockedError: another run of the kit writes to `output`.
    """
    start = time.time()
    require_type(device)
    import_extensions(imports)
    imports = imported()
    checks = select(only)
    output = writable_folder(output)
    advice = "wait for it, or give another folder by --output"
    with locked(output / "kit.lock", what=f"{output}: a run of the kit", advice=advice):
        work = output / "work"
        shutil.rmtree(work, ignore_errors=True)
        facts = ask_for_facts(device, imports, work)
        quick = quick or facts.device == "cpu"
        minutes = minutes or default_minutes(checks, facts)
        context = Context(facts=facts, quick=quick, work=work, deadline=start + 60 * minutes)
        report = Report(output, facts, checks, command=command, quick=quick)
        expected = expected_seconds(runnable(checks, facts)) / 60
        print(f"{environment_line(report.head)}\n{kind_line(report.head)}", file=stream)
        print(
            f"{len(checks)} checks, about {expected:.0f} minutes on one GPU such as a V100; the run ends after "
            f"{minutes:.0f} minutes (--minutes); results in {output}\n",
            file=stream,
            flush=True,
        )
        return run_checks(checks, context, report, imports=imports, stream=stream)


def run_checks(
    checks: Sequence[Check], context: Context, report: Report, *, imports: Sequence[str], stream: TextIO
) -> int:
    """Run the checks, print and report their results, and return the exit code."""
    screen = Screen(checks, stream, context)

    def on_result(check: Check, result: Result) -> None:
        report.add(result)
        screen.print_result(check, result)

    Run(
        checks,
        context,
        imports=imports,
        logs=report.folder / "logs",
        limit_factor=CPU_FACTOR if context.facts.device == "cpu" else 1.0,
        on_result=on_result,
        on_start=screen.print_running,
    ).run()
    report.write(finished=True)
    failed = [result for result in report.results if result.status == FAIL]
    if not failed:
        shutil.rmtree(context.work, ignore_errors=True)
    print(closing_lines(report, failed), file=stream, flush=True)
    return 1 if failed else 0


def require_type(device: str) -> None:
    """Raise CheckError if `device` is empty or has a number, so that it cannot be a type of device."""
    kind, colon, number = device.partition(":")
    if kind and not colon:
        return
    hint = f"; CUDA_VISIBLE_DEVICES={number or 0} in front of the command chooses the card" if kind == "gpu" else ""
    raise CheckError(f"--device {device!r}: expected a type such as gpu, xpu or cpu, without a number{hint}")


def writable_folder(folder: Path) -> Path:
    """Make the folder if it does not exist, and return its absolute path.

    Raises:
        CheckError: it cannot be made, or is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder.resolve()
    except OSError as error:
        reason = error.strerror or error
        raise CheckError(f"--output {folder}: expected a folder that can be written: {reason}") from None


def runnable(checks: Sequence[Check], facts: Facts) -> list[Check]:
    """Return the checks whose needs the device meets."""
    return [check for check in checks if not check.missing(facts)]


def default_minutes(checks: Sequence[Check], facts: Facts) -> float:
    """Return the default of --minutes: long enough for cards of half a V100's speed."""
    return max(LEAST_MINUTES, TIME_FACTOR * expected_seconds(runnable(checks, facts)) / 60)


class Screen:
    """Prints a line for each result, and on a terminal also a line about the running check, which is overwritten."""

    def __init__(self, checks: Sequence[Check], stream: TextIO, context: Context) -> None:
        self.checks, self.stream, self.context = list(checks), stream, context
        self.width = max((len(check.name) for check in checks), default=0)
        self.done: set[str] = set()
        self.group = ""
        self.terminal = stream.isatty()

    def print_result(self, check: Check, result: Result) -> None:
        self.clear_line()
        if check.group != self.group:
            self.group = check.group
            print(next(group.title for group in GROUPS if group.name == check.group), file=self.stream)
        self.done.add(result.name)
        row = f"  {check.name:{self.width}}  {result.status:7}  {result.seconds:6.1f} s  {result.detail}"
        print(row, file=self.stream, flush=True)

    def print_running(self, check: Check) -> None:
        if not self.terminal:
            return
        left = expected_seconds([one for one in self.checks if one.name not in self.done], self.context)
        line = f"  [{len(self.done) + 1}/{len(self.checks)}] {check.name}, about {left / 60:.0f} min left on one GPU"
        self.clear_line()
        print(line[: shutil.get_terminal_size().columns - 1], end="", file=self.stream, flush=True)

    def clear_line(self) -> None:
        if self.terminal:
            print("\r\x1b[K", end="", file=self.stream)


def closing_lines(report: Report, failed: Sequence[Result]) -> str:
    """Return the last lines of a run: the summary, the failures with advice, and what the files are for."""
    lines = ["", summary_line(report.content(True))]
    for result in failed:
        lines += [f"  FAILED {result.name}: {result.detail}", f"    {report.checks[result.name].advice}"]
    lines += [
        "",
        f"{report.folder}/report.md    to read, and to attach to an issue",
        f"{report.folder}/report.json  with all figures",
    ]
    if failed:
        lines.append(f"{report.folder}/logs         with the output of the checks")
    return "\n".join(lines)
