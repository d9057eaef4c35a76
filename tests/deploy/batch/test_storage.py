"""Output folders: unfinished files of a killed process are removed, and nothing else."""

from ppdet.deploy.batch.storage import Folder

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
