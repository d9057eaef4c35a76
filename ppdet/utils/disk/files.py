"""Files that are either complete or absent, and text in the encodings that editors write."""

import codecs
import contextlib
import errno
import io
import json
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

# Byte order marks, which editors on Windows write in front of a text. UTF-32's mark begins with UTF-16's.
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# What to say of a text with NUL characters, after the name of its file.
NUL_ADVICE = "has NUL characters, as UTF-16 without a byte order mark has: save it as UTF-8"
LONGEST_PATH = 4096  # characters; no system has files with longer paths


# A pipe without a writer opens at once and a terminal does not become that of the process; Windows knows neither.
OPEN_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_BINARY"))


def open_regular(path: str | Path) -> BinaryIO:
    """Open a file that may come from a stranger to read its bytes, without waiting.

    Raises:
        OSError: it cannot be opened, is a pipe, a device, a socket or a folder, or `path` cannot be a path, as one with
            a NUL character. The error has `strerror` and `filename`.
    """
    try:
        handle = os.open(path, OPEN_FLAGS)
    except ValueError:
        # NUL, or a character that the file system's encoding lacks. Python has no errno for it.
        raise OSError(errno.EINVAL, "no file can have such a name", str(path)) from None
    except OSError as error:
        if error.errno != errno.ENXIO:  # a socket
            raise
        raise OSError(errno.ENXIO, "not a regular file", str(path)) from None
    try:
        kind = os.fstat(handle).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(kind):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_regular(path: str | Path, largest: int | None = None) -> bytes:
    """Return the bytes of a file that may come from a stranger, see `open_regular`.

    Args:
        largest: size in bytes above which it is not read. None: any size that fits the memory.

    Raises:
        OSError: as open_regular, or it is larger than `largest`, or it cannot be read.
    """
    with open_regular(path) as stream, naming(path):
        size = os.fstat(stream.fileno()).st_size
        if largest is not None and size > largest:
            raise OSError(errno.EFBIG, f"larger than the {largest:,} bytes that are read of such a file")
        try:
            # Some files of /proc never end, and have no size: no more than this is read of them.
            return stream.read(max(size, 2**16)) or b""
        except (MemoryError, OverflowError):
            raise OSError(errno.ENOMEM, f"its {size:,} bytes do not fit into the memory") from None


def read_text(path: str | Path, errors: str = "strict", largest: int | None = None) -> str:
    """Return the text of a file, see `read_regular` and `decode_text`.

    Raises:
        OSError, UnicodeDecodeError
    """
    return decode_text(read_regular(path, largest), errors)


def decode_text(data: bytes, errors: str = "strict") -> str:
    r"""Decode text in UTF-8, or in the encoding of its byte order mark, without the mark and with `\n` as line ends.

    Args:
        errors: as in bytes.decode.

    Raises:
        UnicodeDecodeError: it has another encoding, and `errors` is "strict".
    """
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")
    return io.TextIOWrapper(io.BytesIO(data), encoding=encoding, errors=errors).read()


def lines_of(text: str) -> list[str]:
    """Return the lines that are not empty, stripped of blanks, and of the byte order marks of concatenated files."""
    stripped = (line.strip().strip("\ufeff").strip() for line in text.split("\n"))
    return [line for line in stripped if line]


def read_own(path: str | Path, largest: int, errors: str = "strict") -> str:
    """Return the text of a file that this project writes, but that something else may have replaced.

    Args:
        largest: size in bytes above which it is not read.
        errors: as in bytes.decode.

    Raises:
        OSError: it cannot be read. ValueError: it is larger, not text, or not a regular file.
    """
    try:
        return read_text(path, errors, largest)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENXIO, errno.EISDIR, errno.EFBIG):
            raise
        raise ValueError(f"{path}: expected a file of at most {largest} bytes") from None


def read_json_lines(path: str | Path, largest: int = 2**30) -> list[dict]:
    """Return the objects of a file with one JSON object per line; other lines, such as truncated ones, are skipped.

    The list is empty if there is no such file.

    Raises:
        OSError: it cannot be read.
    """
    objects = []
    try:
        text = read_own(path, largest, errors="replace")
    except (FileNotFoundError, ValueError):
        return []
    for line in text.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            content = json.loads(line)
            objects += [content] if isinstance(content, dict) else []
    return objects


def display_path(path: Path) -> str:
    """Return a path for messages: relative if it is below the working directory, else absolute."""
    if len(str(path)) > LONGEST_PATH:  # the time for such a path grows with the square of its length
        return str(path)
    try:
        resolved = os.path.realpath(path)  # unlike Path.resolve, it accepts a link to itself
    except (OSError, ValueError):  # no file can have this name, or the working directory is gone
        return str(path)
    try:
        return str(Path(resolved).relative_to(Path.cwd()))
    except (OSError, ValueError):
        return resolved


def is_count(value: Any) -> bool:
    """Whether a value from JSON is an integer from 0 to 2**53 - 1."""
    return type(value) is int and 0 <= value < 2**53


def is_number(value: Any) -> bool:
    """Whether a value from JSON is a finite number."""
    return type(value) in (int, float) and abs(value) < 1e308


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Add `path` to an OSError that leaves the block without a file name, as one for a full disk does."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def copy_file(source: str | Path, target: str | Path) -> None:
    """Copy the content of a file; `target` is complete, or as before. It may be lost in a power cut.

    An OSError for a full disk names the target, where `shutil` names the source.
    """
    temporary = Path(target).with_name(f".{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with naming(target):
            shutil.copyfile(source, temporary)
            os.replace(temporary, target)
    except OSError as error:
        if error.errno is None or (error.filename2 is None and error.filename != str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(target)) from None
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write to, which is renamed to `path` when the block succeeds.

    Missing folders are created. If the block fails, the temporary file is removed, and `path` stays as it was. An
    OSError names `path`, not the temporary file.
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
        # mkstemp makes files that only the owner may read; these follow the umask like any other file.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        # Content first, then the name: after a power cut the file is complete, or the old one.
        flush(temporary)
        os.replace(temporary, path)
        flush(path.parent)
    except OSError as error:
        # A full disk gives no file name, and nobody knows the temporary one.
        if error.errno is None or error.filename not in (None, name):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Write a file, or the entries of a folder, from the cache to the disk. Windows cannot do it for a folder."""
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
