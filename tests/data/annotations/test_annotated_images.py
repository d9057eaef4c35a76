"""Images that several annotations describe, or at another size than that of their file."""

import json

import pytest
from exported import BOX, converted, images, labelstudio_task

COCO_BOX = {"id": 1, "category_id": 1, "bbox": [10, 20, 20, 20]}


def coco(*names: str) -> dict:
    """COCO of images of 100 x 80 pixels with a box each."""
    return {
        "images": [{"id": i, "file_name": name, "width": 100, "height": 80} for i, name in enumerate(names)],
        "annotations": [{**COCO_BOX, "id": i + 1, "image_id": i} for i in range(len(names))],
        "categories": [{"id": 1, "name": "cat"}],
    }


def test_an_image_of_train_and_val_is_evaluated_and_not_trained_on(tmp_path):
    files = {"train.json": coco("a.png", "b.png", "c.png"), "val.json": coco("b.png"), "test.json": coco("c.png")}
    found, losses = converted(tmp_path, {**images("a.png", "b.png", "c.png"), **files})
    assert found == {"train": {"a.png": [BOX]}, "val": {"b.png": [BOX]}, "test": {"c.png": [BOX]}}
    assert losses == {
        "images that val has too left out of train": 1,
        "images that test has too left out of train": 1,
    }


SCALED = "images of another size than in the annotations, to which their boxes were scaled"
CSV_SIZES = "filename,width,height,class,xmin,ymin,xmax,ymax\n"


@pytest.mark.parametrize("scale", [2, 0.5], ids=["smaller", "larger"])
def test_boxes_of_images_that_were_resized_are_scaled(scale, tmp_path):
    """Pascal VOC's and CSV's boxes are pixels of the old size; Label Studio's are percent, and fit as they are."""
    width, height = int(100 * scale), int(80 * scale)
    x1, y1, x2, y2 = (side * scale for side in (10, 20, 30, 40))
    rows = f"a.png,{width},{height},cat,{x1},{y1},{x2},{y2}\n"
    task = labelstudio_task("b.png")
    task["annotations"][0]["result"][0].update(original_width=width, original_height=height)
    for name, export in (("a", CSV_SIZES + rows), ("b", [task])):
        files = {**images(f"{name}.png"), f"x.{'csv' if name == 'a' else 'json'}": export}
        found, losses = converted(tmp_path / name, files)
        assert found == {"all": {f"{name}.png": [BOX]}} and losses == ({SCALED: 1} if name == "a" else {})


def test_boxes_of_another_size_are_scaled_without_their_masks(tmp_path):
    content = coco("a.png")
    content["images"][0].update(width=200, height=160)
    content["annotations"][0].update(bbox=[20, 40, 40, 40], segmentation=[[20, 40, 60, 40, 60, 80]], iscrowd=0, score=1)
    found, losses = converted(tmp_path, {**images("a.png"), "a.json": content})
    assert found == {"all": {"a.png": [BOX]}}
    assert losses == {SCALED: 1, "masks and keypoints of boxes that were scaled left out": 1}
    row = json.loads((tmp_path / "out/annotations/all.json").read_text())["annotations"][0]
    assert "segmentation" not in row and row["score"] == 1 and row["area"] == 400


@pytest.mark.parametrize(
    ("rows", "boxes", "outside"),
    [
        ("a.png,200,100,cat,10,20,30,40\n", [BOX], 0),
        ("a.png,50,40,cat,10,20,30,40\na.png,50,40,cat,60,20,90,70\n", [BOX, ("cat", 60, 20, 30, 50)], 0),
        ("a.png,99,79,cat,10,20,30,40\n", [BOX], 0),
        ("a.png,200,100,cat,90,0,190,50\n", [("cat", 90, 0, 100, 50)], 1),
    ],
    ids=["another shape", "a size that is wrong", "one pixel", "outside"],
)
def test_boxes_that_cannot_be_scaled_stay_and_are_counted(rows, boxes, outside, tmp_path):
    found, losses = converted(tmp_path, {**images("a.png"), "a.csv": CSV_SIZES + rows})
    assert found == {"all": {"a.png": boxes}}
    left = "images of another size than in the annotations, whose boxes were left as they are: look whether they fit"
    far = "images with boxes that are mostly outside of them, as if drawn at another size"
    assert losses == ({left: 1, far: 1} if outside else {left: 1})
