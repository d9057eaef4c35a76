import gzip
import io
import os
import resource
import tarfile
import zipfile

import pytest

from ppdet.utils.disk.archive import ArchiveError, unpack
from ppdet.utils.errors import UserError


def write_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path, files, links=()):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return path


FILES = {"val/1.jpg": b"one", "val/sub/2.jpg": b"two" * 1000, "val/empty": b""}


@pytest.mark.parametrize("write, name", [(write_zip, "a.zip"), (write_tar, "a.tar.gz")])
def test_unpacks_and_goes_on_after_an_interruption(tmp_path, write, name):
    archive, folder = write(tmp_path / name, FILES), tmp_path / "out"
    assert unpack(archive, folder) == 3
    assert {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == FILES
    assert unpack(archive, folder) == 0
    (folder / "val" / "sub" / "2.jpg").write_bytes(b"tw")
    assert unpack(archive, folder) == 1
    assert (folder / "val" / "sub" / "2.jpg").read_bytes() == FILES["val/sub/2.jpg"]


@pytest.mark.parametrize("write, suffix", [(write_zip, ".zip"), (write_tar, ".tar.gz")])
@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "..\\evil", "C:\\evil", "C:evil"])
def test_paths_that_leave_the_folder_are_refused(tmp_path, write, suffix, name):
    archive = write(tmp_path / f"a{suffix}", {"good": b"x", name: b"x"})
    with pytest.raises(ArchiveError, match="leads outside") as caught:
        unpack(archive, tmp_path / "out" / "deeper")
    assert "\n" not in str(caught.value) and isinstance(caught.value, UserError)
    assert sorted(os.listdir(tmp_path)) == [archive.name]


def test_links_are_left_out(tmp_path):
    archive = write_tar(tmp_path / "a.tar.gz", {"x": b"1"}, links=[("passwd", "/etc/passwd"), ("up", "..")])
    assert unpack(archive, tmp_path / "out") == 1
    assert os.listdir(tmp_path / "out") == ["x"]


def test_damaged_archives_are_one_line_errors(tmp_path):
    whole = write_zip(tmp_path / "a.zip", {"x": os.urandom(5000)}).read_bytes()
    tar = write_tar(tmp_path / "a.tar.gz", {"x": os.urandom(5000), "y": b"y"}).read_bytes()
    middle = bytearray(whole)
    middle[1000] ^= 0xFF
    for number, content in enumerate([b"", b"<html>not found</html>", whole[:3000], bytes(middle), tar[:3000]]):
        path = tmp_path / f"damaged{number}"
        path.write_bytes(content)
        with pytest.raises(ArchiveError, match="download it again") as caught:
            unpack(path, tmp_path / f"out{number}")
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
        assert not any(p.is_file() for p in (tmp_path / f"out{number}").rglob("*")) or number == 4


def declared(path, size):
    """A tar archive whose member says that it has `size` bytes."""
    info = tarfile.TarInfo("big")
    info.size = size
    path.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(10_000)))
    return path


def test_archives_that_would_fill_the_disk(tmp_path):
    zeros = tmp_path / "zeros.zip"
    with zipfile.ZipFile(zeros, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("big", "w") as stream:
        for _ in range(40):
            stream.write(bytes(2**20))
    content = zeros.read_bytes()
    zeros.write_bytes(content.replace((40 * 2**20).to_bytes(4, "little"), (2**31).to_bytes(4, "little")))
    assert unpack(write_zip(tmp_path / "json.zip", {"a.json": b"[1, 2], " * 500_000}), tmp_path / "json") == 1
    for path in (
        zeros,
        declared(tmp_path / "a.tar.gz", 2**40),
        declared(tmp_path / "b.tar.gz", 2**31),
    ):
        with pytest.raises(ArchiveError, match="many times as large as the archive; nothing was unpacked"):
            unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_long_names_do_not_fill_the_memory(tmp_path):
    """A tar archive's long name is a member of its own, which Python reads at once: here 100 MB in 400 kB."""
    info = tarfile.TarInfo("././@LongLink")
    info.size, info.type = 100 * 2**20, tarfile.GNUTYPE_LONGNAME
    path = tmp_path / "a.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(100):
            stream.write(bytes(2**20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ArchiveError, match="download it again"):
        unpack(path, tmp_path / "out")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_what_no_archive_should_have(tmp_path):
    encrypted = bytearray(write_zip(tmp_path / "a.zip", {"x": b"secret"}).read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[encrypted.index(mark) + place] |= 1
    (tmp_path / "encrypted.zip").write_bytes(encrypted)
    for path in (tmp_path / "encrypted.zip", write_zip(tmp_path / "dot.zip", {".": b"x"})):
        with pytest.raises(ArchiveError) as caught:
            unpack(path, tmp_path / "out")
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="not a regular file"):
        unpack(tmp_path / "fifo", tmp_path / "out")
