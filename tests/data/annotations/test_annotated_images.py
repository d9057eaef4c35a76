"""Images that several annotations describe, or at another size than that of their file."""

from exported import BOX, converted, images

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
