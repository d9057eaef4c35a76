"""Time of COCO evaluation: from arrays of detections to the twelve numbers.

Annotations and detections are random: 36,781 boxes of 80 classes on 5,000 images, as many as in COCO's val2017, and 100
detections per image, half of them near a box. The limit is hotcoco alone, with its objects already built. The option
--peer also measures pycocotools, which takes most of a minute.
"""

import contextlib
import io
import json
import statistics
import tempfile
import time
from pathlib import Path

from common import make_parser, report

EXAMPLES = """examples:
  python benchmarks/evaluate.py
  python benchmarks/evaluate.py --peer --repeat 1                # pycocotools as well, and the numbers side by side
  python benchmarks/evaluate.py --images 500 --detections 50000
"""
CLASSES = 80
BOXES_PER_IMAGE = 36781 / 5000


def make_data(images: int, detections: int, seed: int) -> tuple:
    """Return COCO annotations, detections, and the number of detections in each image (N,).

    The detections are rows (M, 6) float32 of [class, score, x1, y1, x2, y2], sorted by image.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    count = round(images * BOXES_PER_IMAGE)
    image, label = rng.integers(0, images, count), rng.integers(0, CLASSES, count)
    size = np.exp(rng.normal(4, 1, (count, 2))).clip(4, 400)
    corner = rng.uniform(0, [640, 480], (count, 2))
    annotations = [
        {"id": i + 1, "image_id": int(n), "category_id": int(c) + 1, "bbox": [*xy, *wh], "area": wh[0] * wh[1]}
        for i, (n, c, xy, wh) in enumerate(zip(image, label, corner.tolist(), size.tolist()))
    ]
    for annotation, crowd in zip(annotations, rng.random(count) < 0.01):
        annotation["iscrowd"] = int(crowd)
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in range(images)],
        "annotations": annotations,
        "categories": [{"id": c + 1, "name": str(c + 1)} for c in range(CLASSES)],
    }
    source = rng.integers(0, count, detections)
    where = np.where(rng.random(detections) < 0.5, image[source], rng.integers(0, images, detections))
    what = np.where(rng.random(detections) < 0.8, label[source], rng.integers(0, CLASSES, detections))
    noise = rng.normal(0, 0.1, (detections, 4)) * np.tile(size[source], 2)
    boxes = np.concatenate([corner[source], corner[source] + size[source]], axis=1) + noise
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    rows = np.concatenate([what[:, None], rng.random((detections, 1)), boxes], axis=1).astype(np.float32)
    return content, rows[np.argsort(where, kind="stable")], np.bincount(where, minlength=images)


def run_ours(metric: object, rows: object, counts: object, batch: int) -> dict:
    """Update the metric batch by batch, as the evaluator does, and return the numbers."""
    import numpy as np

    ends = np.concatenate([[0], np.cumsum(counts)])
    metric.reset()
    for first in range(0, len(counts), batch):
        last = min(first + batch, len(counts))
        metric.update(rows[ends[first] : ends[last]], counts[first:last], np.arange(first, last))
    return metric.compute()


def library_objects(module: str, content: dict, results: list) -> object:
    """Return an evaluation object of `hotcoco` or `pycocotools` that has loaded all data."""
    if module == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    else:
        from hotcoco import COCO, COCOeval
    truth = COCO()
    truth.dataset = content
    truth.createIndex()
    return COCOeval(truth, truth.loadRes(results), "bbox")


def run_library(evaluation: object) -> list:
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return list(evaluation.stats[:12])


def main() -> None:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("--images", type=int, default=5000, help="number of images (default: 5000)")
    parser.add_argument(
        "--detections", type=int, default=500_000, help="number of detections in all images (default: 500000)"
    )
    parser.add_argument("--batch", type=int, default=1, help="images per update (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random data (default: 0)")
    parser.add_argument("--peer", action="store_true", help="measure pycocotools too, once")
    arguments = parser.parse_args()

    from ppdet.metrics import COCOMetric

    content, rows, counts = make_data(arguments.images, arguments.detections, arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "annotations.json"
        path.write_text(json.dumps(content))
        categories = [c["id"] for c in content["categories"]]
        metric = COCOMetric(anno_path=path, category_ids=categories, class_names=[str(c) for c in categories])
    seconds: dict[str, list] = {}
    numbers: dict[str, list] = {}

    def measure(name: str, run: object, *values: object) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            start = time.perf_counter()
            result = run(*values)
            seconds.setdefault(name, []).append(time.perf_counter() - start)
        numbers[name] = list(result.values()) if isinstance(result, dict) else result

    limit, ours, peer = "hotcoco alone", "ppdet", "pycocotools alone"
    for _ in range(arguments.repeat):
        measure(ours, run_ours, metric, rows, counts, arguments.batch)
        with contextlib.redirect_stdout(io.StringIO()):
            prepared = library_objects("hotcoco", content, metric.results)
        measure(limit, run_library, prepared)
        del prepared
    if arguments.peer:
        with contextlib.redirect_stdout(io.StringIO()):
            prepared = library_objects("pycocotools", content, metric.results)
        measure(peer, run_library, prepared)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    table = [
        [name, value, value / medians[limit], max(abs(a - b) for a, b in zip(numbers[name], numbers[ours]))]
        for name, value in medians.items()
    ]
    title = f"COCO evaluation of {arguments.images} images and {len(rows)} detections"
    header = ["path", "seconds", "ratio to limit", "largest difference of the twelve numbers"]
    report(title, header, table, arguments.json)


if __name__ == "__main__":
    main()
