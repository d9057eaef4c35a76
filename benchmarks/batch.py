"""A batch job with N workers beside Detectors without Ray: one alone in a process, times N, and N at the same time.

All have the same model, images and threads; each row is the median of --repeat runs, in turns. Loading the model does
not count; `with start` is the whole job, from the first worker's start on. N at the same time is the limit of the
machine: its processors share memory and heat.
"""

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from common import make_parser, report

EXAMPLES = """examples:
  python benchmarks/batch.py --model_dir output_inference/fcos_r18vd_fpn_bccd --image_dir dataset/bccd/images
  python benchmarks/batch.py --model_dir DIR --image_dir DIR --images 5000 --workers 8 --repeat 1
"""
WARM_UP = 3  # images


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.set_defaults(repeat=3)
    parser.add_argument("--model_dir", required=True, metavar="DIR", help="folder of the exported model")
    parser.add_argument("--image_dir", required=True, metavar="DIR", help="images; they repeat if they are too few")
    parser.add_argument("--images", type=int, default=400, help="of a job (default: 400); a Detector has its share")
    parser.add_argument("--workers", type=int, default=2, help="default: 2")
    parser.add_argument("--cpu_threads", type=int, default=1, help="of each Detector (default: 1)")
    parser.add_argument("--batch_size", type=int, default=1, help="default: 1")
    parser.add_argument("--backend", default="paddle", help="default: paddle")
    return parser.parse_args()


def detect(settings: Any, paths: list[str], barrier: Any) -> float:
    """Seconds of one Detector for these images, in a process of its own. All begin when all have loaded."""
    from ppdet.deploy.batch.worker import load_detector

    detector = load_detector(settings)
    for _ in detector.detect(paths[:WARM_UP], settings.batch_size):
        pass
    barrier.wait()
    start = time.perf_counter()
    for _ in detector.detect(paths, settings.batch_size):
        pass
    return time.perf_counter() - start


def detectors(settings: Any, paths: list[str], count: int) -> float:
    """Images per second of so many Detectors at once, each with its share of the images."""
    context = get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(count, mp_context=context) as pool:
        barrier = manager.Barrier(count)
        parts = [paths[number::count] for number in range(count)]
        seconds = list(pool.map(detect, [settings] * count, parts, [barrier] * count))
    return len(paths) / max(seconds)


def job(arguments: argparse.Namespace, paths: list[str]) -> tuple[float, float]:
    """Images per second of a job when its workers have loaded the model, and with their start."""
    from ppdet.deploy.batch import BatchJob, run_batch

    with tempfile.TemporaryDirectory(prefix="batch_") as folder:
        (Path(folder) / "list.txt").write_text("\n".join(paths))
        summary = run_batch(
            BatchJob(
                arguments.model_dir,
                f"{folder}/list.txt",
                f"{folder}/out",
                workers=arguments.workers,
                cpu_threads=arguments.cpu_threads,
                batch_size=arguments.batch_size,
                backend=arguments.backend,
            )
        )
    assert summary.done_now == len(paths) and not summary.counts.errors
    return summary.speed, summary.done_now / summary.seconds


def main() -> None:
    arguments = parse_arguments()
    from ppdet.deploy.batch.worker import WorkerSettings
    from ppdet.utils.disk.images import find_images

    paths = list(islice(cycle(find_images(str(Path(arguments.image_dir).resolve()))), arguments.images))
    settings = WorkerSettings(
        arguments.model_dir, arguments.backend, "cpu", "fp32", arguments.cpu_threads, arguments.batch_size, 0.0
    )
    workers = arguments.workers
    share = paths[: max(1, len(paths) // workers)]
    runs = []
    for _ in range(arguments.repeat):
        alone, together = detectors(settings, share, 1), detectors(settings, paths, workers)
        runs.append((alone * workers, together, *job(arguments, paths)))
    alone, together, loaded, whole = (statistics.median(values) for values in zip(*runs))
    names = (f"one Detector x {workers}", f"{workers} Detectors at once", "job", "job with start")
    rows = [
        [name, speed, speed / alone, speed / together] for name, speed in zip(names, (alone, together, loaded, whole))
    ]
    title = f"{len(paths)} images, {workers} workers with {arguments.cpu_threads} threads, batch {arguments.batch_size}"
    report(title, ["", "images/s", f"of one x {workers}", f"of {workers} at once"], rows, arguments.json)


if __name__ == "__main__":
    main()
