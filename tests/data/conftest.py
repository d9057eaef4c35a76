"""Data that the tests make, and data that they read from ../shared if it exists."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest


class CocoBuilder:
    """A COCO data set under construction: add images, then write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.content = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 90, "name": "square"}, {"id": 7, "name": "disc"}],
        }
        (folder / "images").mkdir()

    def image(self, boxes: list, h: int = 48, w: int = 64, category: int = 7, **fields: int) -> int:
        """Adds a random image with COCO boxes [x, y, width, height]; returns its id."""
        identity = 10 + 3 * len(self.content["images"])
        name = f"{identity:04d}.png"
        pixels = np.random.default_rng(identity).integers(0, 256, (h, w, 3), dtype=np.uint8)
        cv2.imwrite(str(self.folder / "images" / name), pixels)
        self.content["images"].append({"id": identity, "file_name": name, "width": w, "height": h})
        for box in boxes:
            self.content["annotations"].append(
                {
                    "id": len(self.content["annotations"]) + 1,
                    "image_id": identity,
                    "category_id": category,
                    "bbox": box,
                    "iscrowd": 0,
                    **fields,
                }
            )
        return identity

    def arguments(self, content: object | None = None) -> dict:
        """Writes the JSON file; returns arguments for COCODataSet."""
        text = json.dumps(self.content if content is None else content)
        (self.folder / "train.json").write_text(text)
        return {"dataset_dir": str(self.folder), "image_dir": "images", "anno_path": "train.json"}


@pytest.fixture
def coco(tmp_path: Path) -> CocoBuilder:
    return CocoBuilder(tmp_path)
