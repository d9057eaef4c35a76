"""Tables of a data set: images, boxes and classes of each split; and findings about their balance and sizes."""

from collections.abc import Sequence

import numpy as np

from ppdet.data.checking.found import Found
from ppdet.data.checking.level_fit import LevelFit
from ppdet.data.checking.listed_split import ListedSplit
from ppdet.data.classes import quote_names
from ppdet.utils.printable import columns, counted, padded, printable

FEW_BOXES = 20  # of a class in training
UNBALANCED = 20  # times more boxes of the most frequent class than of another one
TOLERATED = 0.01  # share of boxes without a location, without a warning


def overview(splits: Sequence[ListedSplit]) -> str:
    """A table with a line for each split."""
    width = max(8, *(columns(printable(split.name)) for split in splits))
    lines = [f"{'split':{width}} {'images':>7} {'boxes':>8} {'classes':>9} {'boxes an image':>16}  file"]
    for split in splits:
        counts = np.array([len(record["gt_bbox"]) for record in split.dataset.records])
        used = f"{np.count_nonzero(split.boxes_by_class())} of {len(split.dataset.class_names)}"
        each = f"{counts.mean():.1f} ({counts.min()}-{counts.max()})"
        lines.append(
            f"{padded(printable(split.name), width)} {len(counts):7d} {counts.sum():8d} {used:>9} {each:>16}  "
            f"{printable(split.path)}"
        )
    return "\n".join(lines)


def class_table(splits: Sequence[ListedSplit], most: int = 30) -> str:
    """A table with a line for each class: its boxes in each split, and their share."""
    rows = class_rows(splits)
    width = min(40, max(5, *(columns(printable(name)) for name in rows)))
    lines = [f"{'class':{width}} " + " ".join(f"{printable(split.name)[:15]:>15}" for split in splits)]
    totals = [max(1, int(split.boxes_by_class().sum())) for split in splits]
    for name, counts in list(rows.items())[:most]:
        cells = [f"{count} ({100 * count / total:.0f} %)" for count, total in zip(counts, totals)]
        lines.append(f"{padded(printable(name)[:width], width)} " + " ".join(f"{cell:>15}" for cell in cells))
    if len(rows) > most:
        lines.append(f"… and {len(rows) - most} more classes")
    return "\n".join(lines)


def class_rows(splits: Sequence[ListedSplit]) -> dict[str, list[int]]:
    """The number of boxes of each class in each split; the most frequent class comes first."""
    rows: dict[str, list[int]] = {}
    for place, split in enumerate(splits):
        for name, count in zip(split.dataset.class_names, split.boxes_by_class().tolist()):
            rows.setdefault(name, [0] * len(splits))[place] += count
    return dict(sorted(rows.items(), key=lambda item: -sum(item[1])))


def balance_findings(splits: Sequence[ListedSplit]) -> list[Found]:
    """Classes of which training has few boxes, or many times fewer than of another one."""
    found = []
    for split in splits:
        if split.is_evaluated:
            continue
        counts = dict(zip(split.dataset.class_names, split.boxes_by_class().tolist()))
        present = {name: count for name, count in counts.items() if count}
        rare = [name for name, count in present.items() if count < FEW_BOXES]
        if rare:
            text = f"{counted(len(rare), 'class')} with fewer than {FEW_BOXES} boxes ({quote_names(rare)})"
            found.append(Found("class balance", "warning", f"{split.name}: {text}: label more of them"))
        most = max(present.values(), default=0)
        least = min(present, key=lambda name: present[name], default="")
        if present and most > UNBALANCED * present[least]:
            text = (
                f"the most frequent class has {most / present[least]:.0f} times as many boxes as {quote_names([least])}"
            )
            found.append(Found("class balance", "note", f"{split.name}: {text}: look at AP class by class"))
    return found


def level_table(fit: LevelFit) -> str:
    """A table with a line for each level: boxes with a positive location on it, and these locations."""
    lines = [f"{'level':14} {'boxes':>9} {'positive locations':>20}"]
    total = max(1, int(fit.positives.sum()))
    for stride, boxes, count in zip(fit.strides, fit.located.tolist(), fit.positives.tolist()):
        lines.append(f"{f'stride {stride}':14} {boxes:9d} {f'{count} ({100 * count / total:.1f} %)':>20}")
    return "\n".join(lines)


def level_findings(fit: LevelFit, size: str) -> list[Found]:
    """Boxes without a location, and levels without boxes, at an input size, such as "800 x 1333"."""
    found = []
    count = len(fit.sides)
    missed, hidden = int(fit.is_missed.sum()), int(fit.is_hidden.sum())
    if missed:
        side = float(np.median(fit.sides[fit.is_missed]))
        text = (
            f"{missed} of {count} boxes ({100 * missed / count:.1f} %) without a location at {size} pixels, of "
            f"{side:.0f} pixels at the median: a larger input, --slice_infer or a finer level finds them"
        )
        found.append(Found("too small", "warning" if missed > TOLERATED * count else "note", text))
    if hidden:
        text = f"{hidden} of {count} boxes ({100 * hidden / count:.1f} %) without a location at {size} pixels: smaller"
        text += " boxes take them all"
        found.append(Found("hidden boxes", "warning" if hidden > TOLERATED * count else "note", text))
    starving = [f"stride {fit.strides[level]}" for level in fit.starving()]
    if starving:
        text = f"less than 1 % of the positive locations at {size} pixels are on {', '.join(starving)}: such a level"
        found.append(Found("levels", "note", f"{text} learns little; it costs little, and can stay"))
    return found
