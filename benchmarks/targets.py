"""Time of FCOS's training targets per image, for 1 to 1,000 boxes and for 3 and 1,203 classes.

Gt2FCOSTarget is compared with the definition in plain NumPy, which compares all locations with all boxes. Both must
compute the same targets. The image has 800x1067 pixels, padded to 896x1152: 21,486 locations on five levels.
"""

import argparse
from functools import partial

from common import make_parser, medians, report

EXAMPLES = """examples:
  python benchmarks/targets.py
  python benchmarks/targets.py --repeat 21 --json targets.json
"""
HEIGHT, WIDTH = 896, 1152
BOXES = (1, 18, 100, 1000)
CLASSES = (3, 1203)
STRIDES = (8, 16, 32, 64, 128)
BOUNDS = (-1, 64, 128, 256, 512, float("inf"))
RADIUS = 1.5
HEADER = ("boxes", "classes", "Gt2FCOSTarget ms", "all locations x all boxes ms", "times faster")


def parse_arguments() -> argparse.Namespace:
    return make_parser(__doc__, EXAMPLES).parse_args()


def random_boxes(count: int, classes: int) -> tuple:
    """Return boxes (M, 4) float32 of x1, y1, x2, y2, and classes (M, 1) int32.

    Sides are 8 to 600 pixels long, and their logarithm is distributed uniformly.
    """
    import numpy as np

    rng = np.random.default_rng(count)
    size = np.exp(rng.uniform(np.log(8), np.log(600), (count, 2)))
    center = rng.uniform(0, (WIDTH, HEIGHT), (count, 2))
    boxes = np.clip(np.concatenate([center - size / 2, center + size / 2], axis=1), 0, (WIDTH, HEIGHT) * 2)
    return boxes.astype(np.float32), rng.integers(classes, size=(count, 1)).astype(np.int32)


def define(boxes: object, classes: object) -> tuple:
    """Compute targets by comparing all locations with all boxes.

    Returns:
        Labels (R,), distances (R, 4) in strides, and centerness (R,).
    """
    import numpy as np

    parts = []
    for level, stride in enumerate(STRIDES):
        y, x = np.mgrid[: -(-HEIGHT // stride), : -(-WIDTH // stride)].reshape(2, -1, 1) * np.float32(stride)
        x, y = (x + stride / 2).astype(np.float32), (y + stride / 2).astype(np.float32)
        x1, y1, x2, y2 = boxes.T
        sides = np.stack([x - x1, y - y1, x2 - x, y2 - y])
        reach = np.float32(RADIUS * stride)
        center_x, center_y = (x1 + x2) / 2, (y1 + y2) / 2
        near = (np.abs(x - center_x) < reach) & (np.abs(y - center_y) < reach)
        longest = sides.max(axis=0)
        good = (sides.min(axis=0) > 0) & near & (longest > BOUNDS[level]) & (longest < BOUNDS[level + 1])
        areas = np.where(good, (x2 - x1) * (y2 - y1), np.float32(np.inf))
        box = areas.argmin(axis=1)
        row = np.arange(len(box))
        positive = good[row, box]
        left, top, right, bottom = chosen = sides[:, row, box] * positive
        ratio = np.minimum(left, right) * np.minimum(top, bottom)
        whole = np.maximum(np.maximum(left, right) * np.maximum(top, bottom), np.float32(1e-12))
        parts.append(((classes[box, 0] + 1) * positive, (chosen / np.float32(stride)).T, np.sqrt(ratio / whole)))
    return tuple(np.concatenate(column) for column in zip(*parts))


def main() -> None:
    arguments = parse_arguments()
    import numpy as np

    from ppdet.data.transforms import Gt2FCOSTarget

    assign = Gt2FCOSTarget().assign
    rows = []
    for classes in CLASSES:
        for count in BOXES:
            boxes, labels = random_boxes(count, classes)
            ours, theirs = assign(boxes, labels, HEIGHT, WIDTH), define(boxes, labels)
            # At the border of a region, rounding may put a location inside in one computation and outside in the other.
            different = (ours[0] != theirs[0]).sum()
            if different > 2 or not np.allclose(
                ours[2][ours[0] == theirs[0]], theirs[2][ours[0] == theirs[0]], atol=1e-5
            ):
                raise SystemExit(f"{count} boxes: the two computations disagree at {different} locations")
            stages = {
                "ours": partial(assign, boxes, labels, HEIGHT, WIDTH),
                "all": partial(define, boxes, labels),
            }
            seconds = medians(stages, arguments.repeat)
            rows.append((count, classes, *(1000 * seconds[k] for k in stages), seconds["all"] / seconds["ours"]))
    report(f"FCOS targets of one image of {HEIGHT}x{WIDTH}", HEADER, rows, arguments.json)


if __name__ == "__main__":
    main()
