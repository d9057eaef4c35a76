"""Measure how well `ppdet data check --model` finds faulty labels: faults of known places are put into a data set.

A share of the labels gets another class; a share is shifted by half of its width or height; a share is deleted; and as
many spurious labels are added, with the size and class of random others. A fault counts as found if a listed label or
detection of its image has an IoU of 0.5 or more with the object, or with the faulty box. All that is listed besides is
false. The data set itself has no faults that are known. The detector is one that was trained before; with --train, the
quick start's is trained on the labels with the faults first, as that of somebody who does not know of them would be.
"""

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from common import ROOT, make_parser, report

EXAMPLES = """examples:
  python benchmarks/label_noise.py output/fcos_r18_fpn_shapes                 # after ppdet quickstart
  python benchmarks/label_noise.py output/fcos_r18_fpn_shapes --split val     # images that it was not trained on
  python benchmarks/label_noise.py --train --share 0.05
"""
SHAPES = ROOT / "dataset" / "shapes" / "data"
KINDS = ("class swapped", "box shifted by half", "label deleted", "spurious label added")
SAME = 0.5  # IoU


class Fault(NamedTuple):
    """A faulty label: its image's id, one of KINDS, and the boxes x1, y1, x2, y2 that would show it."""

    image: int
    kind: str
    boxes: list[list[float]]


def main() -> None:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("run", nargs="?", help="folder of a trained detector's run")
    parser.add_argument("--data", type=Path, default=SHAPES, help="folder of COCO files (default: dataset/shapes/data)")
    parser.add_argument("--image_dir", type=Path, help="of the split (default: images/SPLIT of --data)")
    parser.add_argument("--split", default="train", help="name of the annotation file (default: train)")
    parser.add_argument("--share", type=float, default=0.05, help="share of the labels for each fault (default: 0.05)")
    parser.add_argument("--seed", type=int, default=1, help="of the faults (default: 1)")
    parser.add_argument("--train", action="store_true", help="train the quick start's detector on the faulty labels")
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "label_noise", help="for files and runs")
    arguments = parser.parse_args()
    if (arguments.run is None) != arguments.train:
        parser.error("name the run of a trained detector, or --train")

    content = json.loads((arguments.data / "annotations" / f"{arguments.split}.json").read_text())
    labels = len(content["annotations"])
    faults = put_faults(content, arguments.share, random.Random(arguments.seed))  # nosec B311
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / f"{arguments.split}_{arguments.share:g}.json"
    path.write_text(json.dumps(content))
    images = arguments.image_dir or arguments.data / "images" / arguments.split
    run = arguments.run or train(path, arguments.data, arguments.output)
    rows, listed, right = judge(faults, *list_doubts(path, images, run))
    title = f"{len(faults)} faults in {labels} labels of {path.name}: {listed} listed, {right} of them right"
    report(title, ["fault", "number", "found", f"found among the first {len(faults)} listed"], rows, arguments.json)


def put_faults(content: dict[str, Any], share: float, draw: random.Random) -> list[Fault]:
    """Change the annotations of a COCO file, and return what was done."""
    rows, classes = content["annotations"], [row["id"] for row in content["categories"]]
    sides = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    number = round(share * len(rows))
    chosen = draw.sample(range(len(rows)), 3 * number)
    originals = [(row["category_id"], list(row["bbox"])) for row in rows]
    faults, deleted = [], set()
    for place, index in enumerate(chosen):
        row, kind = rows[index], KINDS[place // number]
        boxes = [corners(row["bbox"])]
        if kind == "class swapped":
            row["category_id"] = draw.choice([other for other in classes if other != row["category_id"]])
        elif kind == "box shifted by half":
            axis = draw.randrange(2)
            row["bbox"] = list(row["bbox"])
            row["bbox"][axis] += draw.choice([-0.5, 0.5]) * row["bbox"][2 + axis]
            boxes.append(inside(corners(row["bbox"]), *sides[row["image_id"]]))
            row["bbox"] = [*boxes[1][:2], boxes[1][2] - boxes[1][0], boxes[1][3] - boxes[1][1]]
        else:
            deleted.add(index)
        faults.append(Fault(row["image_id"], kind, boxes))
    content["annotations"] = [row for index, row in enumerate(rows) if index not in deleted]
    for new in range(number):
        label, (_, _, width, height) = draw.choice(originals)
        image, (whole_width, whole_height) = draw.choice(list(sides.items()))
        box = [draw.uniform(0, whole_width - width), draw.uniform(0, whole_height - height), width, height]
        fixed = {"id": 10**9 + new, "image_id": image, "category_id": label, "iscrowd": 0}
        content["annotations"].append({**fixed, "bbox": box, "area": width * height})
        faults.append(Fault(image, KINDS[3], [corners(box)]))
    return faults


def corners(box: list[float]) -> list[float]:
    return [box[0], box[1], box[0] + box[2], box[1] + box[3]]


def inside(box: list[float], width: float, height: float) -> list[float]:
    return [min(max(value, 0), side) for value, side in zip(box, (width, height) * 2)]


def train(path: Path, data: Path, output: Path) -> str:
    """Train the quick start's detector on an annotation file, and return its run."""
    folder = output / f"trained_on_{path.stem}"
    options = [f"save_dir={folder}", f"TrainDataset.anno_path={path.resolve()}"]
    options += [f"{name}Dataset.dataset_dir={data.resolve()}" for name in ("Train", "Eval", "Test")]
    command = [sys.executable, "-m", "ppdet", "train", "-c", "fcos_r18_fpn_shapes", "-o", *options]
    subprocess.run(command, check=True, cwd=ROOT)  # nosec B603
    return str(folder / "fcos_r18_fpn_shapes")


def list_doubts(path: Path, images: Path, run: str) -> tuple[list, list[str]]:
    """All doubts as (image id, doubt), the most certain ones of all kinds first, and the kinds."""
    import argparse

    from ppdet.data.checking.listed_split import read_split
    from ppdet.engine.label_noise import KINDS as DOUBTS
    from ppdet.engine.label_noise import detect_in_splits, split_doubts
    from ppdet.engine.runs.trained import trained_config

    cfg = trained_config(argparse.Namespace(run=run, opt=[]), "TestReader")
    split = read_split(str(path.resolve()), str(images.resolve()))
    (rows,) = detect_in_splits([split], cfg, split.files)
    doubts = [(int(record["im_id"][0]), doubt) for record, doubt in split_doubts(split, rows)]
    return sorted(doubts, key=lambda pair: -pair[1].certainty), list(DOUBTS)


def judge(faults: list[Fault], doubts: list, kinds: list[str]) -> tuple[list[list[object]], int, int]:
    """The rows of the table, the number of doubts, and how many of them are right."""
    import numpy as np

    from ppdet.utils.boxes import pairwise_overlap

    found: dict[int, int] = {}  # the fault's number -> the place of the first doubt that shows it
    right, false = 0, Counter()
    for place, (image, doubt) in enumerate(doubts):
        shown = [
            number
            for number, fault in enumerate(faults)
            if fault.image == image and (pairwise_overlap(np.array(fault.boxes), doubt.boxes) >= SAME).any()
        ]
        for number in shown:
            found.setdefault(number, place)
        right += bool(shown)
        false[doubt.kind] += not shown
    rows: list[list[object]] = []
    for kind in KINDS:
        places = [found.get(number) for number, fault in enumerate(faults) if fault.kind == kind]
        early = sum(place is not None and place < len(faults) for place in places)
        rows.append([kind, len(places), sum(place is not None for place in places), early])
    listed = Counter(doubt.kind for _, doubt in doubts)
    for kind in kinds:
        print(f"{kind}: {listed[kind]} listed, {false[kind]} of them false")
    return rows, len(doubts), right


if __name__ == "__main__":
    main()
