import json
import os
import shutil
import socket
from pathlib import Path

import pytest

from ppdet.utils.disk.files import (
    atomic_path,
    copy_file,
    naming,
    open_regular,
    read_own,
    read_regular,
    read_text,
    write_json,
)


def test_write_makes_folders_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a" / "b" / "bbox.json"
    write_json(path, [{"score": 0.5}])
    assert json.loads(path.read_text()) == [{"score": 0.5}]
    assert os.listdir(path.parent) == ["bbox.json"]


def test_failure_keeps_the_old_file(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.txt"]


def test_unserializable_value_keeps_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, [1])
    with pytest.raises(TypeError):
        write_json(path, [object()])
    assert json.loads(path.read_text()) == [1]


def test_a_copy_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    (tmp_path / "new").write_text("new")
    (tmp_path / "x").write_text("old")

    def half(source, target):
        Path(target).write_text("n")
        raise OSError(28, "No space left on device", source, None, target)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", half)
        with pytest.raises(OSError, match="No space left") as caught:
            copy_file(tmp_path / "new", tmp_path / "x")
    assert caught.value.filename == str(tmp_path / "x")
    with pytest.raises(FileNotFoundError, match="missing"):
        copy_file(tmp_path / "missing", tmp_path / "x")
    with pytest.raises(FileNotFoundError) as caught:
        copy_file(tmp_path / "new", tmp_path / "no" / "x")
    assert caught.value.filename == str(tmp_path / "no" / "x")
    assert sorted(os.listdir(tmp_path)) == ["new", "x"] and (tmp_path / "x").read_text() == "old"
    copy_file(tmp_path / "new", tmp_path / "x")
    assert (tmp_path / "x").read_text() == "new"


def test_permissions_follow_the_umask(tmp_path):
    old = os.umask(0o022)
    try:
        write_json(tmp_path / "x.json", 1)
    finally:
        os.umask(old)
    assert (tmp_path / "x.json").stat().st_mode & 0o777 == 0o644


def test_what_a_full_disk_refuses_has_a_name(tmp_path):
    with pytest.raises(OSError, match="No space left") as caught, naming(tmp_path):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(tmp_path)
    with pytest.raises(FileNotFoundError) as caught, naming(tmp_path):
        (tmp_path / "nothing").read_text()
    assert caught.value.filename == str(tmp_path / "nothing")
    with pytest.raises(OSError, match="No space left") as caught, atomic_path(tmp_path / "a.json"):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(tmp_path / "a.json")
    with pytest.raises(OSError, match=r"^a line of its own$"), atomic_path(tmp_path / "a.json"):
        raise OSError("a line of its own")
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_made_is_named_by_its_own_name(tmp_path):
    """Not by the temporary one, which is longer here than a name may be."""
    path = tmp_path / ("x" * 250)
    with pytest.raises(OSError, match="name too long") as caught:
        write_json(path, 1)
    assert caught.value.filename == str(path)


def test_the_bytes_of_a_regular_file_are_read(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\r\n\x1a" + b"x" * 100_000)
    (tmp_path / "link.txt").symlink_to(path)
    for name in (path, str(path), tmp_path / "link.txt"):
        assert read_regular(name) == read_regular(name, largest=100_003) == path.read_bytes()
        with open_regular(name) as stream:
            assert stream.read() == path.read_bytes()
    (tmp_path / "empty").touch()
    assert read_regular(tmp_path / "empty") == b""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_devices_sockets_and_folders_are_no_files(tmp_path, monkeypatch):
    """Opening the pipe would wait for its writer for ever, and the device has no end."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as endpoint:
        endpoint.bind("socket")
        for path in ("fifo", "socket", "/dev/zero", "/dev/tty"):
            for read in (open_regular, read_regular, read_text):
                with pytest.raises(OSError) as caught:
                    read(path)
                assert caught.value.strerror == "not a regular file"
                assert caught.value.filename == path
        with pytest.raises(ValueError, match=r"^fifo: expected a file of at most 10 bytes"):
            read_own("fifo", 10)
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 300, "link", "nothing"])
def test_what_cannot_be_opened_is_an_oserror_with_a_reason(tmp_path, name):
    (tmp_path / "link").symlink_to(tmp_path / "link")
    path = f"{tmp_path}/{name}"
    for read in (open_regular, read_regular, read_text):
        with pytest.raises(OSError) as caught:
            read(path)
        assert caught.value.strerror and caught.value.filename == path


def test_sizes_have_a_limit(tmp_path):
    path = tmp_path / "sparse"
    with open(path, "wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(OSError, match="larger than the 1,000 bytes") as caught:
        read_text(path, largest=1000)
    assert caught.value.filename == str(path)
    path.write_bytes(b"x" * 1001)
    with pytest.raises(OSError, match="larger than the 1,000 bytes"):
        read_regular(path, 1000)
    path.write_bytes(b"x" * 1000)
    assert len(read_regular(path, 1000)) == 1000


@pytest.mark.skipif(not Path("/proc/self/pagemap").exists(), reason="files of /proc that never end are Linux's")
def test_no_more_than_some_bytes_are_read_of_a_file_without_a_size():
    assert len(read_regular("/proc/self/pagemap")) <= 2**16
    assert b"\nName" in b"\n" + read_regular("/proc/self/status")
