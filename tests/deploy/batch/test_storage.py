"""Output folders: unfinished files of a killed process are removed, and nothing else."""

import os

import pytest

from ppdet.deploy.batch.storage import Folder
from ppdet.utils.errors import DataError

NAMES = ["part-0.parquet", ".part-0.parquet.x.tmp", ".hidden", "notes.tmp"]


def test_temporaries_of_a_disk_are_removed(tmp_path):
    folder = Folder(str(tmp_path))
    for name in NAMES:
        folder.write(f"detections/{name}", b"1")
    folder.remove_temporaries("detections")
    assert sorted(path.name for path in (tmp_path / "detections").iterdir()) == [".hidden", "notes.tmp", NAMES[0]]


def test_object_storage_has_none():
    """Objects only exist when complete, so a file with a temporary name belongs to somebody."""
    folder = Folder("memory://bucket/temporaries")
    for name in NAMES:
        folder.write(f"detections/{name}", b"1")
    folder.remove_temporaries("detections")
    assert sorted(folder.names("detections")) == sorted(NAMES)


def test_a_link_in_the_folder_leads_no_job_elsewhere(tmp_path):
    """A results folder may come from a stranger: nothing outside of it is written or removed."""
    (tmp_path / "elsewhere").mkdir()
    kept = tmp_path / "elsewhere" / ".part-0.parquet.x.tmp"
    kept.touch()
    (tmp_path / "out").mkdir()
    os.symlink("../elsewhere", tmp_path / "out" / "detections")
    folder = Folder(str(tmp_path / "out"))
    for work in (folder.names, folder.remove_temporaries, lambda name: folder.write(f"{name}/part-0.parquet", b"1")):
        with pytest.raises(DataError, match="out/detections is a link"):
            work("detections")
    assert list((tmp_path / "elsewhere").iterdir()) == [kept]
    # A link in place of a file is replaced.
    os.symlink(kept, tmp_path / "out" / "manifest.json")
    folder.write("manifest.json", b"{}")
    assert kept.read_bytes() == b"" and not (tmp_path / "out" / "manifest.json").is_symlink()
    # The folder itself may be a link: its user made it.
    os.symlink("out", tmp_path / "link")
    Folder(str(tmp_path / "link")).write("coco/part-0.json", b"{}")
    assert (tmp_path / "out" / "coco" / "part-0.json").read_bytes() == b"{}"


def test_a_path_with_two_colons_is_a_path(tmp_path):
    """fsspec would take it for one storage within another, and use the folder `a`."""
    Folder(str(tmp_path / "a::b")).write("c", b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["a::b"]
