"""A batch job from its settings to its summary."""

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ppdet.deploy.batch.inputs import ImagePaths, Inputs, find_inputs
from ppdet.deploy.batch.job_file import Manifest, fingerprint, read_manifest, require_same
from ppdet.deploy.batch.pipeline import Pool, ray_session
from ppdet.deploy.batch.run import Run
from ppdet.deploy.batch.shards import COCO, DETECTIONS, Counts, Shards
from ppdet.deploy.batch.storage import Folder
from ppdet.deploy.batch.worker import WorkerSettings
from ppdet.deploy.preprocess import category_ids, read_infer_cfg
from ppdet.utils.errors import DataError, DeployError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
PACKAGES = {"ray": "ray[data]", "pyarrow": "pyarrow", "fsspec": "fsspec"}
SHARD_SIZE = 500


@dataclass(frozen=True)
class BatchJob:
    """What to detect, with what, and where to put it.

    model_dir: an exported model, which all workers can read. input: path or URL of a folder of images, of a text file
    with one path a line, or of Parquet. output: folder or URL for the results. image_dir, path_column, bytes_column,
    name_column: see `inputs.find_inputs`. threshold: least score of a detection that is kept, 0..1. workers: None for
    all that there is room for. cpu_threads: of each worker. batch_size: images per run of the model. shard_size:
    images of an output file, None for 500, or what the job began with. ray_address: of a cluster; None to start Ray
    on this machine. The others: see `Detector`.
    """

    model_dir: str
    input: str
    output: str
    image_dir: str | None = None
    path_column: str | None = None
    bytes_column: str | None = None
    name_column: str | None = None
    threshold: float = 0.0
    workers: int | None = None
    cpu_threads: int = 1
    batch_size: int = 1
    shard_size: int | None = None
    backend: str = "auto"
    device: str = "cpu"
    precision: str | None = None
    ray_address: str | None = None


class Summary(NamedTuple):
    """counts: of the whole job. done_now: images of this run. seconds: that these took. speed: images per second
    when every worker had loaded the model."""

    counts: Counts
    done_now: int
    seconds: float
    speed: float


def run_batch(job: BatchJob) -> Summary:
    """Detect on all images of a job that have no results yet, and log a summary.

    Raises:
        DeployError: a package is missing, the model cannot be loaded, or workers die all the time.
        DataError: no images, none that can be read, or the output belongs to another job.
        LockedError: another process works there.
    """
    require_packages()
    settings = read_infer_cfg(Path(job.model_dir))
    job = replace(job, precision=job.precision or settings.get("precision", "fp32"))
    inputs = find_inputs(
        job.input,
        image_dir=job.image_dir,
        path_column=job.path_column,
        bytes_column=job.bytes_column,
        name_column=job.name_column,
    )
    folder = Folder(job.output)
    with folder.alone():
        return go_on(job, settings, inputs, folder)


def go_on(job: BatchJob, settings: dict, inputs: Inputs, folder: Folder) -> Summary:
    """Begin the job of an output folder that no other process works in, or go on with it."""
    identity = identity_of(job, inputs)
    manifest = read_manifest(folder)
    if manifest is not None:
        require_same(folder, manifest, identity)
        shards = Shards(folder, manifest.images, manifest.shard_size)
        done = shards.finished()
        if len(done) == shards.count:
            return summarize(manifest, folder, None, done)
        backend = manifest.backend
    else:
        shards, done, backend = Shards(folder, len(inputs), job.shard_size or SHARD_SIZE), {}, job.backend
    with ray_session(job.ray_address, (job.workers or 1) * job.cpu_threads):
        pool = Pool(worker_settings(job, backend), job.workers)
        if manifest is None:
            manifest = new_manifest(job, settings, inputs, shards, identity, pool.settings.backend)
            manifest.write(folder)
        for name in (DETECTIONS, COCO):
            folder.remove_temporaries(name)
        run = Run(pool, inputs, shards, manifest, done)
        run.run()
    return summarize(manifest, folder, run, run.done)


def require_packages() -> None:
    """Raises DeployError that says what to install, where something is missing."""
    missing = [package for name, package in PACKAGES.items() if importlib.util.find_spec(name) is None]
    if missing:
        raise DeployError(f"batch jobs need {', '.join(missing)}: pip install {' '.join(map(repr, missing))}")


def identity_of(job: BatchJob, inputs: Inputs) -> dict:
    """What makes two jobs the same, see `manifest.IDENTITY`."""
    identity = {
        "model": fingerprint(job.model_dir),
        "images_sha256": inputs.fingerprint(),
        "precision": job.precision,
        "threshold": job.threshold,
    }
    if job.backend != "auto":
        identity["backend"] = job.backend
    if job.shard_size:
        identity["shard_size"] = job.shard_size
    return identity


def worker_settings(job: BatchJob, backend: str) -> WorkerSettings:
    return WorkerSettings(
        model_dir=str(Path(job.model_dir).resolve()),
        backend=backend,
        device=job.device,
        precision=job.precision,
        threads=job.cpu_threads,
        batch_size=job.batch_size,
        threshold=job.threshold,
    )


def new_manifest(
    job: BatchJob, settings: dict, inputs: Inputs, shards: Shards, identity: dict, backend: str
) -> Manifest:
    classes = [str(name) for name in settings.get("label_list") or []]
    return Manifest(
        **{**identity, "backend": backend, "shard_size": shards.size},
        model_dir=job.model_dir,
        input=job.input,
        images=len(inputs),
        image_root=inputs.root if isinstance(inputs, ImagePaths) else None,
        shards=shards.count,
        classes=classes,
        category_ids=category_ids(settings, classes),
    )


def summarize(manifest: Manifest, folder: Folder, run: Run | None, done: dict[int, Counts]) -> Summary:
    """Write that a job is complete, and say what it brought.

    Raises:
        DataError: none of its images could be read.
    """
    counts = Counts()
    for other in done.values():
        counts = counts.plus(other)
    manifest.finish(folder, counts)
    if run is None:
        logger.info("all %d images were done before", counts.images)
    else:
        logger.info(
            "%d images in %.0f s: %.2f images/s, %.2f once the workers had loaded the model",
            run.images, run.seconds, run.images / run.seconds, run.speed,
        )  # fmt: skip
    logger.info("%d detections in %d images", counts.boxes, counts.images - counts.errors)
    if counts.errors:
        logger.warning("%d images have an error instead, in column error", counts.errors)
    logger.info("tables: %s/%s; COCO: %s/%s", folder.url, DETECTIONS, folder.url, COCO)
    if counts.errors == counts.images:
        raise DataError(f"none of the {counts.images} images could be read; why is in {folder.url}/{DETECTIONS}")
    return Summary(counts, run.images, run.seconds, run.speed) if run else Summary(counts, 0, 0.0, 0.0)
