"""Runs cases in processes that may be killed: by their own limits, or by this process when they take too long."""

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from fuzz.sandbox import FAILED, LOG, Limits, Outcome

START_S = 120  # until a process has loaded the libraries
# As a rule a library that is loaded before a process forks need not be loaded by each of them.
PRELOADED = ["fuzz.kinds", "fuzz.sandbox"]


class Job(NamedTuple):
    """One case: a function of these three."""

    kind: str
    seed: int
    number: int


class Finished(NamedTuple):
    """A case and what happened; `made` says how the case was made, "" if its process died."""

    job: Job
    subject: str
    made: str
    outcome: Outcome


def work(connection: Connection, folder: Path, limits: Limits, module: str) -> None:
    """Run the cases that come through a connection until None comes; the work of a process."""
    import traceback
    from importlib import import_module

    from fuzz.draw import Draw
    from fuzz.sandbox import Sandbox

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    descriptor = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 2)
    kinds = import_module(module).KINDS
    sandbox = Sandbox(folder, limits)
    ready: set[str] = set()
    connection.send("ready")
    while (job := connection.recv()) is not None:
        kind = kinds[job.kind]
        if job.kind not in ready:
            (folder / job.kind).mkdir(exist_ok=True)
            kind.prepare(folder / job.kind)
            ready.add(job.kind)
        try:
            case = kind.build(Draw(*job))
        except Exception:
            connection.send(("broken", str(job), traceback.format_exc()))
            continue
        connection.send(("begins", case.subject, case.made))
        connection.send(sandbox.run(kind, case))
    for name in ready:
        kinds[name].close()
    connection.close()


class Worker:
    """A process, the case that it is running, and when it must have finished."""

    def __init__(self, context: Any, folder: Path, limits: Limits, module: str) -> None:
        self.limits = limits
        self.folder = Path(tempfile.mkdtemp(dir=folder, prefix="worker-"))
        self.connection, other = context.Pipe()
        self.process = context.Process(target=work, args=(other, self.folder, limits, module), daemon=False)
        self.process.start()
        other.close()
        self.job: Job | None = None
        self.subject = self.made = ""
        self.is_ready = False
        self.deadline = time.monotonic() + START_S

    def start(self, job: Job) -> None:
        self.job, self.subject, self.made = job, "", ""
        self.deadline = time.monotonic() + START_S  # until it says that the case begins
        self.connection.send(job)

    def hear(self) -> Outcome | None:
        """Take what the process says; return the outcome of its case once it is known."""
        try:
            message = self.connection.recv()
        except (EOFError, ConnectionResetError):
            return self.death()
        if message == "ready":
            self.is_ready = True
        elif isinstance(message, tuple) and not isinstance(message, Outcome):
            what, self.subject, self.made = message
            if what == "broken":
                raise RuntimeError(f"{self.subject} cannot be made: {self.made}")
            self.deadline = time.monotonic() + self.limits.wall_s
        else:
            return Outcome(*message)
        return None

    def death(self) -> Outcome:
        """Why the process has ended, as the outcome of its case."""
        self.process.join()
        code = self.process.exitcode or 0
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        reasons = {
            "SIGPROF": f"more than {self.limits.processor_s:g} s of processor time",
            "SIGKILL": f"not finished within {self.limits.wall_s:g} s, or the system killed it",
        }
        log = (self.folder / LOG).read_text(errors="replace").strip().splitlines()[-15:]
        finding = f"the process ended: {reasons.get(name, name)}"
        return Outcome(FAILED, "", [finding], "\n".join(log), 0.0, 0)

    def end(self) -> None:
        """Let the process end, and remove its folder."""
        if self.process.is_alive():
            try:
                self.connection.send(None)
                self.process.join(10)
            except OSError:
                pass
            if self.process.is_alive():
                self.process.kill()
        self.process.join()
        self.connection.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def run_all(
    jobs: Iterable[Job], *, processes: int, limits: Limits, folder: Path, module: str = "fuzz.kinds"
) -> Iterator[Finished]:
    """Run cases and yield them as they finish.

    Args:
        processes: cases that run at the same time.
        limits: of each case.
        folder: for the files of the cases; it is left empty.
        module: where the dictionary KINDS is.
    """
    context: Any = multiprocessing.get_context("forkserver" if sys.platform != "win32" else "spawn")
    if sys.platform != "win32":
        context.set_forkserver_preload([*PRELOADED, module])
    waiting = iter(jobs)
    workers = [Worker(context, folder, limits, module) for _ in range(processes)]
    try:
        idle = set(workers)
        is_empty = False
        while True:
            for worker in list(idle):
                if worker.is_ready and not is_empty:
                    job = next(waiting, None)
                    is_empty = job is None
                    if job is not None:
                        worker.start(job)
                        idle.remove(worker)
            if is_empty and len(idle) == len(workers):
                return
            heard = wait([worker.connection for worker in workers], 0.5)
            for worker in list(workers):
                if worker.connection in heard:
                    job, outcome = worker.job, worker.hear()
                elif time.monotonic() > worker.deadline and (worker.job or not worker.is_ready):
                    worker.process.kill()
                    job, outcome = worker.job, worker.death()
                else:
                    continue
                if outcome is None:
                    continue
                if job is None:
                    raise RuntimeError(f"a process of the harness cannot start: {outcome.findings} {outcome.trace}")
                finished = Finished(job, worker.subject, worker.made, outcome)
                worker.job = None
                if not worker.process.is_alive() or "MemoryError" in outcome.trace:
                    workers.remove(worker)
                    worker.end()
                    worker = Worker(context, folder, limits, module)
                    workers.append(worker)
                idle.add(worker)
                yield finished
    finally:
        for worker in workers:
            worker.end()
