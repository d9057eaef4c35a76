"""A run of the kit, from the command line's options to the exit code."""

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from ppdet.acceptance.context import ROOT, Context
from ppdet.acceptance.registry import GROUPS, Check, CheckError, import_file, select
from ppdet.acceptance.report import Report
from ppdet.acceptance.results import FAIL, Result
from ppdet.acceptance.runner import Run, ask_for_facts
from ppdet.acceptance.text import environment_line, summary_line

CPU_FACTOR = 10.0  # of the checks' limits, which are for a GPU and a machine that does nothing else


def run_kit(
    device: str,
    only: Sequence[str],
    output: Path,
    *,
    quick: bool = False,
    minutes: float = 10.0,
    imports: Sequence[str] = (),
    command: str = "",
    seed: int = 0,
    stream: TextIO = sys.stdout,
) -> int:
    """Run the checks that `only` selects, print a table, and write the report to `output`.

    Args:
        device: type of device, or auto. quick: fewer steps and smaller inputs; always on a CPU.
        minutes: after which what is left is not run, which counts as failed.
        imports: Python files that every process runs first.
        command: that was typed, for the report.

    Returns:
        the exit code: 0, or 1 where a check failed.

    Raises:
        CheckError: there is no such check or device, or this is no checkout. OSError: the report cannot be written.
    """
    if not (ROOT / "configs").is_dir():
        raise CheckError(f"{ROOT} has no configs: the kit runs in a checkout, not from an installed package")
    deadline = time.time() + minutes * 60
    imports = [str(Path(file).resolve()) for file in imports]
    for file in imports:
        import_file(file)
    checks = select(only)
    output, work = output.resolve(), output.resolve() / "work"
    shutil.rmtree(work, ignore_errors=True)
    facts = ask_for_facts(device, imports, work)
    quick = quick or facts.device == "cpu"
    report = Report(output, facts, checks, command=command, quick=quick)
    screen = Screen(checks, stream)
    print(f"{environment_line(report.head)}\n{len(checks)} checks, results in {output}\n", file=stream, flush=True)

    def on_result(check: Check, result: Result) -> None:
        report.add(result)
        screen.result(check, result)

    context = Context(facts=facts, quick=quick, work=work, deadline=deadline, seed=seed)
    factor = CPU_FACTOR if facts.device == "cpu" else 1.0
    Run(
        checks,
        context,
        imports=imports,
        logs=output / "logs",
        limit_factor=factor,
        on_result=on_result,
        on_progress=screen.progress,
    ).run()
    report.finish()
    failed = [result for result in report.results if result.status == FAIL]
    if not failed:
        shutil.rmtree(work, ignore_errors=True)
    print(closing(report, failed, output), file=stream, flush=True)
    return 1 if failed else 0


class Screen:
    """What the user sees meanwhile: a line for each result, and on a terminal what runs now."""

    def __init__(self, checks: Sequence[Check], stream: TextIO) -> None:
        self.checks, self.stream = list(checks), stream
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
        left = sum(one.seconds for one in self.checks if one.name not in self.done)
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
