"""The quick start's data set: overlapping shapes on textured backgrounds, in COCO format.

Every image has its own random generator, seeded by (seed, split, number): the same arguments write the same files, and
a larger data set starts with the images of a smaller one.
"""

import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from ppdet.utils.disk.files import read_text, write_json

VERSION = 1  # increased when the pictures change: data of another version is generated again
# Name: number of corners, their radius relative to half the diameter (larger for fewer corners, so that areas are
# similar), and the radius of every second corner.
SHAPES = {"circle": (48, 1.0, 1.0), "square": (4, 1.15, 1.15), "triangle": (3, 1.25, 1.25), "star": (10, 1.25, 0.52)}
CLASS_NAMES = tuple(SHAPES)
SPLITS = ("train", "val")


@dataclass(frozen=True)
class Rule:
    """The conditions on a shape in a scene, each as (lowest, highest) fraction."""

    diameter: tuple[float, float] = (0.24, 0.6)  # relative to the side of the image
    inside: tuple[float, float] = (1.0, 1.0)  # part of the shape's area inside the image
    seen: tuple[float, float] = (0.6, 1.0)  # visible part of the earlier shape that this one covers most


PLAIN = Rule()
# Share of the images with a hard case, and the rules for its first shapes. The other shapes are plain.
HARD_CASES: dict[str, tuple[float, tuple[Rule, ...]]] = {
    "empty": (0.03, ()),
    "tiny": (0.04, (Rule(diameter=(0.06, 0.1)),)),
    "truncated": (0.06, (Rule(inside=(0.35, 0.75)),)),
    "occluded": (0.05, (PLAIN, Rule(seen=(0.3, 0.55)))),
}


def generate(
    output: Path, *, train: int = 600, val: int = 100, size: int = 128, seed: int = 0
) -> dict[str, Counter[str]] | None:
    """Write images/{train,val}/*.jpg and annotations/{train,val}.json to the folder `output`.

    Args:
        train, val: numbers of images.
        size: side of the square images in pixels, at least 96.
        seed: another seed draws other images.

    Returns:
        For each split, how often each class and each hard case occurs; None if all files existed already.

    Raises:
        OSError: `output` cannot be written.
    """
    counts = dict(zip(SPLITS, (train, val)))
    infos = {
        split: {
            "description": "ppdet shapes (generated)",
            "settings": {"version": VERSION, "images": counts[split], "size": size, "seed": seed},
        }
        for split in SPLITS
    }
    if all(_is_complete(output, split, infos[split]) for split in SPLITS):
        return None
    summary = {}
    with tqdm(total=train + val, unit=" images", desc="shapes", disable=not sys.stderr.isatty()) as bar:
        for split in SPLITS:
            summary[split] = _write_split(output, split, infos[split], bar)
    return summary


def draw_scene(rng: np.random.Generator, size: int, case: str = "plain") -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Draw one image.

    Args:
        size: side of the image in pixels.
        case: "plain" or a key of HARD_CASES.

    Returns:
        The image (size, size, 3) uint8 RGB, and {"class", "bbox", "area"} for each shape: bbox is [x, y, w, h] around
        the visible pixels of the shape, area their number. No shape is hidden completely.
    """
    image = _background(rng, size)
    top = np.full((size, size), -1, np.int32)  # index of the topmost shape at each pixel, -1: background
    areas: list[int] = []  # pixels of each shape inside the image before later shapes cover it
    classes: list[int] = []
    first_rules = HARD_CASES[case][1] if case in HARD_CASES else ()
    count = 0 if case == "empty" else max(len(first_rules), int(rng.integers(1, 6)))
    for number in range(count):
        rule = first_rules[number] if number < len(first_rules) else PLAIN
        kind = int(rng.integers(len(CLASS_NAMES)))
        mask = _place(rng, size, kind, rule, top, areas)
        if mask is None:
            continue  # no place was found
        _paint(rng, image, mask)
        top[mask > 127] = len(areas)
        areas.append(int((mask > 127).sum()))
        classes.append(kind)
    image += rng.normal(0, rng.uniform(0, 5), image.shape)
    image = np.clip(image, 0, 255).astype(np.uint8)
    return image, [_annotation(top == number, kind) for number, kind in enumerate(classes)]


def _annotation(seen: np.ndarray, kind: int) -> dict[str, Any]:
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    bbox = [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1]
    return {"class": kind, "bbox": bbox, "area": int(seen.sum())}


def _place(
    rng: np.random.Generator, size: int, kind: int, rule: Rule, top: np.ndarray, areas: list[int]
) -> np.ndarray | None:
    """Return the mask (size, size), 0..255, of a shape at a random place that fulfils `rule`; None if no try did."""
    for _ in range(60):
        diameter = size * np.exp(rng.uniform(*np.log(rule.diameter)))
        outline = _outline(kind, diameter, rng.uniform(0, 2 * np.pi))
        center = rng.uniform(0, size, 2)
        # The canvas has a border of one diameter, so that the part outside the image is counted too.
        border = int(np.ceil(diameter))
        canvas = np.zeros((size + 2 * border,) * 2, np.uint8)
        points = np.round((outline + center + border) * 16).astype(np.int32)
        cv2.fillPoly(canvas, [points], 255, cv2.LINE_AA, shift=4)
        mask = canvas[border : border + size, border : border + size]
        covers = mask > 127
        inside = covers.sum() / (canvas > 127).sum()
        if not rule.inside[0] <= inside <= rule.inside[1]:
            continue
        seen = np.bincount(top[(top >= 0) & ~covers], minlength=len(areas)) / np.array(areas)
        if not areas or rule.seen[0] <= seen.min() <= rule.seen[1]:
            return mask
    return None


def _outline(kind: int, diameter: float, angle: float) -> np.ndarray:
    """Return the corners (P, 2) of a shape around (0, 0), in pixels; `angle` in radians."""
    corners, outer, inner = SHAPES[CLASS_NAMES[kind]]
    numbers = np.arange(corners)
    angles = angle + 2 * np.pi * numbers / corners
    radius = diameter / 2 * np.where(numbers % 2 == 0, outer, inner)
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _paint(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray) -> None:
    """Paint the shape of the mask into the image (H, W, 3) float32, in a color that differs from the covered pixels."""
    beneath = image[mask > 127].mean(axis=0)
    for _ in range(20):
        color = _color(rng, saturation=(90, 255), value=(60, 255))
        if np.abs(color - beneath).sum() > 150:
            break
    surface = color * (1 + 0.18 * _gradient(rng, len(image)))[..., None]
    alpha = (mask / np.float32(255))[..., None]
    image += alpha * (surface - image)
    if rng.random() < 0.5:
        thickness = int(rng.integers(3, 6)) | 1
        edge = mask - cv2.erode(mask, np.ones((thickness, thickness), np.uint8))
        alpha = (edge / np.float32(255))[..., None]
        image += alpha * (color * np.float32(rng.choice([0.4, 0.6])) - image)


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a background (size, size, 3) float32, 0..255: two colors mixed by noise, a gradient or stripes."""
    first, second = (_color(rng, saturation=(0, 120), value=(30, 235)) for _ in range(2))
    second = first + (second - first) * 0.6  # textures must not hide the shapes
    style = rng.choice(["noise", "gradient", "stripes"])
    if style == "noise":
        cells = int(rng.choice([5, 10, 20, 40]))
        grid = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        mix = np.clip(cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC), -1, 1)
    else:
        mix = _gradient(rng, size)
        if style == "stripes":
            mix = np.sin(mix * rng.uniform(8, 40)).astype(np.float32)
    return first + (second - first) * (0.5 + 0.5 * mix[..., None])


def _gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return values (size, size) float32 that rise from -1 to 1 in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    mixed = np.float32(np.cos(angle)) * ramp[None] + np.float32(np.sin(angle)) * ramp[:, None]
    return mixed / np.abs(mixed).max()


def _color(rng: np.random.Generator, saturation: tuple[int, int], value: tuple[int, int]) -> np.ndarray:
    hsv = np.array([[[rng.integers(180), rng.integers(*saturation), rng.integers(*value)]]], np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)


def _write_split(output: Path, split: str, info: dict[str, Any], bar: tqdm) -> Counter[str]:
    settings = info["settings"]
    folder = output / "images" / split
    folder.mkdir(parents=True, exist_ok=True)
    # A split without annotations counts as incomplete, so that an interrupted call starts it again.
    _annotation_path(output, split).unlink(missing_ok=True)
    for old in folder.glob("*.jpg"):
        old.unlink()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    names, shares = list(HARD_CASES), [share for share, _ in HARD_CASES.values()]
    for number in range(1, settings["images"] + 1):
        rng = np.random.default_rng([settings["seed"], SPLITS.index(split), number])
        case = str(rng.choice(["plain", *names], p=[1 - sum(shares), *shares]))
        image, shapes = draw_scene(rng, settings["size"], case)
        name = f"{number:06d}.jpg"
        encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
        (folder / name).write_bytes(encoded.tobytes())
        height, width = image.shape[:2]
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for shape in shapes:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": shape["class"] + 1,
                    "bbox": shape["bbox"],
                    "area": shape["area"],
                    "iscrowd": 0,
                }
            )
            counts[CLASS_NAMES[shape["class"]]] += 1
        counts[case] += 1
        bar.update()
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(CLASS_NAMES)]
    content = {"info": info, "images": images, "annotations": annotations, "categories": categories}
    write_json(_annotation_path(output, split), content)
    return counts


def _annotation_path(output: Path, split: str) -> Path:
    return output / "annotations" / f"{split}.json"


def _is_complete(output: Path, split: str, info: dict[str, Any]) -> bool:
    try:
        content = json.loads(read_text(_annotation_path(output, split)))
        present = {path.name for path in (output / "images" / split).iterdir() if path.stat().st_size > 0}
        return content["info"] == info and {image["file_name"] for image in content["images"]} <= present
    except (OSError, ValueError, KeyError, TypeError):
        return False
