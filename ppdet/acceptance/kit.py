"""A run of the kit, from the command line's options to the exit code."""

import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from ppdet.acceptance.check_registry import GROUPS, Check, CheckError, expected_seconds, select
from ppdet.acceptance.context import Context
from ppdet.acceptance.facts import Facts
from ppdet.acceptance.outcomes import FAIL, Result
from ppdet.acceptance.report_files import Report
from ppdet.acceptance.runner import Run, ask_for_facts
from ppdet.acceptance.wording import environment_line, kind_line, summary_line
from ppdet.core.extensions import import_extensions, imported
from ppdet.utils.disk.lock import locked

CPU_FACTOR = 10.0  # of the checks' limits, which are for a GPU and a machine that does nothing else
LEAST_MINUTES = 10.0  # that a run may take
ROOM = 1.5  # times the expected seconds of all checks


def run_kit(
    device: str,
    only: Sequence[str],
    output: Path,
    *,
    quick: bool = False,
    minutes: float | None = None,
    imports: Sequence[str] = (),
    command: str = "",
    seed: int = 0,
    stream: TextIO = sys.stdout,
) -> int:
    """Run the checks that `only` selects, print a table, and write the report to `output`.

    Args:
        device: type of device, or auto. quick: fewer steps and smaller inputs; always on a CPU.
        minutes: after which what is left is not run, which counts as failed; None: see `minutes_for`.
        imports: Python files and modules that every process imports first.
        command: that was typed, for the report.

    Returns:
        the exit code: 0, or 1 where a check failed.

    Raises:
        CheckError: there is no such check or device, or `output` cannot be written.
        LockedError: another run writes there. OSError: the report cannot be written.
    """
    start = time.time()
    require_type(device)
    import_extensions(imports)
    imports = imported()
    checks = select(only)
    output = writable(output)
    advice = "wait for it, or give another folder by --output"
    with locked(output / "kit.lock", what=f"{output}: a run of the kit", advice=advice):
        work = output / "work"
        shutil.rmtree(work, ignore_errors=True)
        facts = ask_for_facts(device, imports, work)
        quick = quick or facts.device == "cpu"
        minutes = minutes or minutes_for(checks, facts)
        context = Context(facts=facts, quick=quick, work=work, deadline=start + 60 * minutes, seed=seed)
        report = Report(output, facts, checks, command=command, quick=quick)
        expected = expected_seconds(runnable(checks, facts)) / 60
        print(f"{environment_line(report.head)}\n{kind_line(report.head)}", file=stream)
        print(
            f"{len(checks)} checks, about {expected:.0f} minutes on one GPU such as a V100; ends after {minutes:.0f} "
            f"(--minutes); results in {output}\n",
            file=stream,
            flush=True,
        )
        return run_checks(checks, context, report, imports=imports, stream=stream)


def run_checks(
    checks: Sequence[Check], context: Context, report: Report, *, imports: Sequence[str], stream: TextIO
) -> int:
    """Run them, and say what came out; see `run_kit`."""
    screen = Screen(checks, stream, context)

    def on_result(check: Check, result: Result) -> None:
        report.add(result)
        screen.result(check, result)

    Run(
        checks,
        context,
        imports=imports,
        logs=report.folder / "logs",
        limit_factor=CPU_FACTOR if context.facts.device == "cpu" else 1.0,
        on_result=on_result,
        on_progress=screen.progress,
    ).run()
    report.finish()
    failed = [result for result in report.results if result.status == FAIL]
    if not failed:
        shutil.rmtree(context.work, ignore_errors=True)
    print(closing(report, failed, report.folder), file=stream, flush=True)
    return 1 if failed else 0


def require_type(device: str) -> None:
    """Raise CheckError where this cannot be a type of device: it has a number, or is empty."""
    kind, colon, number = device.partition(":")
    if kind and not colon:
        return
    hint = f"; CUDA_VISIBLE_DEVICES={number or 0} in front of the command chooses the card" if kind == "gpu" else ""
    raise CheckError(f"--device {device!r}: expected a type such as gpu, xpu or cpu, without a number{hint}")


def writable(folder: Path) -> Path:
    """The folder of the report, which is made.

    Raises:
        CheckError: it cannot be made, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder.resolve()
    except OSError as error:
        reason = error.strerror or error
        raise CheckError(f"--output {folder}: expected a folder that can be written: {reason}") from None


def runnable(checks: Sequence[Check], facts: Facts) -> list[Check]:
    return [check for check in checks if not check.missing(facts)]


def minutes_for(checks: Sequence[Check], facts: Facts) -> float:
    """After which a run of these checks is over: ten, or half more than the checks that this device can run should
    take, so that a card of half a V100's speed is through as well, and two cards with theirs."""
    return max(LEAST_MINUTES, ROOM * expected_seconds(runnable(checks, facts)) / 60)


class Screen:
    """What the user sees meanwhile: a line for each result, and on a terminal what runs now."""

    def __init__(self, checks: Sequence[Check], stream: TextIO, context: Context) -> None:
        self.checks, self.stream, self.context = list(checks), stream, context
        self.width = max((len(check.name) for check in checks), default=0)
        self.done: set[str] = set()
        self.group = ""
        self.terminal = stream.isatty()

    def result(self, check: Check, result: Result) -> None:
        self.clear()
        if check.group != self.group:
            self.group = check.group
            print(next(group.title for group in GROUPS if group.name == check.group), file=self.stream)
        self.done.add(result.name)
        row = f"  {check.name:{self.width}}  {result.status:7}  {result.seconds:6.1f} s  {result.detail}"
        print(row, file=self.stream, flush=True)

    def progress(self, check: Check, text: str) -> None:
        if not self.terminal:
            return
        left = expected_seconds([one for one in self.checks if one.name not in self.done], self.context)
        where = f"{check.name}{': ' if text else ''}{text}"
        line = f"  [{len(self.done) + 1}/{len(self.checks)}] {where}, about {left / 60:.0f} min left on one GPU"
        width = shutil.get_terminal_size().columns
        self.clear()
        print(line[: width - 1], end="", file=self.stream, flush=True)

    def clear(self) -> None:
        if self.terminal:
            print("\r\x1b[K", end="", file=self.stream)


def closing(report: Report, failed: Sequence[Result], output: Path) -> str:
    """What the user is told at the end: how it went, and what to do with the files."""
    lines = ["", summary_line(report.content(True))]
    for result in failed:
        lines += [f"  FAILED {result.name}: {result.detail}", f"    {report.checks[result.name].advice}"]
    lines += ["", f"{output}/report.html  to look at, and to attach to an issue"]
    lines += [f"{output}/report.md    the same as text, to paste into one", f"{output}/report.json  with every figure"]
    if failed:
        lines += [f"{output}/logs         what the checks printed"]
    return "\n".join(lines)
