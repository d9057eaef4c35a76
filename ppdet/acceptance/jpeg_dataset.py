"""Generates a COCO data set of JPEG files that are about as expensive to decode as photographs of the same size."""

import json
from pathlib import Path

import cv2
import numpy as np

BOXES = 7  # per image, the average of COCO
CLASSES = 80
QUALITY = 92  # of the JPEG files; a file of 640x384 then has about as many bytes as a photograph of COCO


def write_jpeg_dataset(folder: Path, *, count: int, size: tuple[int, int], seed: int = 0) -> None:
    """Write `count` images of `size` (height, width) to images/*.jpg, and their annotations to train.json."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    height, width = size
    images, annotations = [], []
    for number in range(1, count + 1):
        name = f"{number:06d}.jpg"
        cv2.imwrite(str(folder / "images" / name), textured(rng, height, width), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        sides = rng.uniform(0.05, 0.6, (BOXES, 2)) * (width, height)
        corners = rng.uniform(0, 1, (BOXES, 2)) * ((width, height) - sides)
        boxes = np.concatenate([corners, sides], axis=1)
        annotations += [
            {"image_id": number, "category_id": int(rng.integers(1, CLASSES + 1)), "bbox": box, "area": box[2] * box[3]}
            for box in boxes.tolist()
        ]
    content = {
        "images": images,
        "annotations": [{"id": n, "iscrowd": 0, **values} for n, values in enumerate(annotations, start=1)],
        "categories": [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)],
    }
    (folder / "train.json").write_text(json.dumps(content), encoding="utf-8")


def textured(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return a random image (height, width, 3) of uint8 with details of all sizes, as photographs have them."""
    image = np.full((height, width, 3), 128.0, np.float32)
    for cells, strength in ((4, 50), (16, 30), (64, 15)):
        grid = rng.normal(0, strength, (cells, cells, 3)).astype(np.float32)
        image += cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR)
    image += rng.normal(0, 9, image.shape).astype(np.float32)
    return image.clip(0, 255).astype(np.uint8)
