"""What `ppdet infer --format` writes comes back by `ppdet data convert` with equal boxes."""

import json

import cv2
import numpy as np
import pytest

from ppdet.cli.data import main
from ppdet.data.annotations.pre_annotations import PreAnnotations
from ppdet.utils.formats.label_formats import BESIDE_IMAGES, FORMATS

NAMES = ["red cell", 'white & "<b>"', "Plättchen"]


def accept(tasks):
    """What Label Studio does when a person submits a prediction: its results become those of an annotation."""
    content = json.loads(tasks.read_text())
    for number, task in enumerate(content, start=1):
        (prediction,) = task["predictions"]
        task["id"] = number
        task["annotations"] = [{"id": number, "was_cancelled": False, "result": prediction["result"]}]
    tasks.write_text(json.dumps(content))


@pytest.mark.parametrize("kind", FORMATS)
def test_boxes_come_back(kind, tmp_path):
    rng = np.random.default_rng(0)
    images = tmp_path / "images"
    (images / "sub + x").mkdir(parents=True)
    paths = [str(images / name) for name in ("a 1.png", "sub + x/ü.png", "empty.png")]
    sizes = [(60, 80), (301, 333), (40, 40)]
    for path, (height, width) in zip(paths, sizes):
        cv2.imencode(".png", rng.integers(0, 255, (height, width, 3), dtype=np.uint8))[1].tofile(path)
    detections = {2: np.zeros((0, 6))}
    for index, (height, width) in enumerate(sizes[:2]):
        corners = rng.uniform(0, 1, (7, 2, 2))
        corners.sort(axis=1)
        corners = corners.reshape(7, 4) * [width, height, width, height]
        labels, scores = rng.integers(0, 3, 7), rng.uniform(0.3, 1, 7)
        detections[index] = np.column_stack([labels, scores, corners])
    written = PreAnnotations(kind, str(images)).write(detections, paths, NAMES, tmp_path / "out")
    if kind == "labelstudio":
        accept(written)
    source = tmp_path / "out" / kind
    options = ["--images", "keep"] if kind in BESIDE_IMAGES else ["--images", "keep", "--image_dir", str(images)]
    main(["convert", str(source), str(tmp_path / "back"), *options])
    assert not (tmp_path / "back" / "left_out.txt").exists()
    (file,) = (tmp_path / "back" / "annotations").glob("*.json")
    content = json.loads(file.read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    found = {image["id"]: image["file_name"] for image in content["images"]}
    assert sorted(name.rpartition("/")[2] for name in found.values()) == ["a 1.png", "empty.png", "ü.png"]
    assert set(names.values()) == set(NAMES)
    for path, rows in zip(paths, (detections[index] for index in range(3))):
        expected = [(NAMES[int(row[0])], *row[2:4], *(row[4:] - row[2:4])) for row in rows]
        back = [
            (names[one["category_id"]], *one["bbox"])
            for one in content["annotations"]
            if found[one["image_id"]].rpartition("/")[2] == path.rpartition("/")[2]
        ]
        assert [row[0] for row in back] == [row[0] for row in expected]
        # Corners are rounded to 0.01 pixels, so that a side is off by 0.01 at most.
        tolerance = 1e-3 if kind in ("yolo", "labelstudio") else 0.0101
        for one, other in zip(back, expected):
            assert one[1:] == pytest.approx(other[1:], abs=tolerance)
