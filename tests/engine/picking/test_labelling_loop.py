"""The labelling loop by its commands: pick images, detect in them, correct the labels, convert them."""

import json

import pytest
from noise import noisy, write_padded

from ppdet.cli import data, infer


def within_image(x, y, width, height):
    """The part of a box within an image of 77 x 101: no labelling tool takes more."""
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + width, 101), min(y + height, 77)
    return [left, top, right - left, bottom - top]


def test_picked_images_come_back_with_the_boxes_that_the_detector_proposed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    noisy(write_padded(tmp_path, images=4))
    detector = ["-c", "padded.yml", "-o", "weights=noise.pdparams", "device=cpu"]
    data.main(["pick", "data/images", *detector, "--number", "2"])
    picked = [line.rpartition("/")[2] for line in (tmp_path / "output/pick/pick.txt").read_text().splitlines()]
    listed = ["--infer_list", "output/pick/pick.txt", "--image_root", "data/images", "--draw_threshold", "0.5"]
    results = ["--save_results", "true", "--save_threshold", "0.5"]
    infer.main([*detector, *listed, *results, "--visualize", "false", "--format", "cvat"])
    data.main(["convert", "output/cvat", "back", "--image_dir", "data/images"])
    content = json.loads((tmp_path / "back" / "annotations" / "all.json").read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    classes = {category["id"]: category["name"] for category in content["categories"]}
    assert sorted(names.values()) == sorted(picked) and len(picked) == 2
    back = [(names[one["image_id"]], classes[one["category_id"]], one["bbox"]) for one in content["annotations"]]
    detected = [
        (one["file_name"].rpartition("/")[2], one["category_name"], within_image(*one["bbox"]))
        for one in json.loads((tmp_path / "output" / "bbox.json").read_text())
    ]
    assert len(detected) > 2
    assert sorted(row[:2] for row in back) == sorted(row[:2] for row in detected)
    for (name, label, box), (other_name, other_label, other) in zip(back, detected):
        assert (name, label) == (other_name, other_label) and box == pytest.approx(other, abs=0.0101)
    # A second call would overwrite labels that somebody may have corrected: it ends before the model is loaded.
    with pytest.raises(SystemExit):
        infer.main(["-c", "absent.yml", *listed, "--format", "cvat"])
    assert "labels in it may have been corrected" in capsys.readouterr().err
