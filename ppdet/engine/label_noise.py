"""Labels that a trained detector contradicts: its certain detections, and the boxes of an annotation file.

benchmarks/label_noise.py measures how many labels of known faults are found; CERTAIN, SAME and FAINT are chosen by it.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ppdet.core.config import Config
from ppdet.data.checking.found import Example, Found
from ppdet.data.checking.listed_split import ListedSplit
from ppdet.data.classes import quote_names
from ppdet.engine.results_file import read_results, set_image_ids, with_category_ids
from ppdet.utils.boxes import pairwise_overlap, to_corners
from ppdet.utils.errors import DataError
from ppdet.utils.formats.coco_annotations import Annotations
from ppdet.utils.formats.coco_file import short_repr
from ppdet.utils.printable import counted, printable

CERTAIN = 0.3  # score from which a detection may contradict a label
FAINT = 0.1  # score below which a detection does not confirm a box
SAME = 0.5  # IoU from which a detection and a box mean the same object
APART = 0.1  # IoU up to which they have nothing to do with each other
MOST_SHOWN = 50  # pictures of each kind
KINDS = {
    "other class": "boxes on which a certain detection of another class lies",
    "shifted box": "boxes from which a certain detection of their class differs in place or size",
    "missing box": "certain detections where no box is",
    "no object": "boxes where nothing of their class was detected",
}
Rows = dict[int, np.ndarray]  # by image id: detections (M, 6) of [class of the split, score, x1, y1, x2, y2]
Progress = Callable[[Iterable, int], Iterable]  # wraps an iterator of that length


class Doubt(NamedTuple):
    """A label that may be wrong.

    kind: one of KINDS. certainty: from 0 to 1, comparable within a kind. boxes: (M, 4) x1, y1, x2, y2 of the label, of
    the detection or of both. labels: the class of each. text: what contradicts what.
    """

    kind: str
    certainty: float
    boxes: np.ndarray
    labels: list[int]
    text: str


def noise_by_model(
    splits: Sequence[ListedSplit], cfg: Config, readable: Sequence[str], progress: Progress
) -> list[Found]:
    """Detect in the images of the splits, and return what looks like an error of labelling; see `detect_in_splits`."""
    detected = detect_in_splits(splits, cfg, readable, progress)
    return [one for split, rows in zip(splits, detected) for one in _of_split(split, rows)]


def detect_in_splits(
    splits: Sequence[ListedSplit],
    cfg: Config,
    readable: Sequence[str],
    progress: Progress = lambda items, total: items,
) -> list[Rows]:
    """Detect in the images of the splits, and return the detections of each split.

    Args:
        cfg: the configuration of a trained model, with `weights`.
        readable: the images that can be read.
        progress: wraps the detections, an iterator, to show a progress bar.

    Raises:
        DataError: the model and a split have no class in common. ConfigError, CheckpointError: see `Predictor`.
    """
    from ppdet.engine.predictor import Predictor

    predictor = Predictor(cfg)
    names = predictor.dataset.class_names
    for split in splits:
        if not set(names) & set(split.dataset.class_names):
            raise DataError(
                f"{split.path} has classes {quote_names(split.dataset.class_names)}, and the model "
                f"{quote_names(names)}: name a model that was trained on such classes"
            )
    if not readable:
        return [{} for _ in splits]
    paths = list(dict.fromkeys(readable))
    rows_of = {paths[number]: rows for number, rows in progress(predictor.detect(paths), len(paths))}
    return [_of_images(split, rows_of, names) for split in splits]


def _of_images(split: ListedSplit, rows_of: dict[str, np.ndarray], names: Sequence[str]) -> Rows:
    """The detections of a split's images, with its classes; those of other classes are left out."""
    places = {name: place for place, name in enumerate(split.dataset.class_names)}
    numbers = np.array([places.get(name, -1) for name in names])
    found: Rows = {}
    for record in split.dataset.records:
        rows = rows_of.get(record["im_file"])
        if rows is not None:
            rows = np.concatenate([numbers[rows[:, :1].astype(int)], rows[:, 1:]], axis=1)
            found[record["im_id"].item()] = rows[rows[:, 0] >= 0]
    return found


def label_noise(splits: Sequence[ListedSplit], path: Path) -> list[Found]:
    """Compare the boxes of the splits with a file of detections, and return what looks like an error of labelling.

    Args:
        path: COCO results, as `ppdet infer --save_results true` writes them, with low scores too. Those without a
            `file_name`, as `ppdet eval` writes them, belong to the only split. An image without results was not seen.

    Raises:
        DataError: the file is not a list of COCO results, or does not say which split its detections belong to.
    """
    results = read_results(path)
    if len(splits) > 1 and any("file_name" not in result for result in results):
        raise DataError(f"{path}: its results have no file_name: name the one COCO file that they belong to")
    return [one for split in splits for one in _of_split(split, _in_file(splits, split, results, path))]


def _in_file(splits: Sequence[ListedSplit], split: ListedSplit, results: list[dict[str, Any]], path: Path) -> Rows:
    """The detections of a split's images in a file.

    They are found by the path of the image, and by its name alone where no split has an image of this path.
    """
    files = {os.path.realpath(file) for file in split.files}
    others = {os.path.realpath(file) for other in splits if other is not split for file in other.files}
    names = {os.path.basename(file) for file in split.files} | {""}
    rows = []
    for result in results:
        name = str(result.get("file_name", ""))
        place = os.path.realpath(name) if "\0" not in name else name
        if place in files or (place not in others and os.path.basename(name) in names):
            rows.append(dict(result))
    set_image_ids(rows, path, split.dataset)
    places = {identity: place for place, identity in enumerate(split.dataset.category_ids)}
    found: dict[int, list[list[float]]] = {}
    for row in with_category_ids(rows, path, split.dataset):
        try:
            box, score = [float(value) for value in row["bbox"]], float(row["score"])
            values = [places[row["category_id"]], score, *box]
            found.setdefault(row["image_id"], []).append(values)
        except (KeyError, TypeError, ValueError):
            raise DataError(f"{path}: {short_repr(row)} is not a COCO result of {split.path}") from None
        if len(values) != 6 or not np.isfinite(values).all():
            raise DataError(f"{path}: {short_repr(row)} has no bbox of four numbers, or no score")
    return {
        image: np.concatenate([table[:, :2], to_corners(table[:, 2:])], axis=1)
        for image, table in ((image, np.array(rows)) for image, rows in found.items())
    }


def _of_split(split: ListedSplit, detected: Rows) -> list[Found]:
    """One finding for each kind of doubt, the most certain ones first."""
    examples: dict[str, list[tuple[float, Example]]] = {kind: [] for kind in KINDS}
    for record, doubt in split_doubts(split, detected):
        example = Example(record["im_file"], split.name, doubt.boxes, np.array(doubt.labels), doubt.text)
        examples[doubt.kind].append((doubt.certainty, example))
    lines = []
    for kind, shown in examples.items():
        if shown:
            best = [example for _, example in sorted(shown, key=lambda pair: -pair[0])]
            what = f"{printable(best[0].path)} ({best[0].text})"
            text = f"{split.name}: {counted(len(best), 'likely label error')}, {KINDS[kind]}, e.g. {what}: look at them"
            lines.append(Found(f"label noise, {kind}", "note", text, best[:MOST_SHOWN]))
    return lines


def split_doubts(split: ListedSplit, detected: Rows) -> list[tuple[dict[str, Any], Doubt]]:
    """The records of a split and their doubts. Images that `detected` lacks were not seen, and have none."""
    ignored = _ignored(split)
    doubts = []
    for record in split.dataset.records:
        rows = detected.get(record["im_id"].item())
        if rows is None:
            continue
        # What lies in a crowd, or on a box that is marked to be ignored, has no box that it could be compared with.
        inside = pairwise_overlap(rows[:, 2:], ignored.get(record["im_id"].item(), np.zeros((0, 4))), of_smaller=True)
        rows = rows[~(inside >= SAME).any(axis=1)]
        boxes, labels = record["gt_bbox"].astype(np.float64), record["gt_class"].reshape(-1)
        doubts += [(record, doubt) for doubt in image_doubts(boxes, labels, rows, split.dataset.class_names)]
    return doubts


def _ignored(split: ListedSplit) -> dict[int, np.ndarray]:
    """The boxes of crowds, and those marked `ignore`, by image id."""
    ids = [record["im_id"].item() for record in split.dataset.records]
    rows = split.content["annotations"]
    columns = Annotations(rows, image_ids=ids, category_ids=split.dataset.category_ids, path=split.path)
    boxes: dict[int, list[np.ndarray]] = {}
    for number in np.flatnonzero(columns.crowd | columns.ignore).tolist():
        boxes.setdefault(columns.image_ids[number], []).append(np.nan_to_num(columns.xyxy[number]))
    return {image: np.stack(of_image) for image, of_image in boxes.items()}


def image_doubts(boxes: np.ndarray, labels: np.ndarray, rows: np.ndarray, names: Sequence[str]) -> list[Doubt]:
    """The doubts of one image.

    Args:
        boxes: (K, 4) x1, y1, x2, y2 of the labels. labels: (K,) their classes.
        rows: detections (M, 6) of [class, score, x1, y1, x2, y2], with low scores too.
        names: of the classes.

    A label is confirmed by a detection of its class with an IoU of SAME or more. A certain detection that confirms none
    contradicts the label next to it that no certain detection confirms, or finds an object without a label.
    """
    classes, scores, found = rows[:, 0].astype(int), rows[:, 1], rows[:, 2:]
    overlap = pairwise_overlap(boxes, found)  # (K, M)
    is_class, is_same = labels[:, None] == classes, overlap >= SAME
    confirmed = np.where(is_class & is_same, scores, 0).max(axis=1, initial=0)
    is_open = confirmed < CERTAIN  # no certain detection has confirmed or contradicted the label yet
    doubts = []
    for number in np.flatnonzero(scores >= CERTAIN)[np.argsort(-scores[scores >= CERTAIN], kind="stable")].tolist():
        near, score, name = overlap[:, number], float(scores[number]), names[classes[number]]
        if (is_class & is_same)[:, number].any():
            continue
        of_other = is_open & is_same[:, number]
        partly = is_open & is_class[:, number] & (near > APART)
        doubted = of_other if of_other.any() else partly
        if doubted.any():
            place = int(np.where(doubted, near, -1).argmax())
            is_open[place] = False
            if of_other.any():
                text, shown = f"{name} {score:.2f} on a {names[labels[place]]}", [number]
                doubts.append(Doubt("other class", score, found[shown], [int(classes[number])], text))
            else:
                both = np.stack([boxes[place], found[number]])
                text = f"{name} {score:.2f} has an IoU of {near[place]:.2f} with the box"
                doubts.append(Doubt("shifted box", score, both, [int(labels[place])] * 2, text))
        elif not is_same[:, number].any():
            text = f"{name} {score:.2f}, no box"
            doubts.append(Doubt("missing box", score, found[[number]], [int(classes[number])], text))
    for place in np.flatnonzero(is_open & (confirmed < FAINT)).tolist():
        best = float(confirmed[place])
        text = f"{names[labels[place]]}, {f'only {best:.2f} detected' if best else 'nothing detected'}"
        doubts.append(Doubt("no object", 1 - best, boxes[[place]], [int(labels[place])], text))
    return doubts
