"""What `ppdet data convert` says to do next; tests/data/annotations has what it reads and writes."""

import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny import write_tiny_coco

from ppdet.cli import data
from ppdet.cli.init import parse_arguments
from ppdet.engine.proposal.found_data import read_data


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """The working directory has a folder of images and of one file of labels, which is not yet split."""
    monkeypatch.chdir(tmp_path)
    folder = write_tiny_coco(tmp_path / "my export")
    (folder / "train.json").rename(folder / "labels.json")
    return folder


def next_commands(printed: str) -> list[list[str]]:
    lines = printed[printed.index("\nnext:") :].splitlines()[2:]
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize("images", ["copy", "keep"])
def test_the_next_commands_work_as_they_are_printed(exported, capsys, images):
    data.main(["convert", "my export", "my data", "--split", "0.5/0.5", "--images", images])
    check, init = next_commands(capsys.readouterr().out)
    place = ["my data", *(["--image_dir", "my export/images"] if images == "keep" else [])]
    assert (check, init) == (["ppdet", "data", "check", *place], ["ppdet", "init", *place])
    data.main([*check[2:], "--page", ""])
    said = capsys.readouterr().out
    assert "8 images read: 0 errors" in said and next_commands(said) == [init]
    arguments = parse_arguments(init[2:])
    found = read_data(arguments.data, arguments.image_dir)
    assert found.val is not None and found.train.images + found.val.images == 8


def test_data_without_a_split_is_split_next(exported, capsys):
    data.main(["convert", "my export", "my data"])
    assert "next: convert again with --split 0.8/0.2 --overwrite" in capsys.readouterr().out
    data.main(["convert", "my export", "my data", "--split", "0.8/0.2", "--overwrite"])
    assert next_commands(capsys.readouterr().out)[-1] == ["ppdet", "init", "my data"]
    assert sorted(path.name for path in Path("my data/annotations").iterdir()) == ["train.json", "val.json"]


def test_errors_lead_to_a_cleaned_copy(exported, capsys):
    data.main(["convert", "my export", "my data", "--split", "0.5/0.5"])
    next(Path("my data/images").iterdir()).write_bytes(b"no image")
    capsys.readouterr()
    data.main(["check", "my data", "--page", ""])
    fix, init = next_commands(capsys.readouterr().out)
    assert fix == ["ppdet", "data", "check", "my data", "--fix", "my data_cleaned"]
    assert init == ["ppdet", "init", "my data"]
    data.main([*fix[2:], "--page", ""])
    assert "next: ppdet init 'my data_cleaned'  " in capsys.readouterr().out
    data.main(["check", "my data_cleaned", "--page", "", "--strict"])


def test_labels_without_their_images_lead_to_the_folder_of_the_images(exported, capsys):
    shutil.rmtree(exported / "images")
    data.main(["convert", "my export", "my data"])
    said = capsys.readouterr().out
    assert "in which there are none: no image file was found" in said
    assert "next: convert again with --image_dir FOLDER --overwrite" in said


def test_columns_stand_under_each_other_and_unread_objects_are_a_warning(tmp_path, capsys):
    (tmp_path / "source").mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / "source" / name), np.zeros((80, 100, 3), np.uint8))
    rows = "a.png,红细胞,1,2,3,4\nb.png,cat,1,2,3,4\nb.png,a, b,1,2,3,4\n"
    (tmp_path / "source" / "a.csv").write_text(f"filename,class,xmin,ymin,xmax,ymax\n{rows}", encoding="utf-8")
    data.main(["convert", str(tmp_path / "source"), str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert "\ncat                1\n" in said and "\n红细胞             1\n" in said
    assert "\nwarning: 1 object cannot be read: training takes such places for background\n" in said
    assert "a.csv, line 4: 7 fields, expected 6)" in said
