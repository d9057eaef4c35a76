"""tools/gen_semi_coco.py, and folders of unlabeled images; test_split.py has the splits themselves."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from commands import execute
from PIL import Image
from tiny import write_tiny_coco

from ppdet.data.sources import COCODataSet
from ppdet.data.splitting.split import image_size, list_unlabeled
from ppdet.data.transforms.decode import read_image
from ppdet.utils.errors import DataError, ImageError

ROOT = Path(__file__).resolve().parents[3]


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


@pytest.mark.parametrize(
    "damage", [(b"MM\0*", b"MM\0r"), (b"MM\0*", b"MM*\0"), (b"MM\0*", b"II\0*"), (b"Exif", b"Ezif")]
)
def test_an_orientation_that_the_decoder_does_not_read_changes_no_size(tmp_path, damage):
    path = tmp_path / "a.jpg"
    write_image(path, 20, 30, 6)
    assert image_size(str(path)) == (30, 20)
    assert path.read_bytes().count(damage[0]) == 1
    path.write_bytes(path.read_bytes().replace(*damage))
    assert image_size(str(path)) == read_image(str(path)).shape[:2] == (20, 30)
    path.write_bytes(path.read_bytes().replace(damage[1], b"XX\0*" if damage[0] == b"MM\0*" else damage[0]))
    assert image_size(str(path)) == read_image(str(path)).shape[:2] == (30, 20)


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


@pytest.fixture
def folder(anno_path):
    """Two new images, one of them in a subfolder; one with the name of a labeled one, and copies of two of these; and
    two files that cannot be read."""
    folder = anno_path.parents[1] / "unlabeled2017"
    places = {"new.JPG": (20, 30), "sub/new.png": (40, 25), "sub/002.png": (9, 9)}
    for place, (h, w) in places.items():
        write_image(folder / place, h, w)
    for name, place in (("001.png", "001.png"), ("008.png", "sub/008.png")):
        shutil.copy(anno_path.parents[1] / "images" / name, folder / place)
    (folder / "bad.jpg").write_bytes(b"")
    (folder / "bad.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image either")
    return folder


def test_a_folder_without_annotations(folder, anno_path, log):
    content = json.loads(anno_path.read_text())
    split = list_unlabeled(folder, anno_path=anno_path)
    written = json.loads(Path(split.unlabeled.path).read_text())
    assert split.unlabeled.path == str(anno_path.parents[1] / "semi_annotations" / "unlabeled2017-unlabeled.json")
    assert written == {
        "images": [
            {"id": 1, "file_name": "new.JPG", "width": 30, "height": 20},
            {"id": 2, "file_name": "sub/002.png", "width": 9, "height": 9},
            {"id": 3, "file_name": "sub/new.png", "width": 25, "height": 40},
        ],
        "annotations": [],
        "categories": content["categories"],
    }
    assert (split.unlabeled.images, split.unlabeled.image_dir) == (3, str(folder))
    boxes = len(content["annotations"])
    assert (split.labeled.images, split.labeled.boxes, split.labeled.path) == (8, boxes, str(anno_path))
    assert split.labeled.image_dir == str(anno_path.parents[1] / "images")
    assert "2 images are also in" in log.text
    assert "anew" not in log.text
    list_unlabeled(folder, anno_path=anno_path)
    assert "unlabeled2017-unlabeled.json exists: it is overwritten" in log.text
    assert "2 files could not be read and are left out, the first is" in log.text and "bad.jpg" in log.text
    data = COCODataSet(image_dir=str(folder), anno_path=split.unlabeled.path)
    assert [Path(record["im_file"]).is_file() for record in data.records] == [True] * 3


def test_the_same_name_in_another_folder_is_another_image(anno_path, tmp_path):
    content = json.loads(anno_path.read_text())
    content["images"][0]["file_name"] = "video1/0001.jpg"
    anno_path.write_text(json.dumps(content))
    write_image(tmp_path / "frames" / "video1" / "0001.jpg", 9, 9)
    write_image(tmp_path / "frames" / "video2" / "0001.jpg", 9, 9)
    split = list_unlabeled(tmp_path / "frames", anno_path=anno_path)
    written = json.loads(Path(split.unlabeled.path).read_text())
    assert [row["file_name"] for row in written["images"]] == ["video2/0001.jpg"]
    # One path is the end of the other: taken for the same image, whichever folder was named.
    with pytest.raises(DataError, match="is left to use: 0 unreadable, the others in"):
        list_unlabeled(tmp_path / "frames" / "video1", anno_path=anno_path)


def test_folders_that_cannot_be_listed(anno_path, tmp_path):
    with pytest.raises(DataError, match=r"nowhere does not exist"):
        list_unlabeled(tmp_path / "nowhere", anno_path=anno_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no image in .*empty: expected files ending in \.jpg"):
        list_unlabeled(tmp_path / "empty", anno_path=anno_path)


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


def test_the_tool_on_a_folder(folder, anno_path, tmp_path):
    options = ["--unlabeled_dir", "data/unlabeled2017", "--output_dir", "my #1 out"]
    result = tool(tmp_path, "--anno_path", anno_path, *options)
    assert result.returncode == 0, result.stderr
    datasets = yaml_of(result.stdout)
    assert datasets["TrainDataset"]["anno_path"] == "annotations/train.json"
    assert datasets["UnsupTrainDataset"]["image_dir"] == "unlabeled2017"
    assert datasets["UnsupTrainDataset"]["anno_path"] == str(tmp_path / "my #1 out" / "unlabeled2017-unlabeled.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--percent", "0.5"], "error: 0.5 % of the 8 images"),
        (["--percent", "-1"], "error: percent -1 is not between 0 and 100"),
        (["--percent", "1", "--anno_path", "none.json"], "none.json does not exist"),
        (["--images", "1", "--stratified", "--seeds", "4"], "with seed 4 that needs 2 images (25 %)"),
    ],
)
def test_mistakes_are_one_line(anno_path, arguments, message):
    content = json.loads(anno_path.read_text())
    for row in content["annotations"]:  # no image has both classes
        row["category_id"] = 3 if row["image_id"] < 5 else 7
    anno_path.write_text(json.dumps(content))
    result = execute("tools/gen_semi_coco.py", "--anno_path", anno_path, *arguments)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert message in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--percent", "1", "--images", "3"], "not allowed with argument"),
        ([], "one of the arguments --percent --images --unlabeled_dir is required"),
        (["--unlabeled_dir", "x", "--stratified"], "--unlabeled_dir draws no images"),
        (["--percent", "1", "--seeds", "-1"], "expected a whole number of at least 0"),
    ],
)
def test_options_that_do_not_go_together(arguments, message):
    result = execute("tools/gen_semi_coco.py", "--anno_path", "a.json", *arguments)
    assert result.returncode == 2 and message in result.stderr


def test_the_tool_needs_no_paddle(anno_path):
    code = (
        "import sys; from ppdet.data.splitting.split import split_annotations;"
        f"split_annotations({str(anno_path)!r}, percents=[50]); print('paddle' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
    assert "examples:" in tool(ROOT, "--help").stdout
