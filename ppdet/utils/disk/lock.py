"""A lock that keeps two processes out of one folder, and dies with its process."""

import contextlib
import datetime
import errno
import json
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ppdet.utils.errors import UserError
from ppdet.utils.logger import get_logger

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

logger = get_logger(__name__)
TAKEN = (errno.EACCES, errno.EAGAIN)
LONGEST = 1000  # bytes that are read of a lock file
# For something of that name that is no file; Windows has none of these.
CAREFULLY = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)

# What this process holds: POSIX does not keep a process from what it has locked itself.
_held: set[str] = set()
_guard = threading.Lock()


class LockedError(UserError, RuntimeError):
    """Another process works there; the message says which, and what to do."""


@contextlib.contextmanager
def locked(path: Path, *, what: str, advice: str) -> Iterator[None]:
    """Within the block no other process has the lock of this file, which is made, and removed in the end.

    The lock is a POSIX record lock: it ends with the process however that ends, worker processes do not inherit it, and
    it works over NFS. Where a file system has no locks, the log says so, and only a process of the same machine that
    still runs is found, by its number in the file.

    Args:
        what: is kept apart, such as "output/NAME: a training run". advice: how to do without it.

    Raises:
        LockedError: another process, or another part of this one, has it; or something that is no lock file has its
            name, and stays as it is.
    """
    key = os.path.realpath(path)
    with _guard:
        if key in _held:
            raise LockedError(refusal(what, owner(), advice))
        _held.add(key)
    handle = None
    try:
        handle = acquire(path, what, advice)
        yield
    finally:
        if handle is not None:
            if is_same(handle, path):
                path.unlink(missing_ok=True)  # before it is closed: from then on it may be another process's
            os.close(handle)
        _held.discard(key)


def require_free(path: Path, *, what: str, advice: str) -> None:
    """Raise LockedError when another process has the lock now; nothing is made, and nothing is held afterwards."""
    if os.path.realpath(path) in _held:
        raise LockedError(refusal(what, owner(), advice))
    try:
        handle = open_lock(path, what, os.O_RDWR)
    except OSError:  # nobody has made it; or it cannot be written, which is told when it has to be
        return
    try:
        lock(handle, what, advice)
    finally:
        os.close(handle)


def acquire(path: Path, what: str, advice: str) -> int | None:
    """The open file that holds the lock; None where none can be made there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            handle = open_lock(path, what, os.O_RDWR | os.O_CREAT)
            try:
                problem = lock(handle, what, advice)
                # The process that had it may have removed the file since it was opened here.
                if is_same(handle, path):
                    if problem:
                        logger.warning(
                            "%s: its file system has no locks (%s): start no second one there", what, problem
                        )
                    note_owner(handle)
                    return handle
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)
    except OSError as error:
        logger.warning("%s cannot be locked (%s): start no second one there", what, error.strerror or error)
        return None


def open_lock(path: Path, what: str, flags: int) -> int:
    """Open a lock file: what is written there is no other file's content, whatever has its name.

    Raises:
        LockedError: it is a link, or no file of its own. OSError: it cannot be opened.
    """
    problem = f"{what}: {path} is no lock file, but a link, a folder or a device: remove it"
    try:
        handle = os.open(path, flags | CAREFULLY, 0o666)
    except OSError:
        if path.is_symlink() or path.is_dir():
            raise LockedError(problem) from None
        raise
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:  # with two names, it is another file, too
        os.close(handle)
        raise LockedError(problem)
    return handle


def lock(handle: int, what: str, advice: str) -> str | None:
    """Take the lock of an open file, or raise LockedError. Returns why there is none, where a system has no locks."""
    try:
        if fcntl is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        there = read_owner(handle)
        if error.errno in TAKEN or runs_here(there):
            raise LockedError(refusal(what, there, advice)) from None
        return error.strerror
    return None


def is_same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False


def owner() -> dict[str, Any]:
    now = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": now}


def note_owner(handle: int) -> None:
    """Write who has the lock; it holds without that, too."""
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(owner()).encode(), 0)


def read_owner(handle: int) -> dict[str, Any] | None:
    """Who is written in a lock file; None where that is nobody, or not to be understood."""
    try:
        content = json.loads(os.pread(handle, LONGEST, 0))
        found = {"pid": int(content["pid"]), "host": str(content["host"]), "since": str(content["since"])}
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    is_plain = all(value.isprintable() for value in (found["host"], found["since"]))
    return found if is_plain and 0 < found["pid"] < 1 << 31 else None


def runs_here(there: dict[str, Any] | None) -> bool:
    """Whether it is another process of this machine that still runs."""
    if there is None or there["host"] != socket.gethostname() or there["pid"] == os.getpid():
        return False
    try:
        os.kill(there["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def shown(there: dict[str, Any] | None) -> str:
    if there is None:
        return "another process"
    return f"process {there['pid']} on {there['host']} (since {there['since']})"


def refusal(what: str, there: dict[str, Any] | None, advice: str) -> str:
    return f"{what}: {shown(there)} is at work there: {advice}"
