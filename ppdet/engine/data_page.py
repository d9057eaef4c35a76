"""The page that `ppdet data check` writes: findings with pictures, tables, and histograms of the boxes."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from ppdet.data.checking.balance import class_rows
from ppdet.data.checking.data_check import Checked
from ppdet.data.checking.found import SEVERITIES, Example, Found
from ppdet.data.checking.listed_split import ListedSplit
from ppdet.data.transforms.decode import read_image
from ppdet.utils.errors import ImageError
from ppdet.visualize.box_drawing import draw_boxes
from ppdet.visualize.draw import class_color, class_label
from ppdet.visualize.pages import (
    Html,
    Picture,
    Section,
    Tag,
    bars,
    charts_in_row,
    element,
    gallery,
    heat_map,
    histogram,
    table,
    tiles,
    write_page,
)
from ppdet.visualize.pages.gallery import shrinks, thumbnail

MOST_PICTURES = 240  # on the page; each takes some 30 KB
SAMPLES = 12  # images of each split, drawn at random
MOST_CLASSES = 30  # in charts
CELLS = 16  # rows and columns of the map of centers


def write_data_page(
    path: Path,
    splits: Sequence[ListedSplit],
    found: Sequence[Found],
    checked: Checked,
    size: str,
    progress: Callable[[Sequence], Iterable] = iter,
) -> None:
    """Write the page of a checked data set.

    Args:
        found: all findings, of the files and of the images.
        size: of the network's input, such as "800 x 1333".
        progress: wraps the images that are drawn.

    Raises:
        OSError: it cannot be written; an older page stays.
    """
    counts = {severity: sum(one.severity == severity for one in found) for severity in SEVERITIES}
    boxes = sum(int(split.boxes_by_class().sum()) for split in splits)
    numbers = {"images": len(checked.facts), "boxes": boxes, "classes": len(class_rows(splits))}
    severe = {f"{severity}s": count for severity, count in counts.items()}
    order = sorted(found, key=lambda one: SEVERITIES.index(one.severity))
    lines = [element("li", element("strong", f"{one.severity}, {one.kind}: "), one.text) for one in order]
    shown = [(one.kind, example) for one in order for example in one.examples][:MOST_PICTURES]
    sections = [
        Section("Findings", [tiles({**numbers, **severe}), element("ul", *lines)]),
        _class_section(splits),
        _box_section(splits, checked, size),
    ]
    pictures = [_picture(splits, example, kind) for kind, example in progress(shown)]
    if any(pictures):
        section = Section("Images with findings", [gallery(one for one in pictures if one)])
        sections.insert(1, section)
    samples = [_picture(splits, example, example.split) for example in progress(_samples(splits))]
    note = f"{SAMPLES} of each split, drawn at random. Are the boxes where the objects are, and is none missing?"
    sections.append(Section("Some images", [gallery((one for one in samples if one), kind_title="split")], note))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_page(path, "Data check", sections, ", ".join(split.path for split in splits))


def _class_section(splits: Sequence[ListedSplit]) -> Section:
    names = [split.name for split in splits]
    rows = class_rows(splits)
    charts = []
    for place, name in enumerate(names):
        counts = {label: numbers[place] for label, numbers in list(rows.items())[:MOST_CLASSES]}
        charts.append(bars(f"boxes of each class: {name}", counts))
    splits_table = table(
        ("split", "images", "boxes", "boxes an image"),
        [
            (split.name, len(split.dataset), total, f"{total / max(1, len(split.dataset)):.1f}")
            for split in splits
            for total in [int(split.boxes_by_class().sum())]
        ],
    )
    class_numbers = table(("class", *names), [(label, *numbers) for label, numbers in rows.items()])
    return Section("Splits and classes", [splits_table, charts_in_row(charts), class_numbers])


def _box_section(splits: Sequence[ListedSplit], checked: Checked, size: str) -> Section:
    fit = checked.fit
    sides = fit.sides
    total = max(1, int(fit.positives.sum()))
    levels = {f"stride {stride}": 100 * int(count) / total for stride, count in zip(fit.strides, fit.positives)}
    edges = 2.0 ** np.arange(2, 11, 0.5)
    per_image = np.array([len(record["gt_bbox"]) for split in splits for record in split.dataset.records])
    most = int(per_image.max(initial=1))
    step = max(1, -(-most // 20))
    image_edges = np.arange(0, most + step + 1, step)
    ratios, centers = _shapes(splits, checked)
    ratio_edges = np.array([0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 1.25, 1.5, 2, 3, 5, 10])
    charts = [
        _histogram(f"box sizes at an input of {size}", sides, edges, "square root of the area, pixels"),
        bars("positive locations of each level", levels, " %", 100),
        _histogram("boxes an image", per_image, image_edges, "boxes"),
        _histogram("width / height of boxes", ratios, ratio_edges),
        heat_map(
            "where the centers of boxes are",
            (centers / max(1, centers.max(initial=0))).tolist(),
            [""] * CELLS,
            [""] * CELLS,
            [[str(count) for count in row] for row in centers.tolist()],
            "the whole width of the images, from left to right",
        ),
    ]
    rows = [
        (f"stride {stride}", int(boxes), int(count))
        for stride, boxes, count in zip(fit.strides, fit.located, fit.positives)
    ]
    note = (
        f"Of {len(sides)} boxes, {int(fit.is_missed.sum())} have no location at an input of {size} pixels, and "
        f"{int(fit.is_hidden.sum())} lose all of theirs to smaller boxes. Such boxes are not learned."
    )
    return Section(
        "Boxes and feature levels", [charts_in_row(charts), table(("level", "boxes", "locations"), rows)], note
    )


def _histogram(title: str, values: np.ndarray, edges: np.ndarray, unit: str = "") -> Html:
    """Values below the first edge and above the last one count in the first and the last bar."""
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return histogram(title, edges.tolist(), counts.tolist(), unit)


def _shapes(splits: Sequence[ListedSplit], checked: Checked) -> tuple[np.ndarray, np.ndarray]:
    """Width / height of all boxes (K,), and how many centers are in each cell of the image, (CELLS, CELLS)."""
    ratios, centers = [np.zeros(0)], np.zeros((CELLS, CELLS), np.int64)
    for split in splits:
        for record in split.dataset.records:
            height, width = checked.facts[record["im_file"]].size or (record["h"], record["w"])
            boxes = record["gt_bbox"].astype(np.float64)
            sides = boxes[:, 2:] - boxes[:, :2]
            ratios.append(sides[:, 0] / sides[:, 1])
            middle = (boxes[:, :2] + boxes[:, 2:]) / 2 / (width, height)
            cells = np.clip((middle * CELLS).astype(int), 0, CELLS - 1)
            np.add.at(centers, (cells[:, 1], cells[:, 0]), 1)
    return np.concatenate(ratios), centers


def _samples(splits: Sequence[ListedSplit]) -> list[Example]:
    """Some images of each split, the same ones every time."""
    examples = []
    for split in splits:
        records = split.dataset.records
        order = np.argsort(np.random.PCG64(1).random_raw(len(records)))[:SAMPLES]
        for record in (records[place] for place in sorted(order.tolist())):
            labels = record["gt_class"].reshape(-1)
            examples.append(Example(record["im_file"], split.name, record["gt_bbox"], labels))
    return examples


def _picture(splits: Sequence[ListedSplit], example: Example, kind: str) -> Picture | None:
    """The picture of an image with its boxes; None if it cannot be read."""
    image = _readable(example.path)
    if image is None:
        return None
    names = next(split.dataset.class_names for split in splits if split.name == example.split)
    small, scale = thumbnail(image)
    drawn = np.array(small, order="C")
    labels = example.classes.tolist()
    texts = [class_label(names, label) for label in labels]
    draw_boxes(drawn, example.boxes * scale, [class_color(label) for label in labels], texts, shrinks(drawn))
    tags = [Tag(names[label], kind) for label in sorted(set(labels))] or [Tag("", kind)]
    caption = ": ".join(text for text in (example.split, example.text) if text)
    return Picture(Path(example.path).name, [("", drawn)], tags, caption)


def _readable(path: str) -> np.ndarray | None:
    try:
        return read_image(path)
    except ImageError:
        return None
