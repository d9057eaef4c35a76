"""The log of ppdet: lines `[time] [level] message` on standard error, and in the file of a training run.

A message may have several lines; what is filled into it has one. So names with line breaks forge no lines of the log:
messages are `logger.info("image skipped: %s", path)`, and never f-strings. Addresses appear without passwords.
"""

import contextlib
import logging
import os
import sys
from collections import deque
from pathlib import Path
from typing import Any

from ppdet.utils.masking import masked
from ppdet.utils.printable import printable, printable_lines

ROOT_NAME = "ppdet"
REMEMBERED = 1000  # lines kept for a log file that is opened later
# A link may lead out of the run's folder, and a pipe would wait for a reader; Windows knows neither flag.
OPEN_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def get_logger(name: str = ROOT_NAME) -> logging.Logger:
    """Return the logger `name`, a child of the `ppdet` logger, which is set up on the first call.

    In a job of several ranks only rank 0 shows messages below WARNING. Warnings and errors of other ranks start with
    the number of the rank.
    """
    _set_up_root()
    if name != ROOT_NAME and not name.startswith(ROOT_NAME + "."):
        name = f"{ROOT_NAME}.{name}"
    return logging.getLogger(name)


def get_rank() -> int:
    """Return the rank of this process as paddle.distributed.launch sets it; 0 without the launcher."""
    value = os.environ.get("PADDLE_TRAINER_ID", "0")
    return int(value) if value.isdigit() else 0


def is_watched() -> bool:
    """Whether standard error is a terminal and this is rank 0, so that a progress bar makes sense."""
    return sys.stderr.isatty() and get_rank() == 0


class _LineHandler(logging.Handler):
    """Gives lines of the log, formatted and without those that this rank does not show, to `write`."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(_Formatter())
        self.addFilter(_shown_on_this_rank)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.write(self.format(record))
        except Exception:
            self.handleError(record)

    def write(self, line: str) -> None:
        raise NotImplementedError


class LogFile(_LineHandler):
    """Within the block, also appends the log's lines to a file, starting with those since the last such file closed.

    If the file cannot be written (a full disk), this is logged once, and lines are missing until it can be written.

    Args:
        path: path of the file.
        heading: line that is written first; it separates the lines of this process from earlier ones.
    """

    def __init__(self, path: Path, heading: str) -> None:
        super().__init__()
        self.path, self.heading = path, heading
        self.descriptor = -1
        self.failed = False

    def __enter__(self) -> "LogFile":
        memory = _set_up_root()
        _open_files.append(self)
        has_lines = self.path.is_file() and self.path.stat().st_size > 0
        self.write(f"{chr(10) * has_lines}==== {printable(self.heading)}")
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

    def write(self, line: str) -> None:
        """Append a line to the file only, and log once if that fails."""
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
        """Append a line to the file only.

        Raises:
            OSError: the line, or a part of it, is not in the file.
        """
        # A line that failed may have left its beginning, so the next one starts on a new line.
        content = ("\n" * self.failed + printable_lines(masked(line)) + "\n").encode()
        if self.descriptor < 0:
            self.descriptor = os.open(self.path, OPEN_FLAGS, 0o666)
        # Not buffered: worker processes write to the same file, and a failed write must not be repeated at exit.
        if os.write(self.descriptor, content) < len(content):
            raise OSError("there is no room for a whole line")


_open_files: list[LogFile] = []


def write_last_line(error: str) -> None:
    """Write the error that ends this process on standard error and into open log files.

    It does not go through logging, since another thread may hold its locks for ever.
    """
    error = printable(masked(error))
    os.write(2, f"\nerror: {error}\n".encode())
    for file in list(_open_files):
        with contextlib.suppress(OSError):
            file.append(f"==== error: {error}")


def collect_records() -> list[logging.LogRecord]:
    """From now on, append log records to the list that is returned, in place of writing them.

    Worker processes use it to send their records to the process that writes the log.
    """
    _set_up_root()
    records: list[logging.LogRecord] = []
    root = logging.getLogger(ROOT_NAME)
    for handler in root.handlers:
        handler.addFilter(lambda record: False)
    root.addHandler(_Collector(records))
    return records


def _set_up_root() -> "_Memory":
    root = logging.getLogger(ROOT_NAME)
    memory = next((handler for handler in root.handlers if isinstance(handler, _Memory)), None)
    if memory is not None:
        return memory
    memory = _Memory()
    root.addHandler(memory)
    root.addHandler(_StandardErrorHandler())
    root.setLevel(logging.INFO)
    # Importing paddle puts a handler on Python's root logger: without this every line comes twice.
    root.propagate = False
    return memory


def _shown_on_this_rank(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or get_rank() == 0


def message_of(record: logging.LogRecord) -> str:
    """Return the message of a log record with control characters escaped; only the message itself has line breaks."""
    if not record.args:
        return printable_lines(record.msg)
    is_mapping = isinstance(record.args, dict)
    args = {key: _filled(value) for key, value in record.args.items()} if isinstance(record.args, dict) else record.args
    return printable_lines(str(record.msg) % (args if is_mapping else tuple(map(_filled, record.args))))


def _filled(value: object) -> Any:
    """Return an argument of a log message: numbers as they are, since formats such as %.2f need them."""
    return value if hasattr(value, "__float__") else _Filled(value)


class _Filled:
    """An argument of a log message that `%s` and `%r` show in one line."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __str__(self) -> str:
        return printable(self.value)

    def __repr__(self) -> str:
        return printable(repr(self.value))


class _Formatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("[%(asctime)s] [%(levelname)s] %(rank)s%(message)s", datefmt="%Y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        rank = get_rank()
        record.rank = f"[rank {rank}] " if rank > 0 else ""
        record.message = message_of(record)
        record.asctime = self.formatTime(record, self.datefmt)
        lines = [self.formatMessage(record)]
        lines += [printable_lines(self.formatException(record.exc_info))] if record.exc_info else []
        return masked("\n".join(lines))


class _Collector(logging.Handler):
    """Appends records to a list."""

    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self.records = records

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class _Memory(_LineHandler):
    """Keeps the last lines for a log file that is opened later."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=REMEMBERED)

    def write(self, line: str) -> None:
        self.lines.append(line)


class _StandardErrorHandler(_LineHandler):
    """Writes to the current sys.stderr, above a tqdm progress bar if one is shown."""

    def write(self, line: str) -> None:
        if "tqdm" in sys.modules and sys.stderr.isatty():
            sys.modules["tqdm"].tqdm.write(line, file=sys.stderr)
        else:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
