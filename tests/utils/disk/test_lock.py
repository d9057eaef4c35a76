"""One process at a time in a folder."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from patience import wait_until

from ppdet.utils.disk import lock
from ppdet.utils.disk.lock import LockedError, locked, require_free

ROOT = Path(__file__).resolve().parents[3]
WORDS = {"what": "out: a job", "advice": "wait"}

# Takes the lock, starts a child that lives on as a data worker may, and waits.
HOLDER = """
import os, sys, time
from pathlib import Path
from ppdet.utils.disk.lock import locked
with locked(Path(sys.argv[1]), what="x", advice="x"):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that has the lock, and the number of its child."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / ".lock")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    child = int(process.stdout.readline())
    yield process
    process.kill()
    process.wait()
    os.kill(child, signal.SIGKILL)
    process.stdout.close()


def test_the_second_process_is_told_of_the_first_until_that_is_killed(tmp_path, holder):
    path = tmp_path / ".lock"
    for attempt in (lambda: locked(path, **WORDS).__enter__(), lambda: require_free(path, **WORDS)):
        with pytest.raises(LockedError) as error:
            attempt()
        place = f"out: a job: process {holder.pid} on {socket.gethostname()} (since 20"
        assert str(error.value).startswith(place) and str(error.value).endswith(") is at work there: wait")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    # Its child still runs, and has the file open.
    require_free(path, **WORDS)
    with locked(path, **WORDS):
        assert path.read_text().startswith(f"process {os.getpid()} on ")
    assert not path.exists()


def test_one_process_does_not_lock_twice(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    with locked(tmp_path / "new" / ".lock", **WORDS):
        with pytest.raises(LockedError, match=f"process {os.getpid()} on "):
            locked(tmp_path / "link" / "new" / ".lock", **WORDS).__enter__()
        with pytest.raises(LockedError):
            require_free(tmp_path / "new" / ".lock", **WORDS)
    with locked(tmp_path / "new" / ".lock", **WORDS):
        pass
    assert list((tmp_path / "new").iterdir()) == []


def test_a_lock_file_that_is_replaced_meanwhile_counts_for_nothing(tmp_path, monkeypatch):
    """The process before ends, and a third one comes, between opening and locking."""
    path, take, opened = tmp_path / ".lock", lock._try_lock, []

    def slow(handle):
        opened.append(handle)
        if len(opened) == 1:
            path.unlink()
            path.write_text("of a third one")
        return take(handle)

    monkeypatch.setattr(lock, "_try_lock", slow)
    with locked(path, **WORDS):
        assert len(opened) == 2 and path.read_text().startswith(f"process {os.getpid()} on ")


NOBODY = ["", "{", "somebody", "process 5 on \x1b[2J", "process 5\0" * 500]


@pytest.mark.parametrize("content", NOBODY)
def test_what_a_lock_file_says_is_not_believed(tmp_path, monkeypatch, content):
    path = tmp_path / ".lock"
    path.write_text(content)
    with locked(path, **WORDS):
        pass
    path.write_text(content)
    monkeypatch.setattr(lock, "_try_lock", lambda handle: False)
    with pytest.raises(LockedError, match=r"^out: a job: another process is at work there: wait$"):
        locked(path, **WORDS).__enter__()


def unsupported(*arguments):
    raise OSError(errno.ENOLCK, "No locks available")


def test_a_file_system_without_locks(tmp_path, monkeypatch, log):
    monkeypatch.setattr(fcntl, "lockf", unsupported)
    with locked(tmp_path / ".lock", **WORDS):
        require_free(tmp_path / "other", **WORDS)
    assert "out: a job cannot be locked (No locks available): do not start a second one there" in log.text


def test_a_folder_where_no_file_can_be_made(tmp_path, log):
    (tmp_path / "file").write_text("")
    with locked(tmp_path / "file" / ".lock", **WORDS):
        pass
    assert "out: a job cannot be locked (" in log.text


def test_one_process_waits_for_another(tmp_path, log):
    command = [sys.executable, "-c", HOLDER, str(tmp_path / ".x.lock")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as holder:
        child = int(holder.stdout.readline())
        threading.Thread(target=end_when_waited_for, args=(log, holder)).start()
        with lock.one_process(tmp_path / "x", "makes"):
            assert holder.poll() is not None
        os.kill(child, signal.SIGKILL)
    assert f"waiting for another process that makes {tmp_path / 'x'}" in log.text
    assert list(tmp_path.iterdir()) == []


def end_when_waited_for(log, holder):
    wait_until(lambda: "waiting for another process" in log.text, "the line of the log")
    holder.kill()
    holder.wait()


@pytest.mark.parametrize("kind", ["link", "dangling link", "second name", "folder", "pipe"])
def test_what_is_no_lock_file_is_refused_and_stays_unchanged(tmp_path, kind):
    path, other = tmp_path / ".lock", tmp_path / "victim.txt"
    other.write_text("precious")
    if kind in ("link", "dangling link"):
        path.symlink_to(other if kind == "link" else tmp_path / "none")
    elif kind == "second name":
        os.link(other, path)
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    before = {entry.name: os.lstat(entry)[:8] for entry in tmp_path.iterdir()}
    for attempt in (lambda: locked(path, **WORDS).__enter__(), lambda: require_free(path, **WORDS)):
        with pytest.raises(LockedError, match=r"^out: a job: .*/\.lock is not a lock file, but a link, .*: remove it$"):
            attempt()
    assert other.read_text() == "precious"
    assert {entry.name: os.lstat(entry)[:8] for entry in tmp_path.iterdir()} == before
