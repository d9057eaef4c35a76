"""Locks on files that keep other processes out, and that the system frees when their process ends.

The library `filelock` is not used: its lock, flock, is inherited by forked data workers, so that it would outlive a
killed process; and it does not say who holds a lock.
"""

import contextlib
import datetime
import errno
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ppdet.utils.errors import UserError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)

TAKEN = (errno.EACCES, errno.EAGAIN)  # what the system answers when another process has a lock
LONGEST_OWNER = 200  # bytes that are read of a lock file
POLL_SECONDS = 0.1
LOCKED_BYTE = 1 << 20  # Windows keeps others from reading a locked byte: this one is beyond the content
# A link that has the name of a lock file is not followed, and a pipe does not block. Windows has neither flag.
SAFE_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)

# The locks of this process: POSIX does not keep a process out of what it has locked itself.
_held: set[str] = set()
_guard = threading.Lock()


class LockedError(UserError, RuntimeError):
    """Another process works here. The message says which one, and what to do."""


@contextlib.contextmanager
def locked(path: Path, *, what: str, advice: str = "", wait_while_it: str = "") -> Iterator[None]:
    """Hold the lock on a file within the block. The file is created, and removed at the end.

    On POSIX it is a record lock (lockf): it ends with the process in any case, worker processes do not inherit it, and
    it works over NFS. On a file system without locks, a warning is logged, and the block runs all the same.

    Args:
        what: what is protected, for messages, such as "output/NAME: a training run".
        advice: how to continue without the lock.
        wait_while_it: wait until the lock is free. For the log, what another process that holds it does to `what`,
            such as "downloads".

    Raises:
        LockedError: another process, or another part of this one, holds the lock, and `wait_while_it` is not given; or
            something that is not a lock file has its name, which is left unchanged.
    """
    key = os.path.realpath(path)
    while not _reserve(key):
        if not wait_while_it:
            raise LockedError(_refusal(what, _owner(), advice))
        time.sleep(POLL_SECONDS)
    handle = None
    try:
        handle = _acquire(path, what, advice, wait_while_it)
        yield
    finally:
        if handle is not None:
            if _is_same_file(handle, path):
                # Removed before it is closed: after that it may be another process's. Windows keeps an open file.
                with contextlib.suppress(PermissionError):
                    path.unlink(missing_ok=True)
            os.close(handle)
        _held.discard(key)


def require_free(path: Path, *, what: str, advice: str) -> None:
    """Raise LockedError if another process holds the lock now. Nothing is created, and no lock is kept."""
    if os.path.realpath(path) in _held:
        raise LockedError(_refusal(what, _owner(), advice))
    try:
        handle = _open(path, what, os.O_RDWR)
    except OSError:  # nobody has created it; if it cannot be written, `locked` reports that
        return
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            if not _try_lock(handle):
                raise LockedError(_refusal(what, _read_owner(handle), advice))
    finally:
        os.close(handle)


def one_process(target: Path, does: str, what: str = "") -> contextlib.AbstractContextManager[None]:
    """Let one process at a time work on `target`; the others wait.

    Args:
        does: what a process does, such as "downloads", for the log of a waiting process.
        what: to what, for the log. The default is the target.
    """
    return locked(target.with_name(f".{target.name}.lock"), what=what or str(target), wait_while_it=does)


def _reserve(key: str) -> bool:
    """Exclude other threads of this process; False if one of them holds the lock."""
    with _guard:
        is_free = key not in _held
        _held.add(key)
    return is_free


def _acquire(path: Path, what: str, advice: str, wait_while_it: str) -> int | None:
    """Return the open file that holds the lock; None, with a warning, if locking is impossible there."""
    is_waiting = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            handle = _open(path, what, os.O_RDWR | os.O_CREAT)
            try:
                if not _try_lock(handle):
                    if not wait_while_it:
                        raise LockedError(_refusal(what, _read_owner(handle), advice))
                    if not is_waiting:
                        logger.info("waiting for another process that %s %s", wait_while_it, what)
                        is_waiting = True
                    time.sleep(POLL_SECONDS)
                # The process that had the lock may have removed the file after it was opened here.
                elif _is_same_file(handle, path):
                    _write_owner(handle)
                    return handle
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)
    except OSError as error:
        logger.warning("%s cannot be locked (%s): do not start a second one there", what, error.strerror or error)
        return None


def _open(path: Path, what: str, flags: int) -> int:
    """Open a lock file, and make sure that writing to it overwrites no other file.

    Raises:
        LockedError: it is a link, a folder or a device, or it has a second hard link.
        OSError: it cannot be opened.
    """
    problem = f"{what}: {path} is not a lock file, but a link, a folder or a device: remove it"
    try:
        handle = os.open(path, flags | SAFE_FLAGS, 0o666)
    except OSError:
        if path.is_symlink() or path.is_dir():
            raise LockedError(problem) from None
        raise
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:  # with two names, it is another file as well
        os.close(handle)
        raise LockedError(problem)
    return handle


def _try_lock(handle: int) -> bool:
    """Lock an open file. False if another process has locked it; OSError if there are no locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(handle, LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            try:
                import fcntl
            except ImportError:
                raise OSError(errno.ENOLCK, "this Python has no fcntl") from None
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in TAKEN:
            return False
        raise
    return True


def _is_same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False


def _owner() -> str:
    """This process, as lock files name it."""
    now = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
    return f"process {os.getpid()} on {socket.gethostname()} (since {now})"


def _write_owner(handle: int) -> None:
    """Write into the lock file who holds the lock. The lock holds without that too."""
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, _owner().encode())


def _read_owner(handle: int) -> str:
    try:
        os.lseek(handle, 0, os.SEEK_SET)
        return str(os.read(handle, LONGEST_OWNER), "utf-8", "replace")
    except OSError:
        return ""


def _refusal(what: str, owner: str, advice: str) -> str:
    """The message for a lock that another process holds; `owner` is the lock file's content, from anybody."""
    name = owner if owner.startswith("process ") and owner.isprintable() else "another process"
    return f"{what}: {name} is at work there: {advice}"
