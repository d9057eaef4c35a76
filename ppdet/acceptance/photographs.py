"""Data sets that are made on the spot: nothing has to be downloaded for measuring how fast training is."""

import json
from pathlib import Path

import cv2
import numpy as np

BOXES = 7  # of each image, as COCO's have on average
QUALITY = 92  # of the JPEG files; with this noise one of 640x384 takes about as many bytes as COCO's of that size


def write_photographs(folder: Path, *, count: int, size: tuple[int, int], classes: int = 80, seed: int = 0) -> Path:
    """Write `count` JPEG files of `size` (height, width) and their annotations; give the file of these.

    A COCO data set: images/000001.jpg, …, and train.json, with boxes of random classes.
    """
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    height, width = size
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, classes + 1)]
    images, annotations = [], []
    for number in range(1, count + 1):
        name = f"{number:06d}.jpg"
        cv2.imwrite(str(folder / "images" / name), textured(rng, height, width), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        sides = rng.uniform(0.05, 0.6, (BOXES, 2)) * (width, height)
        corners = rng.uniform(0, 1, (BOXES, 2)) * ((width, height) - sides)
        for (x, y), (w, h) in zip(corners.tolist(), sides.tolist()):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(rng.integers(1, classes + 1)),
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                }
            )
    path = folder / "train.json"
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def textured(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """An image (height, width, 3) of uint8 with detail of all sizes: what a JPEG decoder has to do depends on it."""
    image = np.full((height, width, 3), 128.0, np.float32)
    for cells, strength in ((4, 50), (16, 30), (64, 15)):
        grid = rng.normal(0, strength, (cells, cells, 3)).astype(np.float32)
        image += cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR)
    image += rng.normal(0, 9, image.shape).astype(np.float32)
    return image.clip(0, 255).astype(np.uint8)
