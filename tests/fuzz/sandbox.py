"""Runs one case in this process, in a folder of its own, with limits, and judges what happened.

Allowed are success, and one line with exit code 2 as commands print it, which names the file. Everything else is a
finding: another exception, a warning of Python, control characters in what was printed or logged, much memory or
processor time, a file that was written elsewhere, a process or connection that was opened, and code that ran.
"""

import contextlib
import errno
import io
import logging
import os
import re
import shutil
import signal
import sys
import time
import traceback
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fuzz.case import Case, Declined, Kind, Link, write_files
from ppdet.core.command_line import one_line_errors

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

LOG = "libraries.log"  # what libraries write to the descriptor 2, past Python
CANARY = "canary"  # a file of this name appears when a case has made code run
QUIET = (DeprecationWarning, PendingDeprecationWarning, ResourceWarning, ImportWarning)
# Characters that change what a terminal shows: control characters, and those that turn the direction of text.
HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# Address space that a case may add: much, since threads reserve it, but less than the 2**30 pixels that OpenCV decodes.
SPACE = 3 * 2**30 - 2**24
# How Python, OpenCV and C++ say that there is no memory.
NO_MEMORY = re.compile(r"MemoryError|OutOfMemory|Insufficient memory|Failed to allocate|bad_alloc")
LONGEST_LINE = 1100  # characters: an error has 1,000 at most, and its name in front
READ, REFUSED, FAILED = "accepted", "refused", "failed"


class Limits(NamedTuple):
    """Limits of one case: seconds of processor time, and seconds on the clock until the process is killed."""

    processor_s: float = 10.0
    wall_s: float = 60.0


class Outcome(NamedTuple):
    """What happened to a case.

    Attributes:
        result: "accepted", "refused" or "failed".
        line: the line that a command would have printed, or the words of the subject.
        findings: what must not happen, in one line each.
        trace: the traceback of an unexpected exception; "" if there was none.
        processor_s: processor time. memory: bytes that the process grew by, at most.
    """

    result: str
    line: str
    findings: list[str]
    trace: str
    processor_s: float
    memory: int


class Watch:
    """Notes what the interpreter is asked to do outside of the allowed folders, while a case is running."""

    CHANGES = {
        *["os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod"],
        *["os.chown", "os.utime", "shutil.rmtree", "shutil.move"],
    }
    PROCESSES = {"os.system", "os.exec", "os.posix_spawn", "os.startfile", "os.fork", "os.kill", "subprocess.Popen"}
    CONNECTIONS = {"socket.connect", "socket.bind", "socket.sendto", "urllib.Request", "socket.getaddrinfo"}

    def __init__(self) -> None:
        self.allowed: list[str] | None = None
        self.network = "none"
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple) -> None:
        if self.allowed is None or not (
            event == "open" or event.startswith(("os.", "shutil.", "socket.", "subp", "url"))
        ):
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
                return
            self._require_inside(f"{path!r} is opened for writing", path)
        elif event in self.CHANGES:
            self._require_inside(f"{event} of {arguments[0]!r}", arguments[0])
        elif event in self.PROCESSES and self.network != "allowed":  # a case may start the server again
            self.seen.append(f"{event} is called with {arguments!r:.200}")
        elif event in self.CONNECTIONS and self.network != "allowed":
            if event == "socket.connect" and isinstance(arguments[1], (str, bytes)):
                return  # a socket of this machine
            if self.network == "none":
                self.seen.append(f"{event} is called with {arguments[1:]!r:.200}")
            raise OSError(errno.ENETUNREACH, "Network is unreachable")

    def _require_inside(self, what: str, path: Any) -> None:
        if self.allowed is None or isinstance(path, int):
            return
        try:
            real = os.path.abspath(os.fsdecode(path))
        except (TypeError, ValueError):
            return
        if real != os.devnull and not (real + os.sep).startswith(tuple(self.allowed)):
            self.seen.append(what)


class Sandbox:
    """Runs cases in the folder `folder`/case, one after another."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.case_folder, self.home, self.limits = folder / "case", folder / "home", limits
        self.log = folder / LOG
        for path in (self.case_folder, self.home):
            path.mkdir(parents=True, exist_ok=True)
        os.environ.update(HOME=str(self.home), XDG_CACHE_HOME=str(self.home), TMPDIR=str(self.home))
        sys.dont_write_bytecode = True
        self.watch = Watch()

    def run(self, kind: Kind, case: Case) -> Outcome:
        """Write the files of a case, do what it says with them, and judge."""
        shutil.rmtree(self.case_folder, ignore_errors=True)
        self.case_folder.mkdir()
        os.chdir(self.case_folder)
        write_files(case, self.case_folder)
        self.watch.seen.clear()
        self.watch.network = kind.network
        limit_s = min(self.limits.processor_s, kind.processor_s)
        printed = Printed()
        logged = self.log.stat().st_size if self.log.exists() else 0
        before, start = reset_peak(), time.process_time()
        with limited(limit_s), printed.captured() as warned:
            self.watch.allowed = [str(self.case_folder) + os.sep, str(self.home) + os.sep]
            if kind.network == "allowed":  # the log of a server that is started again
                self.watch.allowed.append(f"{self.case_folder.parent}{os.sep}requests{os.sep}")
            try:
                result, line, trace = self._attempt(kind, case, printed)
            finally:
                self.watch.allowed = None
        processor_s, memory = time.process_time() - start, max(0, peak() - before)
        findings = [*self.watch.seen, *printed.findings(), *(f"Python warns: {text}" for text in warned)]
        findings += self._faults_of_log(logged)
        if trace:
            findings.append(trace.strip().splitlines()[-1])
        if (self.case_folder / CANARY).exists():
            findings.append("code from the file was executed")
        if result == REFUSED and line.startswith("error: "):
            findings += faults_of_line(line, case)
        if processor_s > limit_s:
            findings.append(f"{processor_s:.1f} s of processor time")
        if memory > kind.memory:
            findings.append(f"{memory / 2**20:.0f} MiB of memory for files of {size_of(case)} bytes")
        place = f"{self.case_folder}{os.sep}"
        findings = [text.replace(place, "") for text in findings]
        return Outcome(FAILED if findings else result, line.replace(place, ""), findings, trace, processor_s, memory)

    def _faults_of_log(self, start: int) -> list[str]:
        """What is wrong with what libraries have written past Python, after the first `start` bytes of their log."""
        if not self.log.exists():
            return []
        with self.log.open("rb") as file:
            file.seek(start)
            text = file.read().decode("utf-8", "replace")
        faults = faults_of_text("the log of libraries", text)
        memory = NO_MEMORY.search(text)
        return faults + ([f"memory ran out: {text[memory.start() :]:.200}"] if memory else [])

    def _attempt(self, kind: Kind, case: Case, printed: "Printed") -> tuple[str, str, str]:
        """Do what the case says, as a command would; return the result, its line, and a traceback."""
        try:
            with one_line_errors():
                words = kind.subjects[case.subject](case)
        except SystemExit as exit:
            line = printed.error.text().strip().splitlines()[-1:] or [""]
            if exit.code != 2 or not line[0].startswith("error: "):
                return FAILED, line[0], f"exit code {exit.code}, and the last line is {line[0]!r}"
            reason: BaseException | None = exit
            while reason := reason.__cause__ or reason.__context__:
                if isinstance(reason, MemoryError) or NO_MEMORY.search(str(reason)):
                    return FAILED, line[0], f"memory ran out: {reason!r:.300}".replace("\n", " ")
            return REFUSED, line[0], ""
        except BaseException:
            return FAILED, "", traceback.format_exc()
        return REFUSED if isinstance(words, Declined) else READ, str(words or ""), ""


def faults_of_text(name: str, text: str) -> list[str]:
    """A finding if the text has characters that change what a terminal shows."""
    harmful = HARMFUL.search(text)
    if harmful is None:
        return []
    around = text[max(0, harmful.start() - 60) : harmful.end() + 20]
    return [f"{name} has {unicodedata.name(harmful[0], ascii(harmful[0]))}: {around!a}"]


def faults_of_line(line: str, case: Case) -> list[str]:
    """What is wrong with the line of a refusal."""
    names = case.arguments.get("named") or [name for name in case.files if not HARMFUL.search(name)]
    # Messages about configurations name what a link leads to.
    links = [os.path.realpath(name) for name, content in case.files.items() if isinstance(content, Link)]
    names = [*names, *links, *map(os.path.relpath, links)]
    parts = {part for name in names for part in (name, Path(name).name)}
    faults = [] if any(part in line for part in parts) or not parts else [f"the line names no file: {line:.200}"]
    if NO_MEMORY.search(line):
        faults.append(f"memory ran out: {line:.200}")
    if len(line) > LONGEST_LINE:
        faults.append(f"the line has {len(line)} characters: {line:.80}")
    return faults


class Stream(io.TextIOWrapper):
    """A text stream as standard output is, which keeps what is written."""

    def __init__(self, errors: str) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", errors=errors, write_through=True)

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode("utf-8", "surrogateescape")  # type: ignore[attr-defined]


class Printed:
    """Standard output, standard error (with the log), and what is written to the descriptor 2 past Python."""

    def __init__(self) -> None:
        self.output, self.error = Stream("strict"), Stream("backslashreplace")

    @contextlib.contextmanager
    def captured(self) -> Iterator[list[str]]:
        """Capture everything in the block; the list gets Python's warnings."""
        texts: list[str] = []
        logging.raiseExceptions = True
        with (
            warnings.catch_warnings(record=True) as found,
            contextlib.redirect_stdout(self.output),
            contextlib.redirect_stderr(self.error),
        ):
            yield texts
        texts += [f"{one.category.__name__}: {one.message}" for one in found if not issubclass(one.category, QUIET)]

    def findings(self) -> list[str]:
        found = []
        for name, stream in (("output", self.output), ("error", self.error)):
            text = stream.text()
            found += faults_of_text(f"standard {name}", text)
            if "Traceback (most recent call last)" in text:
                found.append(f"a traceback is printed: {text.strip().splitlines()[-1]:.200}")
        return found


@contextlib.contextmanager
def limited(processor_s: float) -> Iterator[None]:
    """Let the block use at most so much processor time, or the process ends by SIGPROF, and address space."""
    if resource is None:
        yield
        return
    space = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux":
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + SPACE, space[1]))
    # What is over the limit by less is reported by itself, with its figure.
    signal.setitimer(signal.ITIMER_PROF, 1.2 * processor_s + 0.1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, space)


def reset_peak() -> int:
    """Begin to measure the largest memory of this process anew where the system can; return the memory of now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return peak()


def peak() -> int:
    """The largest memory in bytes since `reset_peak`, or else since the process began; 0 if it is unknown."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
        if found:
            return int(found[1]) * 1024
    if resource is None:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def size_of(case: Case) -> int:
    """Bytes in all files of a case."""
    return sum(len(content) for content in case.files.values() if isinstance(content, bytes))
