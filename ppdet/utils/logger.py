"""One log for all of ppdet: `[time] [level] message` on standard error."""

import contextlib
import logging
import os
import sys
from collections import deque
from pathlib import Path

ROOT_NAME = "ppdet"
REMEMBERED = 1000  # lines, for a file that is opened later


def get_logger(name: str = ROOT_NAME) -> logging.Logger:
    """Return the logger `name`, a child of the `ppdet` logger, which is set up on the first call.

    In a distributed run (environment variable PADDLE_TRAINER_ID) only rank 0 shows messages below
    WARNING; the other ranks' warnings and errors name their rank.
    """
    _set_up_root()
    if name != ROOT_NAME and not name.startswith(ROOT_NAME + "."):
        name = f"{ROOT_NAME}.{name}"
    return logging.getLogger(name)


def get_rank() -> int:
    """Rank of this process as paddle.distributed.launch announces it, 0 when it did not start us."""
    value = os.environ.get("PADDLE_TRAINER_ID", "0")
    return int(value) if value.isdigit() else 0


def is_watched() -> bool:
    """Whether a person may be looking: standard error is a terminal, and this is rank 0."""
    return sys.stderr.isatty() and get_rank() == 0


class LogFile(logging.Handler):
    """Within the block a file gets what standard error gets: first the lines since the last such file, then all others.

    It is added to what is in the file, after `title`. A file that cannot be written, because the disk is full, say, is
    told of once; then lines are lost until it can.
    """

    def __init__(self, path: Path, title: str) -> None:
        super().__init__()
        self.path, self.title = path, title
        self.descriptor = -1
        self.failed = False
        self.setFormatter(_Formatter())
        self.addFilter(_shown_on_this_rank)

    def __enter__(self) -> "LogFile":
        memory = _set_up_root()
        _open_files.append(self)
        self.write(f"{'' if self.is_empty() else chr(10)}==== {self.title}")
        while memory.lines:
            self.write(memory.lines.popleft())
        logging.getLogger(ROOT_NAME).addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        _open_files.remove(self)
        logging.getLogger(ROOT_NAME).removeHandler(self)
        _set_up_root().lines.clear()
        self.close()
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def is_empty(self) -> bool:
        try:
            return self.path.stat().st_size == 0
        except OSError:
            return True

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
        else:
            self.write(line)

    def write(self, line: str) -> None:
        """Add a line to the file alone."""
        try:
            self.append(line)
        except OSError as error:
            if not self.failed:
                self.failed = True
                reason = error.strerror or error
                get_logger().error("%s could not be written: %s; lines are missing there", self.path, reason)
        else:
            self.failed = False

    def append(self, line: str) -> None:
        """As `write`, without a word to anybody when it fails.

        Raises:
            OSError: the line, or a part of it, is not in the file.
        """
        # A line that failed may have left its beginning.
        content = ("\n" * self.failed + line + "\n").encode("utf-8", "backslashreplace")
        if self.descriptor < 0:
            self.descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        # Not buffered: worker processes have the file as well, and what fails must not be tried at the end.
        if os.write(self.descriptor, content) < len(content):
            raise OSError("there is no room for a whole line")


_open_files: list[LogFile] = []


def write_last_line(error: str) -> None:
    """Write on standard error, and into the files that a `LogFile` has open, what ends this process.

    Not through logging, of which another thread may hold the locks for ever.
    """
    os.write(2, f"\nerror: {error}\n".encode("utf-8", "backslashreplace"))
    for file in list(_open_files):
        with contextlib.suppress(OSError):
            file.append(f"==== error: {error}")


def collect_records() -> list[logging.LogRecord]:
    """From now on this process writes no log: records are appended to the list returned, for another process to log."""
    _set_up_root()
    records: list[logging.LogRecord] = []
    root = logging.getLogger(ROOT_NAME)
    for handler in root.handlers:
        handler.addFilter(lambda record: False)
    collector = logging.Handler()
    collector.emit = records.append  # type: ignore[method-assign]
    root.addHandler(collector)
    return records


def _set_up_root() -> "_Memory":
    root = logging.getLogger(ROOT_NAME)
    memory = next((handler for handler in root.handlers if isinstance(handler, _Memory)), None)
    if memory is not None:
        return memory
    memory = _Memory()
    for handler in (memory, _StandardErrorHandler()):
        handler.setFormatter(_Formatter())
        handler.addFilter(_shown_on_this_rank)
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    # Importing paddle puts a handler on Python's root logger: without this every line comes twice.
    root.propagate = False
    return memory


def _shown_on_this_rank(record: logging.LogRecord) -> bool:
    # Python 3.9 to 3.12 take any callable as a filter.
    return record.levelno >= logging.WARNING or get_rank() == 0


class _Formatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("[%(asctime)s] [%(levelname)s] %(rank)s%(message)s", datefmt="%Y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        rank = get_rank()
        record.rank = f"[rank {rank}] " if rank > 0 else ""
        # Names of files need not be text; a stream could refuse what is left of their bytes.
        return super().format(record).encode("utf-8", "backslashreplace").decode()


class _Memory(logging.Handler):
    """Keeps the last lines, for a file that is opened later."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque = deque(maxlen=REMEMBERED)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.lines.append(self.format(record))
        except Exception:
            self.handleError(record)


class _StandardErrorHandler(logging.Handler):
    """Writes to whatever sys.stderr is at that moment, above a tqdm progress bar if one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write(self.format(record))
        except Exception:
            self.handleError(record)

    @staticmethod
    def _write(line: str) -> None:
        tqdm_module = sys.modules.get("tqdm")
        if tqdm_module is not None and hasattr(tqdm_module, "tqdm") and sys.stderr.isatty():
            tqdm_module.tqdm.write(line, file=sys.stderr)
        else:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
