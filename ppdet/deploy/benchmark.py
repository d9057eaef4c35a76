"""Measures how long each stage of detection takes, from the image file to the detections."""

import os
import platform
import time
from collections.abc import Sequence
from importlib import metadata
from itertools import cycle
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ppdet.deploy.detector import Detector
from ppdet.utils.disk.files import write_json
from ppdet.utils.errors import DataError, ImageError
from ppdet.utils.logger import get_logger, is_watched
from ppdet.utils.process.cpu import cpu_count
from ppdet.utils.process.memory import peak_host_memory

logger = get_logger(__name__)

WARM_UP = 5  # batches that are not measured: in the first ones engines allocate memory and choose kernels
STAGES = ("preprocess", "inference", "postprocess", "total")
PACKAGES = {
    "paddle": ("paddlepaddle", "paddlepaddle-gpu"),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
}


def run_benchmark(
    detector: Detector, paths: Sequence[str], output_dir: str, *, batch_size: int = 1, runs: int = 50
) -> dict:
    """Measure batches of the images, print a table, and write benchmark.json.

    The stages run one after the other here, so that each can be timed. `Detector.detect` is faster, because it prepares
    images while the model runs.

    Args:
        paths: image files, which are repeated if there are too few.
        output_dir: folder for benchmark.json.
        batch_size: images in one batch.
        runs: least number of batches to measure; all images are measured at least once.

    Returns:
        The content of benchmark.json: `milliseconds` per batch of each stage (mean, p50, p90, p99),
        `images_per_second`, `peak_memory_mib` of the process, and the engine, device and versions.

    Raises:
        DataError: no image can be read.
    """
    paths = _readable(detector, paths)
    images = cycle(paths)
    runs = max(runs, -(-len(paths) // batch_size))
    seconds = np.zeros((runs, 3))
    found = 0
    for number in tqdm(range(-WARM_UP, runs), unit="batch", leave=False, disable=not is_watched()):
        times, detections = _time_batch(detector, [next(images) for _ in range(batch_size)])
        if number >= 0:
            seconds[number] = times
            found += detections
    stages = np.column_stack([seconds, seconds.sum(axis=1)]) * 1e3
    report = {
        **_description(detector),
        "batch_size": batch_size,
        "images": len(paths),
        "runs": runs,
        "warm_up": WARM_UP,
        "detections_per_image": found / (runs * batch_size),
        "milliseconds": {name: _statistics(column) for name, column in zip(STAGES, stages.T)},
        "images_per_second": runs * batch_size / seconds.sum(),
        "peak_memory_mib": peak_host_memory() or 0,
    }
    path = Path(output_dir) / "benchmark.json"
    write_json(path, report)
    print(format_report(report), flush=True)
    logger.info("benchmark: %s", path)
    return report


def format_report(report: dict) -> str:
    """The report as text: what was measured, and a table of the stages."""
    lines = [
        "{backend}, {precision}, {device}, {threads} threads: {runs} batches of {batch_size}, {images} images".format(
            **report
        ),
        ", ".join(f"{name} {version}" for name, version in report["versions"].items()),
        "",
        f"{'ms per batch':<14}{'mean':>10}{'p50':>10}{'p90':>10}{'p99':>10}",
    ]
    for name, numbers in report["milliseconds"].items():
        lines.append(f"{name:<14}" + "".join(f"{numbers[key]:>10.2f}" for key in ("mean", "p50", "p90", "p99")))
    memory = report["peak_memory_mib"]
    lines += [
        "",
        f"{report['images_per_second']:.2f} images/s, {report['detections_per_image']:.1f} detections an image"
        + (f", peak memory {memory} MiB" if memory else ""),
    ]
    return "\n".join(lines)


def _time_batch(detector: Detector, paths: Sequence[str]) -> tuple[list[float], int]:
    """Seconds of preprocessing, inference and postprocessing of a batch, and the number of its detections."""
    clock = [time.perf_counter()]
    batches = list(detector.preprocess.batches([detector.prepare(path) for path in paths]))
    clock.append(time.perf_counter())
    outputs = [detector.backend(arrays) for _, arrays in batches]
    clock.append(time.perf_counter())
    found = [detections for output in outputs for detections in detector.split_outputs(output)]
    clock.append(time.perf_counter())
    return np.diff(clock).tolist(), sum(len(detections) for detections in found)


def _readable(detector: Detector, paths: Sequence[str]) -> list[str]:
    readable = []
    for path in paths:
        try:
            detector.prepare(path)
            readable.append(path)
        except ImageError as error:
            logger.warning("image skipped: %s", error)
    if not readable:
        raise DataError(f"none of the {len(paths)} images could be read, beginning with {paths[0]}")
    return readable


def _statistics(milliseconds: np.ndarray) -> dict[str, float]:
    p50, p90, p99 = np.percentile(milliseconds, (50, 90, 99)).tolist()
    return {"mean": float(milliseconds.mean()), "p50": p50, "p90": p90, "p99": p99}


def _description(detector: Detector) -> dict:
    """The model, the engine, the device and the versions."""
    backend = detector.backend
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    for package in ("opencv-python-headless", "opencv-python", *PACKAGES.get(backend.name, ())):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "model": os.path.abspath(backend.folder),
        "backend": backend.name,
        "precision": backend.options.precision,
        "device": backend.options.device,
        "tensorrt": backend.options.tensorrt,
        "threads": backend.options.cpu_threads,
        "processors": cpu_count(),
        "versions": versions,
    }
