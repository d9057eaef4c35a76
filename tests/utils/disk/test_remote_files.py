"""Files in object storage: copies on this disk, their size, and attempts to read."""

import errno
import os

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from ppdet.utils.disk import remote_files
from ppdet.utils.disk.remote_files import find_remote, read_remote
from ppdet.utils.errors import DataError

LARGEST = 1000


class Unsteady(MemoryFileSystem):
    """Storage that answers with an error some times before it answers."""

    protocol = "unsteady"
    store = {}
    pseudo_dirs = [""]
    failures = 0
    error = ConnectionError
    reads = 0

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(str(path).replace("unsteady://", "memory://"))

    def open(self, path, mode="rb", **options):
        if "r" in mode:
            type(self).reads += 1
            if type(self).failures > 0:
                type(self).failures -= 1
                raise type(self).error("reset by\npeer")
        return super().open(path, mode, **options)


@pytest.fixture
def storage(tmp_path, monkeypatch):
    """Storage with three files of 100 bytes; `copies` of the result is the folder of copies."""
    monkeypatch.setenv("PPDET_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote_files, "PAUSES", (0, 0))
    fsspec.register_implementation("unsteady", Unsteady, clobber=True)
    monkeypatch.setattr(Unsteady, "store", {})
    for name in ("failures", "reads", "error"):
        monkeypatch.setattr(Unsteady, name, getattr(Unsteady, name))
    fs = fsspec.filesystem("unsteady")
    for number in range(3):
        fs.pipe_file(f"/bucket/sub folder/{number}.png", bytes([number]) * 100)
    fs.pipe_file("/bucket/é.txt", b"1")
    return Unsteady


def url(number):
    return f"unsteady://bucket/sub folder/{number}.png"


def copies(tmp_path):
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_file_is_fetched_once(storage, tmp_path):
    for _ in range(3):
        assert read_remote(url(1), LARGEST) == b"\1" * 100
    assert storage.reads == 1
    assert [path.read_bytes() for path in copies(tmp_path)] == [b"\1" * 100]


def test_copies_of_another_user_are_read(storage, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EPERM, "not the owner", path)

    monkeypatch.setattr(os, "utime", refuse)
    for _ in range(2):
        assert read_remote(url(1), LARGEST) == b"\1" * 100
    assert storage.reads == 1


def test_without_copies(storage, tmp_path, monkeypatch):
    monkeypatch.setenv("PPDET_IMAGE_CACHE_GIB", "0")
    for _ in range(2):
        assert read_remote(url(2), LARGEST) == b"\2" * 100
    monkeypatch.setenv("PPDET_IMAGE_CACHE_GIB", "1")
    monkeypatch.setenv("PPDET_CACHE_HOME", "/proc/nowhere")
    assert read_remote(url(2), LARGEST) == b"\2" * 100
    assert storage.reads == 3 and copies(tmp_path) == []


@pytest.mark.parametrize("scheme", ["file://", "local://"])
def test_files_of_this_machine_are_not_copied(storage, tmp_path, scheme):
    path = tmp_path / "a.png"
    for content in (b"1", b"2"):  # it may change, as any file on a disk
        path.write_bytes(content)
        assert read_remote(f"{scheme}{path}", LARGEST) == content
    assert copies(tmp_path) == []


@pytest.mark.parametrize("text", ["x", "-1", "nan"])
def test_a_size_that_is_none(storage, monkeypatch, text):
    monkeypatch.setenv("PPDET_IMAGE_CACHE_GIB", text)
    with pytest.raises(DataError, match=f"PPDET_IMAGE_CACHE_GIB is '{text}': expected a number of GiB"):
        read_remote(url(1), LARGEST)


def test_copies_that_were_not_used_longest_are_removed(storage, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_files, "SHARDS", 1)
    monkeypatch.setenv("PPDET_IMAGE_CACHE_GIB", str(200 / 2**30))
    for number in (0, 1):
        before = set(copies(tmp_path))
        read_remote(url(number), LARGEST)
        (new,) = set(copies(tmp_path)) - before
        os.utime(new, (number, number))
    read_remote(url(0), LARGEST)  # used now, later than 1
    read_remote(url(2), LARGEST)
    assert sorted(path.read_bytes()[0] for path in copies(tmp_path)) == [0, 2]


def test_a_full_disk(storage, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(remote_files, "atomic_path", full)
    assert read_remote(url(1), LARGEST) == b"\1" * 100


def test_attempts(storage):
    storage.failures = 2
    assert read_remote(url(1), LARGEST) == b"\1" * 100
    assert storage.reads == 3
    storage.failures = 3
    with pytest.raises(OSError, match="reset by peer") as caught:
        read_remote(url(0), LARGEST)
    assert caught.value.filename == url(0) and storage.reads == 6


@pytest.mark.parametrize("error", [PermissionError, FileNotFoundError, IsADirectoryError])
def test_what_will_not_change_is_not_tried_again(storage, error):
    storage.failures, storage.error = 1, error
    with pytest.raises(OSError, match=r"No such file|reset by peer"):
        read_remote(url(0), LARGEST)
    assert storage.reads == 1


def test_a_file_that_is_too_large(storage):
    with pytest.raises(OSError, match="larger than the 99 bytes"):
        read_remote(url(0), 99)
    assert storage.reads == 1
    assert len(read_remote(url(0), 100)) == 100


@pytest.mark.parametrize("name", ["a::unsteady://bucket/é.txt", "a::nowhere://b.png", "a::b.png"])
def test_a_name_chooses_no_other_storage(storage, name):
    """An image's name comes from the annotation file; what cannot be read is counted and ends no run."""
    with pytest.raises(OSError, match="names with :: are not read") as caught:
        read_remote(f"memory://bucket/{name}", LARGEST)
    assert caught.value.filename == f"memory://bucket/{name}" and storage.reads == 0


def test_one_storage_within_another(storage):
    assert read_remote("simplecache::unsteady://bucket/é.txt", LARGEST) == b"1"


def test_unknown_storage(storage):
    with pytest.raises(DataError, match=r"nowhere://bucket/a\.png: Protocol not known: nowhere"):
        read_remote("nowhere://bucket/a.png", LARGEST)


def test_files_of_a_folder(storage, tmp_path):
    assert find_remote("unsteady://bucket") == [url(0), url(1), url(2), "unsteady://bucket/é.txt"]
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "1.png").touch()
    assert find_remote(f"file://{tmp_path}") == [f"file://{tmp_path}/a b/1.png"]
