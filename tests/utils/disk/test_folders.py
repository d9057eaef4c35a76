"""Folders that get all of their files, or none."""

import contextlib
import errno
import os
import shutil
from pathlib import Path

import pytest

from ppdet.utils.disk.folders import whole_folder


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def write(folder, *files):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("new")


@pytest.mark.parametrize("there", [None, [], ["a.txt", "other/b.txt"]])
def test_all_files_come_at_the_end(tmp_path, there):
    target = tmp_path / "above" / "data"
    if there is not None:
        target.mkdir(parents=True)
    for file in there or ():
        (target / file).parent.mkdir(exist_ok=True)
        (target / file).write_text("old")
    before = names(tmp_path)
    with whole_folder(target) as new:
        write(new, "a.txt", "annotations/train.json", "images/x/1.png")
        assert all((target / file).read_text() == "old" for file in there or ())
        assert [name for name in names(tmp_path) if ".tmp/" not in name] == before
    assert names(target) == sorted({*(there or ()), "a.txt", "annotations/train.json", "images/x/1.png"})
    assert (target / "a.txt").read_text() == "new" and os.listdir(target.parent) == ["data"]


@pytest.mark.parametrize("exists", [False, True])
def test_a_failure_leaves_nothing(tmp_path, exists):
    target = tmp_path / "data"
    if exists:
        write(target, "mine.txt")
    with pytest.raises(OSError, match="No space left") as caught, whole_folder(target) as new:
        write(new, "a.txt")
        raise OSError(28, "No space left on device", str(new / "images" / "b.png"))
    assert caught.value.filename == str(target / "images" / "b.png")
    assert names(tmp_path) == ["data/mine.txt"] * exists and target.exists() == exists


def test_annotations_come_after_the_images_that_they_name(tmp_path, monkeypatch):
    moved = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (moved.append(os.path.basename(b)), replace(a, b)))
    (tmp_path / "data").mkdir()
    with whole_folder(tmp_path / "data") as new:
        write(new, "annotations/train.json", "images/1.png", "left_out.txt")
    assert moved[-1] == "train.json" and {"1.png", "left_out.txt"} < set(moved)


@pytest.mark.parametrize("is_full", [False, True])
def test_a_folder_in_it_may_be_on_another_disk(tmp_path, monkeypatch, is_full):
    """As where `images` is a link to another disk, to which a file cannot be renamed."""
    target, other = tmp_path / "data", tmp_path / "other"
    write(target, "annotations/train.json")
    other.mkdir()
    (target / "images").symlink_to(other)
    (target / "annotations" / "train.json").write_text("old")
    replace, copy = os.replace, shutil.copyfile

    def on_one_disk(source, place):
        if (other in Path(source).resolve().parents) != (other in Path(place).resolve().parents):
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(source), None, str(place))
        replace(source, place)

    def copied(source, place):
        if is_full and len(os.listdir(other)) == 1:
            raise OSError(28, "No space left on device", source, None, place)
        copy(source, place)

    monkeypatch.setattr(os, "replace", on_one_disk)
    monkeypatch.setattr(shutil, "copyfile", copied)
    failure = pytest.raises(OSError, match="No space left") if is_full else contextlib.nullcontext()
    with failure as caught, whole_folder(target) as new:
        write(new, "annotations/train.json", "images/1.png", "images/2.png")
    if is_full:
        assert caught.value.filename == str(target / "images" / "2.png")
    assert sorted(os.listdir(other)) == ([] if is_full else ["1.png", "2.png"])
    assert (target / "annotations" / "train.json").read_text() == ("old" if is_full else "new")
    assert sorted(os.listdir(target)) == ["annotations", "images"]
