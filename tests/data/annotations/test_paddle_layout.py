"""tools/x2coco.py takes PaddleDetection's options, and writes the files that it writes."""

import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from ppdet.cli.x2coco import main

ROOT = Path(__file__).resolve().parents[3]
OBJECT = "<object><name>{}</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>11</xmax><ymax>22</ymax></bndbox></object>"


def image(path: Path) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    cv2.imwrite(str(path), np.zeros((48, 64, 3), np.uint8))


@pytest.fixture
def voc(tmp_path):
    (tmp_path / "Annotations").mkdir()
    for name, label in (("a", "cat"), ("b", "dog"), ("c", "cow")):
        image(tmp_path / "JPEGImages" / f"{name}.jpg")
        text = f"<annotation><filename>{name}.jpg</filename>{OBJECT.format(label)}</annotation>"
        (tmp_path / "Annotations" / f"{name}.xml").write_text(text)
    (tmp_path / "list.txt").write_text("JPEGImages/a.jpg a.xml\nb\nmissing\n")
    (tmp_path / "labels.txt").write_text("dog\ncat\n")
    return tmp_path


def test_pascal_voc(voc, capsys):
    options = f"--dataset_type voc --voc_anno_dir {voc}/Annotations --voc_anno_list {voc}/list.txt"
    main(
        [
            *options.split(),
            "--voc_label_list",
            f"{voc}/labels.txt",
            "--output_dir",
            str(voc),
            "--voc_out_name",
            "o.json",
        ]
    )
    content = json.loads((voc / "o.json").read_text())
    assert content["categories"] == [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    assert [row["file_name"] for row in content["images"]] == ["a.jpg", "b.jpg"]
    assert [(row["category_id"], row["bbox"]) for row in content["annotations"]] == [
        (2, [1.0, 2.0, 10.0, 20.0]),
        (1, [1.0, 2.0, 10.0, 20.0]),
    ]
    said = capsys.readouterr().out
    assert "names of the list without an XML file left out: 1 (missing)" in said and f"images: {voc}/JPEGImages" in said


def test_pascal_voc_as_the_help_says(voc, monkeypatch, capsys):
    """The file has no folder in its name, and no option of another command is advised."""
    monkeypatch.chdir(voc)
    lists = "--voc_anno_list list.txt --voc_label_list labels.txt"
    main(f"--dataset_type voc --voc_anno_dir Annotations {lists} --voc_out_name voc_train.json".split())
    assert len(json.loads((voc / "voc_train.json").read_text())["annotations"]) == 2
    said = capsys.readouterr().out
    assert f"images: {voc}/JPEGImages" in said and "next" not in said and "--split" not in said


def test_labelme(tmp_path, monkeypatch, capsys):
    for number in range(10):
        image(tmp_path / "images" / f"{number}.jpg")
        shape = {"label": "cat", "shape_type": "rectangle", "points": [[11, 22], [1, 2]]}  # drawn from the right
        content = {"imagePath": f"..\\images\\{number}.jpg", "imageWidth": 64, "imageHeight": 48, "shapes": [shape]}
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{number}.json").write_text(json.dumps(content))
    words = f"--dataset_type labelme --json_input_dir {tmp_path}/labels --image_input_dir {tmp_path}/images"
    shares = "--train_proportion 0.7 --val_proportion 0.3 --test_proportion 0"
    program = runpy.run_path(str(ROOT / "tools" / "x2coco.py"))
    monkeypatch.setattr(sys, "argv", ["x2coco.py", *words.split(), *shares.split(), "--output_dir", f"{tmp_path}/out"])
    program["main"]()
    for part, count in (("train", 7), ("val", 3)):
        content = json.loads((tmp_path / "out" / "annotations" / f"instance_{part}.json").read_text())
        assert {row["file_name"] for row in content["images"]} == {p.name for p in (tmp_path / "out" / part).iterdir()}
        assert [row["bbox"] for row in content["annotations"]] == [[1.0, 2.0, 10.0, 20.0]] * count
    assert not (tmp_path / "out" / "annotations" / "instance_test.json").exists()
    assert "--split" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--dataset_type voc", "needs --voc_anno_dir, --voc_anno_list, --voc_label_list"),
        ("--dataset_type cityscape", "invalid choice: 'cityscape'"),
        ("--dataset_type labelme --json_input_dir . --image_input_dir . --val_proportion 0.5", "add up to 1.5"),
        ("--dataset_type labelme --json_input_dir none --image_input_dir .", "none does not exist"),
    ],
)
def test_mistakes_are_one_line(options, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(options.split())
    assert end.value.code == 2 and message in capsys.readouterr().err
