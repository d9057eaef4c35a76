"""Speed of a batch job with N workers, compared with N times one Detector, and with N Detectors at the same time.

All use the same model, images and threads. Each row is the median of --repeat turns. The time for loading the model
does not count, except in the row "job with start", which is the whole job from the start of the first worker. N
Detectors at the same time are the limit of the machine, because its processors share memory and cooling.
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
WARM_UP = 3  # images that a Detector runs before it is measured


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.set_defaults(repeat=3)
    parser.add_argument("--model_dir", required=True, metavar="DIR", help="folder of the exported model")
    parser.add_argument(
        "--image_dir", required=True, metavar="DIR", help="folder of images; if there are too few, they are used again"
    )
    parser.add_argument(
        "--images", type=int, default=400, help="images of a job (default: 400); each Detector gets its share of them"
    )
    parser.add_argument("--workers", type=int, default=2, help="number of workers (default: 2)")
    parser.add_argument("--cpu_threads", type=int, default=1, help="threads of each worker and Detector (default: 1)")
    parser.add_argument("--batch_size", type=int, default=1, help="images per batch (default: 1)")
    parser.add_argument("--backend", default="paddle", help="engine that runs the model (default: paddle)")
    return parser.parse_args()


def detect(settings: Any, paths: list[str], barrier: Any) -> float:
    """Return the seconds of one Detector for these images. It waits at the barrier until all have loaded the model."""
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
    """Return the images per second of `count` Detectors in processes, each with its share of the images."""
    context = get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(count, mp_context=context) as pool:
        barrier = manager.Barrier(count)
        parts = [paths[number::count] for number in range(count)]
        seconds = list(pool.map(detect, [settings] * count, parts, [barrier] * count))
    return len(paths) / max(seconds)


def job(arguments: argparse.Namespace, paths: list[str]) -> tuple[float, float]:
    """Return the images per second of a job, without and with the start of its workers."""
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
    whole = summary.done_now / summary.seconds
    return summary.speed or whole, whole  # a job of few images has no speed of its own


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
    report(
        title,
        ["what", "images/s", f"relative to one x {workers}", f"relative to {workers} at once"],
        rows,
        arguments.json,
    )


if __name__ == "__main__":
    main()
