"""Files that are either complete or absent, and text with or without a byte order mark."""

import codecs
import contextlib
import io
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ppdet.utils.logger import get_logger

try:
    import fcntl
except ImportError:  # Windows: there two processes must not write the same file at the same time
    fcntl = None

logger = get_logger(__name__)

# What editors on Windows write in front of a text. UTF-32's mark begins with that of UTF-16.
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
NULS = "has NUL characters, as UTF-16 without a byte order mark has: save it as UTF-8"  # of a text that was read


def read_text(path: str | Path, errors: str = "strict") -> str:
    """The text of a file, see `decode_text`.

    Raises:
        OSError, UnicodeDecodeError
    """
    return decode_text(Path(path).read_bytes(), errors)


def decode_text(data: bytes, errors: str = "strict") -> str:
    """Text in UTF-8, or in what its byte order mark says, without the mark; its lines end in a line feed each.

    Raises:
        UnicodeDecodeError: it is of another encoding, and `errors` is "strict".
    """
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")
    return io.TextIOWrapper(io.BytesIO(data), encoding=encoding, errors=errors).read()


def lines_of(text: str) -> list[str]:
    """Its lines that are not empty, without blanks around them, nor the marks of files that were put together."""
    stripped = (line.strip().strip("\ufeff").strip() for line in text.split("\n"))
    return [line for line in stripped if line]


def read_own(path: str | Path, largest: int, errors: str = "strict") -> str:
    """The text of a file that this project writes, and anybody may have put something else in the place of.

    Args:
        largest: bytes that it may have.

    Raises:
        OSError: it cannot be read. ValueError: it is larger, not text, or no file but a folder or a pipe.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode) or status.st_size > largest:
        raise ValueError(f"{path}: expected a file of at most {largest} bytes")
    return read_text(path, errors)


def read_json_lines(path: str | Path, largest: int = 2**30) -> list[dict]:
    """The objects of a file with one in each line, without lines that are cut or something else; [] without a file.

    Raises:
        OSError: it cannot be read.
    """
    found = []
    try:
        text = read_own(path, largest, errors="replace")
    except (FileNotFoundError, ValueError):
        return []
    for line in text.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            content = json.loads(line)
            found += [content] if isinstance(content, dict) else []
    return found


def is_count(value: object) -> bool:
    """Whether something read from JSON is a whole number from 0 on of which there can be that many."""
    return type(value) is int and 0 <= value < 2**53


def is_number(value: object) -> bool:
    """Whether something read from JSON is a finite number."""
    return type(value) in (int, float) and abs(value) < 1e308


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Give `path` to what the system refuses within the block without a name, as writing to a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; it becomes `path` when the block succeeds.

    Missing folders are made. When the block fails, the temporary file goes and `path` stays as it was. That the system
    cannot write is an OSError that names `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files that only the owner may read; ours follow the umask like any other file.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        # On disk before it has its name, and the name on disk before anybody relies on it: a power cut may follow.
        flush(temporary)
        os.replace(temporary, path)
        flush(path.parent)
    except OSError as error:
        # A full disk gives no name, and nobody knows the temporary one.
        if error.errno is None or error.filename not in (None, name):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def one_process(target: Path, does: str) -> Iterator[None]:
    """Let one process at a time work on `target`; the log of one that waits says what the other `does` with it.

    The system frees the lock of a process that ends.
    """
    if fcntl is None:
        yield
        return
    with open(target.with_name(f".{target.name}.lock"), "w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("waiting for another process that %s %s", does, target)
            fcntl.flock(stream, fcntl.LOCK_EX)
        # The lock file stays: removing it would let two processes hold locks on two files of that name.
        yield


def flush(path: Path) -> None:
    """Have a file, or a folder's list of names, written to disk; where a system cannot for a folder, it is left."""
    if path.is_dir() and not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as JSON, atomically."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(value))  # several times faster than json.dump
