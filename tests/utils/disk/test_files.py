import json
import os

import pytest

from ppdet.utils.disk.files import atomic_path, naming, write_json


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
