import io
import os
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
