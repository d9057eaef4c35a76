"""Time and memory of training on several ranks (gloo) that open a data set of COCO's size, up to their first step.

The annotation file is that of benchmarks/open_data.py, and its images are links to a few JPEG files. The ranks are
started by paddle.distributed.launch, train a light network for one step with a worker process each, and end. Memory is
the proportional set size (PSS) of all processes together, in which a page that K processes share counts K times a K-th.
The row of few images is the limit: what the same ranks need without a large file. Linux only.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import ROOT, make_parser, memory_mib, processes_from, report
from open_data import CLASSES, rows_of, write_annotations

EXAMPLES = """examples:
  python benchmarks/open_ranks.py
  python benchmarks/open_ranks.py --ranks 2 --images 5000 --boxes 36781
"""
FEW = 64  # images of the limit
LINKS = 30_000  # to one file, of which a file system allows 65,000 or more
CONFIG = """
_BASE_: [{root}/configs/fcos/fcos_r18vd_light.yml]
num_classes: {classes}
input_size: [96, 128]
max_iters: 1
auto_lr: null
worker_num: 1
TrainReader: {{batch_size: 1}}
TrainDataset: {{dataset_dir: {folder}, image_dir: images, anno_path: {file}}}
"""


def make_images(folder: Path, count: int) -> None:
    """Make image files of 640x480 with the names that `write_annotations` gives them."""
    from PIL import Image

    folder.mkdir()
    paths = [folder / f"{number:012d}.jpg" for number in range(count)]
    for first in range(0, count, LINKS):
        Image.new("RGB", (640, 480), (90, 120, 150)).save(paths[first])
        for path in paths[first + 1 : first + LINKS]:
            os.link(paths[first], path)


def train(config: Path, ranks: int, cache: Path) -> tuple[float, float]:
    """Train one step on several ranks. Return the seconds from the command to its end, and the peak memory in MiB.

    Raises:
        SystemExit: the run failed; the message is its own.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PPDET_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as output:
        launcher = ["paddle.distributed.launch", "--nproc_per_node", str(ranks), "--backend", "gloo"]
        tool = [str(ROOT / "tools" / "train.py"), "-c", str(config), "-o", f"save_dir={output}"]
        command = [sys.executable, "-m", *launcher, "--log_dir", output, *tool]
        console = Path(output, "console")
        start, peak = time.perf_counter(), 0.0
        with open(console, "w") as stream:
            job = subprocess.Popen(  # nosec B603
                command, cwd=ROOT, env=environment, stdout=stream, stderr=stream
            )
            while job.poll() is None:
                peak = max(peak, memory_mib(processes_from(job.pid)))
                time.sleep(0.2)
        if job.returncode:
            sys.exit(f"the run ended with exit code {job.returncode}: {console.read_text()[-3000:]}")
        return time.perf_counter() - start, peak


def main() -> None:
    parser = make_parser(__doc__, EXAMPLES)
    parser.set_defaults(repeat=1)
    parser.add_argument("--images", type=int, default=118_287, help="number of images (default: 118287)")
    parser.add_argument("--boxes", type=int, default=740_000, help="number of boxes (default: 740000)")
    parser.add_argument("--ranks", type=int, default=8, help="number of ranks (default: 8)")
    arguments = parser.parse_args()
    measured: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_images(folder / "images", arguments.images)
        write_annotations(folder / "few.json", FEW, 6 * FEW)
        write_annotations(folder / "large.json", arguments.images, arguments.boxes)
        for name in ("few", "large"):
            text = CONFIG.format(root=ROOT, classes=CLASSES, folder=folder, file=f"{name}.json")
            (folder / f"{name}.yml").write_text(text)
        for number in range(arguments.repeat):
            rows = {
                f"{FEW} images": "few",
                f"{arguments.images:,} images, the first time": "large",
                f"{arguments.images:,} images, from the cache": "large",
            }
            for row, config in rows.items():
                cache = folder / f"cache{number}"
                measured.setdefault(row, []).append(train(folder / f"{config}.yml", arguments.ranks, cache))
    table = rows_of(measured, f"{FEW} images")
    title = f"Training one step on {arguments.ranks} ranks"
    report(title, ["data set", "seconds", "ratio to limit", "peak memory of all processes, MiB"], table, arguments.json)


if __name__ == "__main__":
    main()
