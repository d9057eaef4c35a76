"""tools/gen_semi_coco.py; test_split.py has the splits themselves. And sizes of images from their headers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny import write_tiny_coco

from ppdet.data.header_size import image_size
from ppdet.data.transforms.decode import read_image
from ppdet.utils.errors import ImageError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def anno_path(tmp_path):
    """Annotations of eight images, 001.png to 008.png."""
    data = write_tiny_coco(tmp_path / "data")
    (data / "annotations").mkdir()
    return (data / "train.json").rename(data / "annotations" / "train.json")


def write_image(path, h, w, orientation=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.fromarray(np.full((h, w, 3), 90, dtype=np.uint8)).save(path, **({"exif": exif} if orientation else {}))


@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
@pytest.mark.parametrize("kind", ["jpg", "png", "bmp", "webp", "tif"])
def test_sizes_are_those_of_the_decoder(tmp_path, kind, orientation):
    path = tmp_path / f"a.{kind}"
    write_image(path, 20, 30, orientation if kind != "bmp" else None)
    assert image_size(str(path)) == read_image(str(path)).shape[:2]
    for expected in ((20, 30), (30, 20)):  # the record says whether its boxes were drawn on turned pixels
        assert image_size(str(path), expected) == read_image(str(path), expected).shape[:2]
    if kind == "jpg":
        assert image_size(str(path)) == ((30, 20) if orientation in (6, 8) else (20, 30))


def test_only_headers_are_read(tmp_path, monkeypatch):
    write_image(tmp_path / "a.jpg", 20, 30)
    write_image(tmp_path / "b.png", 20, 30)
    monkeypatch.setattr("ppdet.data.header_size.read_image", None)
    assert image_size(str(tmp_path / "a.jpg")) == image_size(str(tmp_path / "b.png")) == (20, 30)
    monkeypatch.undo()
    (tmp_path / "c.jpg").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"c\.jpg"):
        image_size(str(tmp_path / "c.jpg"))


def tool(cwd, *arguments):
    command = [sys.executable, ROOT / "tools" / "gen_semi_coco.py", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def yaml_of(output):
    """The YAML lines that the tool prints."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!SemiCOCODataSet", lambda loader, node: loader.construct_mapping(node, deep=True))
    return yaml.load(output.split("first pair:")[1], Loader)


def test_the_tool(anno_path, tmp_path):
    options = ["--percent", 25, 50, "--seeds", 1, 2, "--stratified"]
    result = tool(tmp_path, "--anno_path", "data/annotations/train.json", *options)
    assert (result.returncode, result.stderr) == (0, "")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[0] == ["images", "boxes", "classes", "file"]
    assert rows[1][:2] == ["labeled", "2"] and rows[1][3:] == ["2", "of", "2", "data/semi_annotations/train.1@25.json"]
    assert rows[8][:2] == ["unlabeled", "4"] and rows[8][6] == "data/semi_annotations/train.2@50-unlabeled.json"
    boxes = len(json.loads(anno_path.read_text())["annotations"])
    assert [int(one[2]) + int(two[2]) for one, two in zip(rows[1:9:2], rows[2:9:2])] == [boxes] * 4
    assert len(os.listdir(tmp_path / "data" / "semi_annotations")) == 8
    common = {"dataset_dir": "data", "image_dir": "images"}
    assert yaml_of(result.stdout) == {
        "TrainDataset": {
            **common,
            "anno_path": "semi_annotations/train.1@25.json",
            "data_fields": ["image", "gt_bbox", "gt_class", "is_crowd"],
        },
        "UnsupTrainDataset": {
            **common,
            "anno_path": "semi_annotations/train.1@25-unlabeled.json",
            "data_fields": ["image"],
            "supervised": False,
        },
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--percent", "0.5"], "error: 0.5 % of the 8 images"),
        (["--percent", "-1"], "error: percent -1 is not between 0 and 100"),
        (["--percent", "1", "--anno_path", "none.json"], "none.json does not exist"),
        (["--images", "1", "--stratified", "--seeds", "4"], "with seed 4 that needs 2 images (25 %)"),
    ],
)
def test_mistakes_are_one_line(anno_path, tmp_path, arguments, message):
    content = json.loads(anno_path.read_text())
    for row in content["annotations"]:  # no image has both classes
        row["category_id"] = 3 if row["image_id"] < 5 else 7
    anno_path.write_text(json.dumps(content))
    result = tool(tmp_path, "--anno_path", anno_path, *arguments)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert message in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--percent", "1", "--images", "3"], "not allowed with argument"),
        ([], "one of the arguments --percent --images is required"),
        (["--percent", "1", "--seeds", "0"], "expected a whole number of at least 1"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, arguments, message):
    result = tool(tmp_path, "--anno_path", "a.json", *arguments)
    assert result.returncode == 2 and message in result.stderr


def test_the_tool_needs_no_paddle(anno_path):
    code = (
        "import sys; from ppdet.data.splitting.split import split_annotations;"
        f"split_annotations({str(anno_path)!r}, percents=[50]); print('paddle' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
    assert "examples:" in tool(ROOT, "--help").stdout
