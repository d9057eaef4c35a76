"""DeepPCB's own files become COCO's: its split, its boxes, and its images in black and white."""

import importlib.util
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "dataset" / "deeppcb" / "convert_deeppcb.py"
SPEC = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
deeppcb = sys.modules[SPEC.name] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(deeppcb)


@pytest.fixture
def clone(tmp_path):
    """Two images for training and one for evaluation, as the repository names them."""
    data = tmp_path / "DeepPCB" / "PCBData"
    texts = {"20085000": "466 441 493 470 3\n454 300 493 396 6\n", "20085001": "", "20085002": "1 2 3 5 1"}
    for name, text in texts.items():
        for folder in ("20085", "20085_not"):
            (data / "group20085" / folder).mkdir(parents=True, exist_ok=True)
        board = np.tile(np.array([[0, 255]], np.uint8).repeat(320, axis=1), (500, 1))
        cv2.imwrite(str(data / "group20085" / "20085" / f"{name}_test.jpg"), board)
        cv2.imwrite(str(data / "group20085" / "20085" / f"{name}_temp.jpg"), 255 - board)
        (data / "group20085" / "20085_not" / f"{name}.txt").write_text(text)
    row = "group20085/20085/{0}.jpg group20085/20085_not/{0}.txt\n"
    (data / "trainval.txt").write_text(row.format("20085000") + row.format("20085001"))
    (data / "test.txt").write_text(row.format("20085002"))
    return tmp_path / "DeepPCB"


def test_a_clone_becomes_coco(clone, tmp_path, capsys):
    assert deeppcb.main([str(clone), "--output", str(tmp_path / "out")]) == 0
    assert "train: 2 images, 2 boxes\nval: 1 images, 1 boxes\n" in capsys.readouterr().out
    train, val = (
        json.loads((tmp_path / "out" / "annotations" / f"{name}.json").read_text()) for name in ("train", "val")
    )
    names = ["open", "short", "mousebite", "spur", "copper", "pin-hole"]
    assert train["categories"] == val["categories"] == [{"id": i + 1, "name": name} for i, name in enumerate(names)]
    assert train["images"][0] == {"id": 1, "file_name": "20085000.png", "width": 640, "height": 500}
    first = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [466, 441, 27, 29], "area": 783, "iscrowd": 0}
    assert train["annotations"][0] == first and train["annotations"][1]["category_id"] == 6
    assert [image["file_name"] for image in val["images"]] == ["20085002.png"]
    image = cv2.imread(str(tmp_path / "out" / "images" / "20085000.png"))
    assert (image[:, :320] == 0).all() and (image[:, 320:] == 255).all()  # the tested image, not its template


@pytest.mark.parametrize(
    "file, text, problem",
    [
        ("group20085/20085_not/20085000.txt", "1 2 3 4", "expected x1 y1 x2 y2 type"),
        ("group20085/20085_not/20085000.txt", "1 2 3 4 7", "types 1 to 6"),
        ("group20085/20085_not/20085000.txt", "3 2 1 4 5", "types 1 to 6"),
        ("trainval.txt", "group20085/20085/20085000.jpg", "expected an image and its annotations"),
        ("trainval.txt", "group1/1/7.jpg group20085/20085_not/20085000.txt", "7_test.jpg: not found"),
        ("trainval.txt", "group20085/20085/20085000.jpg absent.txt", "absent.txt: cannot be read"),
    ],
)
def test_bad_data_is_a_one_line_error(clone, tmp_path, capsys, file, text, problem):
    (clone / "PCBData" / file).write_text(text)
    assert deeppcb.main([str(clone), "--output", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert problem in error and error.count("\n") == 1
    assert not (tmp_path / "out" / "annotations").exists()


def test_a_folder_without_the_data_is_an_error(tmp_path, capsys):
    assert deeppcb.main([str(tmp_path)]) == 1
    assert "expected a clone of DeepPCB" in capsys.readouterr().err
