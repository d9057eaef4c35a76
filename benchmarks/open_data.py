"""Time and memory to open a large data set: an annotation file of COCO's size, by one process and by several at once.

The file is random: 118,287 images and 740,000 boxes with polygons, as many as in COCO's train2017. The limit is msgspec
alone, which parses the fields that detection needs. Every measurement is a process of its own, with an empty cache but
where a row says otherwise. The peak memory of several processes is the sum of their peaks. A file of less than
16 MiB is not cached, and has no such row. With --files, as many empty image files are listed as well.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import ROOT, make_parser, report

EXAMPLES = """examples:
  python benchmarks/open_data.py
  python benchmarks/open_data.py --images 5000 --boxes 36781 --repeat 3
  python benchmarks/open_data.py --peer --ranks 8 --files 1000000     # pycocotools as well, and images without a file
"""
CLASSES = 80
# What a process of a measurement does, besides its first line, which prints the seconds and the peak memory in MiB.
MEASURE = """
import resource, sys, time
{imports}
start = time.perf_counter()
data = {call}
seconds = time.perf_counter() - start
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
OURS = (
    "from ppdet.data.sources import COCODataSet",
    "COCODataSet(image_dir='.', anno_path=sys.argv[1], data_fields=['image', 'gt_bbox', 'gt_class', 'is_crowd'])",
)
LIMIT = (
    "import msgspec\nfrom ppdet.utils.formats.coco_columns import _File",
    "msgspec.json.decode(open(sys.argv[1], 'rb').read(), type=_File)",
)
PEER = ("from pycocotools.coco import COCO", "COCO(sys.argv[1])")
FOLDER = (
    "from ppdet.data.sources import SemiCOCODataSet",
    "SemiCOCODataSet(image_dir=sys.argv[1], supervised=False)",
)


def write_annotations(path: Path, images: int, boxes: int) -> None:
    """Write a random file of COCO's form; images are 640 x 480, and polygons have 8 to 30 corners."""
    import numpy as np

    rng = np.random.default_rng(0)
    site = "http://images.cocodataset.org/train2017"
    with open(path, "w", encoding="utf-8") as stream:
        stream.write('{"info": {"year": 2017}, "images": [')
        for i in range(images):
            name = f"{i:012d}.jpg"
            image = {"license": 3, "file_name": name, "coco_url": f"{site}/{name}", "height": 480, "width": 640}
            image |= {"date_captured": "2013-11-14 11:18:45", "flickr_url": f"{site}/{name}", "id": i}
            stream.write((", " if i else "") + json.dumps(image))
        stream.write('], "annotations": [')
        for i, image in enumerate(np.sort(rng.integers(0, images, boxes)).tolist()):
            x, y, w, h = rng.uniform(1, 200, 4).round(2).tolist()
            polygon = rng.uniform(0, 400, 2 * int(rng.integers(8, 31))).round(2).tolist()
            row = {"segmentation": [polygon], "area": round(w * h, 4), "iscrowd": 0, "image_id": image}
            row |= {"bbox": [x, y, w, h], "category_id": int(rng.integers(1, CLASSES + 1)), "id": i + 1}
            stream.write((", " if i else "") + json.dumps(row))
        classes = [{"id": i, "name": f"class {i}"} for i in range(1, CLASSES + 1)]
        stream.write(f'], "categories": {json.dumps(classes)}}}')


def run(what: tuple[str, str], argument: Path, cache: Path, ranks: int = 1) -> tuple[float, float]:
    """Start processes that do the same; return the seconds of the slowest one, and the sum of their peaks in MiB."""
    command = [sys.executable, "-c", MEASURE.format(imports=what[0], call=what[1]), str(argument)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PPDET_CACHE_HOME": str(cache)}
    processes = [
        subprocess.Popen(command, cwd=argument.parent, env=environment, stdout=subprocess.PIPE, text=True)  # nosec B603
        for _ in range(ranks)
    ]
    answers = [process.communicate()[0].splitlines()[-1].split() for process in processes]
    return max(float(seconds) for seconds, _ in answers), sum(float(memory) for _, memory in answers)


def main() -> None:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("--images", type=int, default=118_287, help="number of images (default: 118287)")
    parser.add_argument("--boxes", type=int, default=740_000, help="number of boxes (default: 740000)")
    parser.add_argument("--ranks", type=int, default=8, help="number of processes at once (default: 8)")
    parser.add_argument("--files", type=int, default=0, help="number of image files to list as well (default: 0)")
    parser.add_argument("--peer", action="store_true", help="measure pycocotools too")
    arguments = parser.parse_args()
    from ppdet.utils.formats.coco_cache import LEAST_BYTES

    measured: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = folder / "annotations.json"
        write_annotations(path, arguments.images, arguments.boxes)
        for number in range(arguments.repeat):
            cache = folder / f"cache{number}"
            rows = {
                "msgspec alone": (LIMIT, cache, 1),
                "ppdet, the first time": (OURS, cache, 1),
                "ppdet, from its cache": (OURS, cache, 1),
                f"ppdet, {arguments.ranks} ranks, the first time": (OURS, folder / f"ranks{number}", arguments.ranks),
            }
            if path.stat().st_size < LEAST_BYTES:
                del rows["ppdet, from its cache"]  # so small a file is not kept
            if arguments.peer:
                rows["pycocotools"] = (PEER, cache, 1)
            for name, (what, place, ranks) in rows.items():
                measured.setdefault(name, []).append(run(what, path, place, ranks))
        megabytes = path.stat().st_size / 1e6
        table = rows_of(measured, "msgspec alone")
        if arguments.files:
            images = folder / "images"
            make_files(images, arguments.files)
            name = f"listing {arguments.files:,} image files"
            table += rows_of({name: [run(FOLDER, images, folder) for _ in range(arguments.repeat)]}, name)
    title = f"Opening {arguments.images:,} images with {arguments.boxes:,} boxes ({megabytes:.0f} MB)"
    report(title, ["path", "seconds", "ratio to limit", "peak memory, MiB"], table, arguments.json)


def rows_of(measured: dict[str, list[tuple[float, float]]], limit: str) -> list[list[object]]:
    """Rows of the table, with medians."""
    middle = {name: [statistics.median(column) for column in zip(*pairs)] for name, pairs in measured.items()}
    return [[name, seconds, seconds / middle[limit][0], memory] for name, (seconds, memory) in middle.items()]


def make_files(folder: Path, count: int) -> None:
    """Make empty image files, 1,000 in each subfolder."""
    paths = [folder / f"{i // 1000:05d}" / f"{i:09d}.jpg" for i in range(count)]
    for path in paths[::1000]:
        path.parent.mkdir(parents=True)
    for path in paths:
        path.touch()


if __name__ == "__main__":
    main()
