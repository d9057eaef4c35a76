"""Draws detections on images, and pictures of training batches and of pseudo-labels."""

import colorsys
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from ppdet.utils.class_thresholds import Thresholds, is_kept
from ppdet.utils.disk.files import atomic_path
from ppdet.utils.errors import DataError
from ppdet.utils.locations import Locations
from ppdet.utils.printable import printable
from ppdet.visualize.box_drawing import draw_boxes
from ppdet.visualize.text import Color, is_legible, legend

MAX_BATCH_IMAGES = 8
PANEL_WIDTH = 480  # largest width and height of one image in a grid of images
# Most rows or columns that the libraries of these formats write.
LONGEST_SIDES = {".jpg": 65_500, ".jpeg": 65_500, ".png": 1_000_000}
LONGEST_NAME = 60  # characters of a class name that are drawn
LEVEL_COLORS = ((255, 80, 80), (255, 200, 0), (60, 220, 60), (60, 160, 255), (220, 90, 255), (0, 230, 230))


def class_color(index: int) -> Color:
    """The color of a class, always the same one; classes with close indices have very different colors."""
    # Steps of the golden ratio around the color circle never return to an earlier hue.
    hue = (0.02 + index * 0.61803398875) % 1.0
    saturation, value = ((0.85, 0.95), (0.55, 1.0), (1.0, 0.7))[(index // 12) % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return int(255 * red), int(255 * green), int(255 * blue)


def draw_detections(
    image_rgb: np.ndarray,
    rows: np.ndarray,
    class_names: Sequence[str],
    threshold: Thresholds = 0.5,
    shrinks: float = 1.0,
) -> np.ndarray:
    """Draw the detections whose score is at least `threshold`, the best ones on top.

    Args:
        image_rgb: (H, W, 3) uint8; it is not changed.
        rows: (M, 6) [class index, score, x1, y1, x2, y2] in pixels of this image.
        class_names: name of each class; the picture shows the index of a class that has no name.
        threshold: one number for all classes, or one for each.
        shrinks: see `draw_boxes`.

    Returns:
        The picture, (H, W, 3) uint8 RGB.
    """
    if image_rgb.ndim != 3 or image_rgb.shape[2] != 3 or image_rgb.dtype != np.uint8:
        raise ValueError(f"expected an RGB image (H, W, 3) of uint8, got {image_rgb.shape} of {image_rgb.dtype}")
    image = np.array(image_rgb, order="C")  # a writable copy, contiguous as OpenCV needs it
    rows = np.asarray(rows, dtype=np.float64)
    rows = rows.reshape(-1, 6) if rows.size == 0 else rows
    if rows.ndim != 2 or rows.shape[1] != 6:
        raise ValueError(f"draw_detections: expected rows of shape (M, 6), got {rows.shape}")
    rows = rows[np.isfinite(rows).all(axis=1) & (rows[:, 0] >= 0)]
    rows = rows[is_kept(rows[:, 1], rows[:, 0], threshold)]
    rows = rows[np.argsort(rows[:, 1], kind="stable")]
    labels = rows[:, 0].astype(int).tolist()
    texts = [f"{class_label(class_names, label)} {score:.2f}" for label, score in zip(labels, rows[:, 1])]
    draw_boxes(image, rows[:, 2:], [class_color(label) for label in labels], texts, shrinks)
    return image


def draw_batch(
    batch: dict[str, np.ndarray],
    path: str | Path,
    mean: Sequence[float],
    std: Sequence[float],
    locations: Locations,
    *,
    class_names: Sequence[str] | None = None,
    is_bgr: bool = False,
) -> None:
    """Write a picture of a training batch as the network sees it: at most 8 images in a grid, with a legend.

    Args:
        batch: `image` (N, 3, H, W) float, normalized. Optional: `gt_bbox` (N, M, 4) x1, y1, x2, y2 in pixels of these
            images; `gt_class` (N, M), where -1 is padding; `target_labels` (N, R), where 0 is background, for all R
            locations of all levels, finest level first, row by row.
        path: the picture's file; its suffix, .jpg or .png, decides the format.
        mean, std: three numbers each, with image = (pixel / 255 - mean) / std.
        locations: the grid of `target_labels`.
        class_names: see `draw_detections`.
        is_bgr: the channels are blue, green, red.

    Raises:
        ValueError: target_labels do not have R locations, or the suffix is unknown.
    """
    shown = batch_panels(batch, mean, std, locations, MAX_BATCH_IMAGES, class_names=class_names, is_bgr=is_bgr)
    panels, counts = map(list, zip(*shown))
    picture = _grid_of_panels(panels)
    if "target_labels" in batch:
        below = _level_legend(picture.shape[1], locations.strides, np.sum(counts, axis=0), "positive")
        picture = np.concatenate([picture, below])
    write_picture(picture, path)


def batch_panels(
    batch: dict[str, np.ndarray],
    mean: Sequence[float],
    std: Sequence[float],
    locations: Locations,
    most: int,
    *,
    class_names: Sequence[str] | None = None,
    is_bgr: bool = False,
    shrinks: float = 1.0,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw the first images of a training batch, at most `most`; see `draw_batch` for the other arguments and errors.

    Yields:
        The picture of an image, (H, W, 3) uint8 RGB, and its number of positive locations on each level, (L,).
    """
    images = np.asarray(batch["image"])[:most]
    height, width = images.shape[2:]
    grids = locations.levels(height, width)
    points = np.concatenate([grid.points() for grid in grids])
    levels = np.repeat(np.arange(len(grids)), [grid.rows * grid.columns for grid in grids])
    for number, planes in enumerate(images):
        panel, scale = _panel(planes, mean, std, is_bgr)
        _draw_truth(panel, batch, number, scale, class_names, shrinks)
        counts = np.zeros(len(grids), np.int64)
        if "target_labels" in batch:
            labels = np.asarray(batch["target_labels"])[number]
            if labels.shape != levels.shape:
                raise ValueError(
                    f"draw_batch: target_labels have {labels.shape} locations per image, expected {levels.shape} for "
                    f"images of {height} x {width} and strides {list(locations.strides)}"
                )
            counts += _draw_dots(panel, points[labels > 0], levels[labels > 0], scale, locations.strides)
        yield panel, counts


def draw_pseudo_labels(
    images: Sequence[np.ndarray],
    selected: Sequence[np.ndarray],
    mean: Sequence[float],
    std: Sequence[float],
    strides: Sequence[int],
    *,
    title: Sequence[str] = (),
    truth: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
    is_bgr: bool = False,
) -> np.ndarray:
    """Draw the locations at which a teacher gives pseudo-labels, in a grid of images, with a legend.

    Args:
        images: normalized images (3, H, W) float; their sizes may differ.
        selected: an array (K, 3) of x, y, level for each image, in pixels of this image.
        mean, std, is_bgr: see `draw_batch`.
        strides: stride of each level.
        title: parts of the line above the images.
        truth: annotated boxes (M, 4) x1, y1, x2, y2 and their classes (M,) of each image, drawn as thin lines.

    Returns:
        The picture, (H, W, 3) uint8 RGB.
    """
    panels, counts = [], np.zeros(len(strides), np.int64)
    for number, (planes, places) in enumerate(zip(images, selected)):
        panel, scale = _panel(planes, mean, std, is_bgr)
        for box, label in zip(*truth[number]) if truth else ():
            x1, y1, x2, y2 = np.round(box * scale).astype(int).tolist()
            cv2.rectangle(panel, (x1, y1), (x2, y2), class_color(int(label)), 1)
        counts += _draw_dots(panel, places[:, :2], places[:, 2].astype(np.int64), scale, strides)
        panels.append(panel)
    picture = _grid_of_panels(panels)
    width = picture.shape[1]
    heading = [legend(width, title)] if title else []
    return np.concatenate([*heading, picture, _level_legend(width, strides, counts, "selected")])


def has_room(suffix: str, picture: np.ndarray) -> bool:
    """Whether a file with this suffix can have as many rows and columns as a picture (H, W, 3)."""
    return max(picture.shape[:2]) <= LONGEST_SIDES.get(suffix.lower(), LONGEST_SIDES[".png"])


def write_picture(picture: np.ndarray, path: str | Path) -> None:
    """Write a picture (H, W, 3) uint8 RGB atomically; the path's suffix, .jpg or .png, decides the format.

    Raises:
        DataError: the suffix is not supported, or the picture is too long for it (see `has_room`).
        OSError: the file cannot be written; no part of it is left, and an older picture stays.
    """
    path = Path(path)
    if not has_room(path.suffix, picture):
        raise DataError(
            f"{path}: a picture of {picture.shape[0]} x {picture.shape[1]} pixels is too long for the format"
        )
    try:
        done, encoded = cv2.imencode(path.suffix, picture[..., ::-1])
    except cv2.error:
        done = False
    if not done:
        raise DataError(f"{path}: cannot write pictures of this kind, expected a name with .jpg or .png")
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(encoded.tobytes())
    except OSError as error:
        raise OSError(f"{path}: the picture cannot be written ({error.strerror or error})") from None


def _panel(planes: np.ndarray, mean: Sequence[float], std: Sequence[float], is_bgr: bool) -> tuple[np.ndarray, float]:
    """A normalized image (3, H, W) as a picture (H', W', 3) uint8 RGB in the size of a panel, and the scale H' / H."""
    height, width = planes.shape[1:]
    scale = min(PANEL_WIDTH / width, PANEL_WIDTH / height)
    pixels = (planes.transpose(1, 2, 0) * np.asarray(std) + np.asarray(mean)) * 255
    pixels = pixels[..., ::-1] if is_bgr else pixels
    panel = np.clip(np.round(np.nan_to_num(pixels)), 0, 255).astype(np.uint8, order="C")
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(panel, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), scale


def class_label(class_names: Sequence[str] | None, index: int) -> str:
    """The class's name, or its index if it has no name or no font has the name's characters."""
    name = class_names[index] if class_names is not None and index < len(class_names) else ""
    name = printable(" ".join(name.split()))
    name = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..."
    return name if name and is_legible(name) else str(index)


def _draw_truth(
    panel: np.ndarray,
    batch: dict[str, np.ndarray],
    number: int,
    scale: float,
    class_names: Sequence[str] | None,
    shrinks: float,
) -> None:
    """Draw the annotated boxes of image `number` of the batch."""
    if "gt_bbox" not in batch or "gt_class" not in batch:
        return
    labels = np.asarray(batch["gt_class"])[number].reshape(-1)
    boxes = np.asarray(batch["gt_bbox"])[number][labels >= 0] * scale
    labels = labels[labels >= 0].tolist()
    texts = [class_label(class_names, label) for label in labels]
    draw_boxes(panel, boxes, [class_color(label) for label in labels], texts, shrinks)


def _draw_dots(
    panel: np.ndarray, points: np.ndarray, levels: np.ndarray, scale: float, strides: Sequence[int]
) -> np.ndarray:
    """Draw a dot at each point, in the color of its level, and return the number of dots of each level.

    Args:
        points, levels: (K, 2) x, y in pixels of the network's input, and (K,).
        scale: size of the panel / size of the network's input.
    """
    finest = max(2, round(strides[0] * scale * 0.18))
    for (x, y), level in zip(points.tolist(), levels.tolist()):
        center = round(x * scale), round(y * scale)
        radius = finest if level == 0 else max(3, finest) + level  # coarser levels have larger dots
        cv2.circle(panel, center, radius + 1, (0, 0, 0), cv2.FILLED, cv2.LINE_AA)
        cv2.circle(panel, center, radius, LEVEL_COLORS[level % len(LEVEL_COLORS)], cv2.FILLED, cv2.LINE_AA)
    return np.bincount(levels, minlength=len(strides))


def _grid_of_panels(panels: list[np.ndarray]) -> np.ndarray:
    """Put the panels side by side, at most 4 in a row, on a white background."""
    columns = min(len(panels), 4 if len(panels) > 4 else 2 if len(panels) > 2 else len(panels))
    height, width = (max(panel.shape[axis] for panel in panels) for axis in (0, 1))
    gap = 6
    rows = -(-len(panels) // columns)
    picture = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, np.uint8)
    for number, panel in enumerate(panels):
        top = gap + (number // columns) * (height + gap)
        left = gap + (number % columns) * (width + gap)
        picture[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
    return picture


def _level_legend(width: int, strides: Sequence[int], counts: np.ndarray, word: str) -> np.ndarray:
    """A legend with entries such as "stride 8: 120 positive", each with a dot in the level's color."""
    entries = [f"stride {stride}: {count} {word}" for stride, count in zip(strides, counts.tolist())]
    return legend(width, entries, LEVEL_COLORS)
