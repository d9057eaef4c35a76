"""What the check of a data set finds: one line for each kind of fault, with images that show it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ppdet.data.annotations import near_duplicates
from ppdet.data.checking.image_pass import ImageFacts, copies
from ppdet.data.checking.image_pass import near_duplicates as alike_groups
from ppdet.data.checking.leaks import left_out_of_training
from ppdet.data.checking.listed_split import ListedSplit
from ppdet.data.classes import quote_names
from ppdet.utils.boxes import clip_to_image, have_area, pairwise_overlap
from ppdet.utils.disk.images import files_below, is_image_name
from ppdet.utils.formats.coco_annotations import Annotations
from ppdet.utils.printable import counted, printable

DOUBLED = 0.9  # IoU from which two boxes of one class count as one object drawn twice
SUPPRESSED = 0.6  # IoU from which NMS keeps one of two boxes of a class
MOST_DETECTIONS = 100  # in an image, that evaluation counts
MOST_EXAMPLES = 24
LEAKING = 0.01  # share of the images for evaluation that training has, too, from which AP is wrong
SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Example:
    """An image that shows a finding: its boxes (M, 4) x1, y1, x2, y2 in pixels, classes (M,), and what is wrong."""

    path: str
    split: str
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    classes: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    text: str = ""


@dataclass(frozen=True)
class Found:
    """A finding.

    Attributes:
        kind: a short name, such as "missing images".
        severity: one of SEVERITIES. An error makes training fail or its numbers wrong; a note may be as it should.
        text: one line: how many, an example, what follows, what to do.
        examples: some images that show it.
    """

    kind: str
    severity: str
    text: str
    examples: Sequence[Example] = ()


def file_findings(splits: Sequence[ListedSplit]) -> list[Found]:
    """What is wrong with the files alone: all warnings of reading them, and how they fit each other."""
    found = [Found("annotations", "warning", f"{split.name}: {text}") for split in splits for text in split.findings]
    names = {split.name: sorted(split.dataset.class_names) for split in splits}
    first, *others = splits
    for other in others:
        if names[other.name] != names[first.name]:
            only = sorted(set(names[first.name]) ^ set(names[other.name]))
            text = f"{first.name} and {other.name} have different classes ({quote_names(only)}): list the same ones"
            found.append(Found("classes", "error", f"{text} in both; not all of them need boxes"))
    return found


def image_findings(splits: Sequence[ListedSplit], facts: dict[str, ImageFacts]) -> list[Found]:
    """What is wrong with the image files: missing, unreadable, of other sizes, copies, near-duplicates, not listed."""
    found = []
    for split in splits:
        bad = [path for path in dict.fromkeys(split.files) if not facts[path].size]
        missing = [path for path in bad if not os.path.exists(path)]
        unreadable = [path for path in bad if path not in set(missing)]
        total = len(set(split.files))
        if missing:
            text = f"{len(missing)} of {total} images missing, e.g. {printable(missing[0])}: training skips them"
            found.append(Found("missing images", "error", f"{split.name}: {text}"))
        if unreadable:
            what = f"{printable(unreadable[0])} ({facts[unreadable[0]].error})"
            text = f"{len(unreadable)} of {total} images unreadable, e.g. {what}: training skips them"
            found.append(Found("broken images", "error", f"{split.name}: {text}"))
        found += _size_findings(split, facts)
    return found + duplicate_findings(splits, facts) + _unlisted(splits)


def _size_findings(split: ListedSplit, facts: dict[str, ImageFacts]) -> list[Found]:
    examples, total = [], len(split.dataset)
    for record in split.dataset.records:
        size = facts[record["im_file"]].size
        if size and size != (record["h"], record["w"]):
            text = f"{size[1]} x {size[0]} pixels, listed as {record['w']} x {record['h']}"
            examples.append(_example(split, record, text))
    if not examples:
        return []
    what = f"{printable(examples[0].path)} is {examples[0].text}"
    text = (
        f"{len(examples)} of {total} images with another size than the file says, e.g. {what}: the image's size is "
        "used; were the boxes drawn on images of the listed size?"
    )
    return [Found("wrong sizes", "error", f"{split.name}: {text}", examples[:MOST_EXAMPLES])]


def duplicate_findings(splits: Sequence[ListedSplit], facts: dict[str, ImageFacts]) -> list[Found]:
    """Copies and near-duplicates, within the splits and across them."""
    alike = alike_groups(facts)
    alone = [[path] for path in facts.keys() - {path for group in alike for path in group}]
    groups = alike + sorted(alone)  # a single image may be in two splits
    left_out = set()
    for split in splits:
        left_out |= left_out_of_training(split, splits, facts, alike)[0]
    found = []
    for place, split in enumerate(splits):
        for other in splits[place + 1 :]:
            found += _in_both(split, other, groups, left_out)
    copied = {path: number for number, paths in enumerate(copies(facts)) for path in paths}
    for split in splits:
        found += _in_one(split, alike, copied)
    return found


def _in_both(one: ListedSplit, other: ListedSplit, groups: Sequence[Sequence[str]], left_out: set[str]) -> list[Found]:
    """Images of one split that another one has, too; `left_out` are those that a cleaned copy has not."""
    if one.is_evaluated and not other.is_evaluated:
        one, other = other, one
    ours, theirs = _records(one), _records(other)
    pairs = []
    for group in groups:
        of_other = [path for path in group if path in theirs]
        pairs += [(path, path if path in theirs else of_other[0]) for path in group if path in ours and of_other]
    if not pairs:
        return []
    examples = []
    for number, (a, b) in enumerate(pairs[: MOST_EXAMPLES // 2], start=1):
        examples.append(_example(one, ours[a], f"pair {number}"))
        examples.append(_example(other, theirs[b], f"pair {number}"))
    advice = "their figures are not independent"
    if other.is_evaluated and not one.is_evaluated:
        advice = "AP on images that were trained on says little about others; " + (
            "--fix leaves them out of training"
            if left_out.issuperset(ours_path for ours_path, _ in pairs)
            else "--fix leaves only copies out, since so many look alike. `ppdet data convert` with --split keeps such "
            "images together; if all your pictures look alike, as those of a fixed camera do, they are no fault"
        )
    text = (
        f"images of {one.name} that are in {other.name} too, or look like one there: {len(pairs)} of {len(ours)}, e.g. "
        f"{_names(pairs[0])}: {advice}"
    )
    leaks = len(pairs) > LEAKING * min(len(ours), len(theirs))
    return [Found("images in two splits", "error" if leaks else "warning", text, examples)]


def _in_one(split: ListedSplit, alike: Sequence[Sequence[str]], copied: dict[str, int]) -> list[Found]:
    records = _records(split)
    groups: dict[bool, list[list[str]]] = {True: [], False: []}  # whether two of them are copies
    for group in alike:
        ours = [path for path in group if path in records]
        numbers = [copied[path] for path in ours if path in copied]
        if len(ours) > 1:
            groups[len(set(numbers)) < len(numbers)].append(ours)
    meanings = {
        True: "they are the same file, perhaps with other boxes (--fix keeps the one with most boxes)",
        False: f"at most {near_duplicates.MOST_DIFFERENT} of {near_duplicates.BITS} bits of their hashes differ, as "
        "in frames of a video: they count as one picture when you judge how much data there is",
    }
    found = []
    for is_copy, shown in groups.items():
        if not shown:
            continue
        examples = [_example(split, records[path], f"group {i}") for i, g in enumerate(shown, 1) for path in g[:4]]
        number, kind = sum(len(group) - 1 for group in shown), "copies" if is_copy else "near-duplicates"
        images = counted(number, "image")
        text = f"{split.name}: {images} alike to others ({kind}), e.g. {_names(shown[0][:2])}: {meanings[is_copy]}"
        found.append(Found(kind, "warning" if is_copy else "note", text, examples[:MOST_EXAMPLES]))
    return found


def _records(split: ListedSplit) -> dict[str, dict]:
    """The record of each image file."""
    return {record["im_file"]: record for record in split.dataset.records}


def _unlisted(splits: Sequence[ListedSplit]) -> list[Found]:
    """Images in the splits' folders that no split lists."""
    listed = {os.path.realpath(path) for split in splits for path in split.files}
    found = []
    for folder in dict.fromkeys(split.image_dir for split in splits):
        others = [path for path in files_below(folder) if is_image_name(path) and os.path.realpath(path) not in listed]
        if others:
            text = (
                f"{printable(folder)}: {counted(len(others), 'image')} that no file lists, e.g. {printable(others[0])}"
            )
            found.append(Found("images not listed", "note", f"{printable(folder)}: {text}"))
    return found


def box_findings(splits: Sequence[ListedSplit], facts: dict[str, ImageFacts]) -> list[Found]:
    """What is wrong with the boxes: without area, outside of their image, doubled, too close together, too many."""
    found = []
    for split in splits:
        rows = _annotations_of(split)
        unusable = _unusable(split, rows, facts)
        if unusable:
            text = f"{counted(len(unusable), 'box')} without area within the image, e.g. {unusable[0].text} in "
            text = split.unusable or f"{text}{printable(unusable[0].path)}: they are not trained on"
            text = f"{split.name}: {text}"
            found.append(Found("boxes without area", "warning", text, unusable[:MOST_EXAMPLES]))
        doubled, close, empty, marked, full = [], 0, 0, 0, []
        crowded = set(rows.image[rows.crowd | rows.ignore].tolist())
        for number, record in enumerate(split.dataset.records):
            boxes, classes = record["gt_bbox"], record["gt_class"].reshape(-1)
            empty += not len(boxes) and number not in crowded
            marked += not len(boxes) and number in crowded and not split.is_evaluated
            full += [len(boxes)] * (len(boxes) > MOST_DETECTIONS)
            overlap = np.triu(pairwise_overlap(boxes, boxes), 1) * (classes[:, None] == classes)
            twice = np.argwhere(overlap >= DOUBLED)
            close += int(((overlap >= SUPPRESSED) & (overlap < DOUBLED)).sum())
            if len(twice):
                at = np.unique(twice)
                doubled.append(Example(record["im_file"], split.name, boxes[at], classes[at], f"{len(twice)} doubled"))
        if doubled:
            number = sum(int(example.text.split()[0]) for example in doubled)
            images = counted(len(doubled), "image")
            text = f"{counted(number, 'box')} drawn twice (same class, IoU of {DOUBLED} or more) in {images}"
            text = f"{split.name}: {text}, e.g. {printable(doubled[0].path)}: --fix leaves the second one out"
            found.append(Found("doubled boxes", "warning", text, doubled[:MOST_EXAMPLES]))
        if close:
            pairs = counted(close, "pair")
            text = f"{pairs} of boxes of one class with an IoU of {SUPPRESSED} or more: NMS keeps one detection of two"
            found.append(Found("crowding", "note", f"{split.name}: {text}"))
        if full:
            text = (
                f"{counted(len(full), 'image')} with more than {MOST_DETECTIONS} boxes (up to {max(full)}): AP counts"
            )
            text = f"{split.name}: {text} {MOST_DETECTIONS} detections an image, and keep_top_k sets how many there are"
            found.append(Found("crowding", "warning", text))
        if empty:
            text = f"{empty} of {len(split.dataset)} images without a box: left out unless allow_empty is true"
            found.append(Found("empty images", "note", f"{split.name}: {text}"))
        if marked:
            text = f"{marked} of {len(split.dataset)} images with boxes marked iscrowd or ignore alone"
            text += ": training leaves them out unless allow_empty is true"
            found.append(Found("empty images", "note", f"{split.name}: {text}"))
    return found


def _annotations_of(split: ListedSplit) -> Annotations:
    """All annotations of a file, whose images are counted as the split's records are."""
    ids = [int(record["im_id"][0]) for record in split.dataset.records]
    rows = split.content["annotations"]
    return Annotations(rows, image_ids=ids, category_ids=split.dataset.category_ids, path=split.path)


def _unusable(split: ListedSplit, rows: Annotations, facts: dict[str, ImageFacts]) -> list[Example]:
    """The boxes of listed images that have no area within their image, or are not numbers."""
    dataset = split.dataset
    sizes = [facts[record["im_file"]].size or (record["h"], record["w"]) for record in dataset.records]
    heights, widths = np.array(sizes, dtype=np.float64).reshape(-1, 2)[rows.image].T
    is_inside = clip_to_image(rows.xyxy, heights, widths)[1] & have_area(rows.xyxy)
    examples = []
    for row in np.flatnonzero(~is_inside & (rows.image >= 0)).tolist():
        record = dataset.records[rows.image[row]]
        box = rows.xywh[row]
        text = f"[{', '.join(f'{value:.6g}' for value in box)}]"
        where = np.nan_to_num(rows.xyxy[row : row + 1])
        examples.append(Example(record["im_file"], split.name, where, rows.category[row : row + 1], text))
    return examples


def _example(split: ListedSplit, record: dict, text: str) -> Example:
    return Example(record["im_file"], split.name, record["gt_bbox"], record["gt_class"].reshape(-1), text)


def _names(paths: Sequence[str]) -> str:
    return " and ".join(printable(os.path.basename(path)) for path in paths)
