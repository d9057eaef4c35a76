"""Runs checks in processes of their own, so that a crash or a hang of one check leaves the others unharmed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ppdet.acceptance.check_registry import GROUPS, Check, CheckError, Group
from ppdet.acceptance.context import ROOT, Context
from ppdet.acceptance.device_facts import Facts
from ppdet.acceptance.outcomes import FAIL, SKIPPED, Result
from ppdet.utils.process.stop import signal_name

# The process imports this package, and nothing from the working directory.
START = "import sys; sys.path[0] = {root!r}; from ppdet.acceptance.check_process import main; sys.exit(main())"
LOADING = 300.0  # seconds in which a process has to import paddle and initialise its device
GRACE = 5.0  # seconds after a check's time limit in which its process writes its stack to the log
POLL = 0.05  # seconds between two looks at a process
LOG_LINES = 60  # lines of a failed check's output in the report


class Process:
    """A process that runs `check_process`, in a session of its own.

    Args:
        spec: content of SPEC, see `check_process`; this class adds "events" and "parent".
        folder: folder for SPEC and the events.
        log: file to which the output is appended.
        environment: further environment variables.
    """

    def __init__(self, spec: dict[str, Any], folder: Path, log: Path, environment: dict[str, str]) -> None:
        for parent in (folder, log.parent):
            parent.mkdir(parents=True, exist_ok=True)
        self.log, self.events = log, folder / "events.jsonl"
        self.events.write_text("")
        path = folder / "spec.json"
        path.write_text(json.dumps({**spec, "events": str(self.events), "parent": os.getpid()}), encoding="utf-8")
        python_path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        with open(log, "ab") as stream:
            self.process = subprocess.Popen(  # nosec B603  # this Python, with our own module and a file of the kit
                [sys.executable, "-c", START.format(root=str(ROOT)), str(path)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment, "PYTHONPATH": python_path},
                start_new_session=True,
            )

    def read_events(self) -> Iterator[dict[str, Any]]:
        """Yield events as they come, and {} whenever there is no new one, until the process has ended."""
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
        """Kill the process and, except on Windows, all processes that it started."""
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()
        self.process.wait()

    def log_size(self) -> int:
        return self.log.stat().st_size

    def log_since(self, start: int) -> str:
        """Return the last lines of the log after byte number `start`."""
        with open(self.log, "rb") as stream:
            stream.seek(start)
            lines = stream.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-LOG_LINES:])


def ask_for_facts(device: str, imports: Sequence[str], folder: Path) -> Facts:
    """Return the facts about a device that `find_facts` finds in a process of its own.

    Raises:
        CheckError: there is no such device, or the process ended without an answer.
    """
    log = folder / "facts.log"
    process = Process({"device": device, "imports": list(imports)}, folder, log, {})
    try:
        for event in process.read_events():
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
    """A run of the kit: runs checks group by group, and reports each result.

    Args:
        imports: Python files and modules that every process imports first.
        logs: folder for the output of the processes.
        limit_factor: factor of each check's time limit.
        on_result: called with each result.
        on_start: called with each check when it starts.
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
        on_start: Callable[[Check], None] = lambda check: None,
    ) -> None:
        self.checks, self.context = list(checks), context
        self.imports, self.logs = list(imports), logs
        self.limit_factor = limit_factor
        self.on_result, self.on_start = on_result, on_start

    def run(self) -> None:
        """Run all checks."""
        for group in GROUPS:
            todo = []
            for check in (one for one in self.checks if one.group == group.name):
                if reason := check.missing(self.context.facts):
                    self.on_result(check, Result(check.name, SKIPPED, reason))
                else:
                    todo.append(check)
            while todo:
                todo = self.run_process(group, todo)

    def run_process(self, group: Group, todo: list[Check]) -> list[Check]:
        """Run checks of a group in one process until it ends. Returns the remaining checks, at least one fewer."""
        if self.context.seconds_left() <= 0:
            result = Result(todo[0].name, FAIL, "not run: the time of the run was over; --minutes gives more")
            self.on_result(todo[0], result)
            return todo[1:]
        spec = {
            "context": self.context.to_json(),
            "checks": [check.name for check in todo],
            "limit_factor": self.limit_factor,
            "imports": self.imports,
        }
        log = self.logs / f"{group.name}.log"
        process = Process(spec, self.context.work / "process", log, dict(group.environment))
        try:
            return self.watch(process, todo)
        finally:
            process.kill()

    def watch(self, process: Process, todo: list[Check]) -> list[Check]:
        """Report the results of a process. If it dies or hangs, the current check has failed.

        Returns:
            The checks without a result.
        """
        left = list(todo)
        started = time.monotonic()
        log_start, running, limit = process.log_size(), False, LOADING
        for event in process.read_events():
            if "start" in event:
                started, running, log_start, limit = time.monotonic(), True, event["log"], event["limit"]
                self.on_start(left[0])
            elif "result" in event:
                result = Result(**event["result"])
                log = process.log_since(log_start) if result.status == FAIL else None
                self.on_result(left.pop(0), replace(result, log=log))
                started, running, limit = time.monotonic(), False, LOADING
            if not left:
                return left
            seconds = time.monotonic() - started
            if self.context.seconds_left() <= 0 and seconds > 1:
                reason = "the time of the whole run was over; --minutes gives more"
            elif seconds > limit + GRACE:
                reason = f"it hangs or is far too slow, its time limit is {limit:.0f} s"
            else:
                continue
            process.kill()
            return self.fail_first(left, f"stopped after {seconds:.0f} s: {reason}", seconds, process, log_start)
        if not running and len(left) < len(todo):
            return left  # the process ended itself after an unexpected exception; the rest needs a new one
        ending = how_it_ended(process.process.wait())
        return self.fail_first(left, f"the process {ending}", time.monotonic() - started, process, log_start)

    def fail_first(
        self, left: list[Check], detail: str, seconds: float, process: Process, log_start: int
    ) -> list[Check]:
        """Report that the first of the remaining checks has failed, and return the others."""
        result = Result(left[0].name, FAIL, detail, seconds=seconds, log=process.log_since(log_start))
        self.on_result(left[0], result)
        return left[1:]


def how_it_ended(code: int) -> str:
    """Return an exit code in words, such as "was killed by SIGSEGV" or "ended with exit code 1"."""
    if code < 0:
        name = signal_name(-code)
        hint = ", perhaps because memory ran out" if name == "SIGKILL" else ""
        return f"was killed by {name}{hint}"
    return f"ended with exit code {code}"
