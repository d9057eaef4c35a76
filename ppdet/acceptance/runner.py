"""Runs checks in processes of their own: what one does to its process or its device does not take the rest with it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ppdet.acceptance.check_registry import GROUPS, Check, CheckError, Group
from ppdet.acceptance.context import ROOT, Context
from ppdet.acceptance.facts import Facts
from ppdet.acceptance.outcomes import FAIL, SKIPPED, Result

LOADING = 300.0  # seconds that a process may take to load paddle and find its device
GRACE = 5.0  # seconds over a check's limit in which its process writes down where it is
POLL = 0.05
LOG_LINES = 60  # of a failed check's output, for the report


class Process:
    """A process of the kit, in a session of its own, so that its own processes end with it. It ends with this one.

    Args:
        spec: for `child`. folder: for the files that are exchanged. log: takes what it prints.
    """

    def __init__(self, spec: dict, folder: Path, log: Path, environment: dict) -> None:
        self.events = folder / "events.jsonl"
        self.events.write_text("")
        path = folder / "spec.json"
        path.write_text(json.dumps({**spec, "events": str(self.events), "parent": os.getpid()}))
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        python_path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        with open(log, "ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ppdet.acceptance.child", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment, "PYTHONPATH": python_path},
                start_new_session=True,
            )

    def read(self) -> Iterator[dict]:
        """What it says, as it comes, and {} whenever nothing does, until it has ended."""
        with open(self.events, encoding="utf-8") as stream:
            rest = ""
            while True:
                ended = self.process.poll() is not None
                rest += stream.read()
                *lines, rest = rest.split("\n")
                yield from (json.loads(line) for line in lines)
                if ended:
                    return
                yield {}
                time.sleep(POLL)

    def kill(self) -> None:
        """End it, and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def log_size(self) -> int:
        return self.log.stat().st_size

    def log_since(self, start: int) -> str:
        """The end of what it printed after that many bytes."""
        with open(self.log, "rb") as stream:
            stream.seek(start)
            lines = stream.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-LOG_LINES:])


def ask_for_facts(device: str, imports: Sequence[str], folder: Path) -> Facts:
    """What is known of the device, see `find_facts`.

    Raises:
        CheckError: there is no such device, or the process that asks for it ended.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "facts.log"
    process = Process({"device": device, "imports": list(imports)}, folder, log, {})
    try:
        for event in process.read():
            if "facts" in event:
                return Facts.from_json(event["facts"])
            if "error" in event:
                raise CheckError(event["error"])
    finally:
        process.kill()
    ending = how_it_ended(process.process.returncode)
    last = next((line for line in reversed(process.log_since(0).splitlines()) if line.strip()), "")
    raise CheckError(f"Paddle could not be asked for its devices: the process {ending}: {last}; its output is in {log}")


class Run:
    """All checks of a run.

    Args:
        imports: Python files and modules that every process imports first.
        logs: folder of what the processes print.
        limit_factor: of each check's limit.
        on_result, on_progress: are told of each result, and of what runs: the check and how far it is.
    """

    def __init__(
        self,
        checks: Sequence[Check],
        context: Context,
        *,
        imports: Sequence[str],
        logs: Path,
        limit_factor: float = 1.0,
        on_result: Callable[[Check, Result], None],
        on_progress: Callable[[Check, str], None] = lambda check, text: None,
    ) -> None:
        self.checks, self.context = list(checks), context
        self.imports, self.logs = list(imports), logs
        self.limit_factor = limit_factor
        self.on_result, self.on_progress = on_result, on_progress

    def run(self) -> None:
        """Run them group by group."""
        for group in GROUPS:
            todo = []
            for check in (one for one in self.checks if one.group == group.name):
                reason = check.missing(self.context.facts)
                if reason:
                    self.on_result(check, Result(check.name, SKIPPED, reason))
                else:
                    todo.append(check)
            while todo:
                todo = self.run_some(group, todo)

    def run_some(self, group: Group, todo: list[Check]) -> list[Check]:
        """Run checks in one process, as far as that goes; give those that are left, at least one less."""
        first = todo[0]
        if self.context.seconds_left() <= 0:
            self.on_result(first, Result(first.name, FAIL, "not run: the time was over; --minutes gives more"))
            return todo[1:]
        spec = {
            "context": self.context.to_json(),
            "checks": [check.name for check in todo],
            "limit_factor": self.limit_factor,
            "imports": self.imports,
        }
        folder = self.context.work / "process"
        folder.mkdir(parents=True, exist_ok=True)
        process = Process(spec, folder, self.logs / f"{group.name}.log", group.environment)
        try:
            return self.watch(process, todo)
        finally:
            process.kill()

    def watch(self, process: Process, todo: list[Check]) -> list[Check]:
        """Take a process's results; where it dies or hangs, that is the result of the check it was at."""
        left = list(todo)
        started = time.monotonic()
        log_start, running, limit = process.log_size(), False, LOADING
        self.on_progress(left[0], "starting")
        for event in process.read():
            if "start" in event:
                started, running, log_start, limit = time.monotonic(), True, event["log"], event["limit"]
                self.on_progress(left[0], "")
            elif "progress" in event:
                self.on_progress(left[0], event["progress"])
            elif "result" in event:
                result = Result.from_json(event["result"])
                log = process.log_since(log_start) if result.status == FAIL else None
                self.on_result(left.pop(0), Result(**{**result.__dict__, "log": log}))
                started, running, limit = time.monotonic(), False, LOADING
            if not left:
                break
            seconds = time.monotonic() - started
            out_of_time = self.context.seconds_left() <= 0 and seconds > 1
            if seconds > limit + GRACE or out_of_time:
                why = f"stopped after {seconds:.0f} s"
                why += ": the time of the whole run was over; --minutes gives more" if out_of_time else ""
                why += "" if out_of_time else f", it may take {limit:.0f}: it hangs, or is far too slow"
                return self.gave_up(process, left, why, seconds, log_start)
        if not running and len(left) < len(todo):
            return left  # an error ended it after a result; what is left, if anything, needs a new one
        ending = how_it_ended(process.process.wait())
        return self.gave_up(process, left, f"the process {ending}", time.monotonic() - started, log_start)

    def gave_up(self, process: Process, left: list[Check], why: str, seconds: float, log_start: int) -> list[Check]:
        process.kill()
        log = process.log_since(log_start)
        self.on_result(left[0], Result(left[0].name, FAIL, why, seconds=seconds, log=log))
        return left[1:]


def how_it_ended(code: int) -> str:
    """ "was killed by SIGSEGV", "ended with exit code 1"."""
    if code < 0:
        name = signal.Signals(-code).name
        hint = ", perhaps for lack of memory" if name == "SIGKILL" else ""
        return f"was killed by {name}{hint}"
    return f"ended with exit code {code}"
