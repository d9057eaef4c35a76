"""A batch job: from its settings to a summary of the results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ppdet.core.extensions import imported
from ppdet.deploy.batch import result_table
from ppdet.deploy.batch.inputs import ImagePaths, Inputs, find_inputs
from ppdet.deploy.batch.job_manifest import Manifest, model_fingerprint, read_manifest, require_same_job
from ppdet.deploy.batch.job_run import JobRun
from ppdet.deploy.batch.progress import Progress, count_of
from ppdet.deploy.batch.ray_pool import WorkerPool, split_ranges, task_size
from ppdet.deploy.batch.shards import COCO, DETECTIONS, Counts, ShardFiles, total
from ppdet.deploy.batch.storage import Folder
from ppdet.deploy.batch.worker import WorkerSettings
from ppdet.deploy.preprocess import class_list, read_infer_cfg
from ppdet.deploy.ray_session import ray_session
from ppdet.deploy.slicing import Slicing
from ppdet.deploy.tta import TTA, check_alone
from ppdet.utils.errors import DataError, DeployError
from ppdet.utils.extras import require_extras
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
SHARD_SIZE = 500


@dataclass(frozen=True)
class BatchJob:
    """A batch job: its images, its model, and where its results are written.

    Args:
        model_dir: folder of the exported model, which all workers can read.
        input: path or URL of a folder of images, of a text file with one path per line, or of Parquet files.
        output: folder or URL for the results.
        image_dir, path_column, bytes_column, name_column, url_schemes: see `inputs.find_inputs`.
        threshold: detections with a lower score are dropped, 0..1. None: those below the threshold of their class are,
            if the model was exported with `--thresholds`; else none.
        workers: number of worker processes. None: as many as the CPUs or GPUs allow.
        cpu_threads: number of CPU threads of each worker.
        batch_size: images, or windows with `slicing`, in one run of the model.
        image_timeout_s: seconds that an image may take, from reading to its detections. A worker that takes longer is
            ended, as on an image on which it dies; the image becomes a row with an error.
        shard_size: images per output file; None for 500, or what the job began with.
        backend, device, precision: see `Detector`; device is cpu, or gpu with one GPU per worker.
        tta: see `Detector`.
        slicing: detect in windows of each image, see `Detector.predict_sliced`.
        ray_address: address of a Ray cluster, such as `auto`; None starts Ray on this machine.
    """

    model_dir: str
    input: str
    output: str
    image_dir: str | None = None
    path_column: str | None = None
    bytes_column: str | None = None
    name_column: str | None = None
    url_schemes: Sequence[str] = ()
    threshold: float | None = None
    workers: int | None = None
    cpu_threads: int = 1
    batch_size: int = 1
    image_timeout_s: float = 600.0
    shard_size: int | None = None
    backend: str = "auto"
    device: str = "cpu"
    precision: str | None = None
    tta: TTA | None = None
    slicing: Slicing | None = None
    ray_address: str | None = None


class Summary(NamedTuple):
    """counts: of the whole job. done_now: images of this start, which took `seconds`. speed: images per second after
    all workers had returned their first task; None for too few images (see `progress.Speed`)."""

    counts: Counts
    done_now: int = 0
    seconds: float = 0.0
    speed: float | None = None


def run_batch(job: BatchJob) -> Summary:
    """Detect on all images of a job that have no results yet, and log a summary.

    Raises:
        DeployError: a package is missing, the model cannot be loaded, or workers die again and again.
        DataError: there are no images, none can be read, or the output folder belongs to another job.
        LockedError: another process works in the output folder.
    """
    require_extras(DeployError, "batch")
    check_alone(job.tta, job.slicing)
    settings = read_infer_cfg(Path(job.model_dir))
    with Progress() as progress:
        progress.step("listing the images", f" of {job.input}")
        inputs = find_inputs(
            job.input,
            image_dir=job.image_dir,
            path_column=job.path_column,
            bytes_column=job.bytes_column,
            name_column=job.name_column,
            url_schemes=job.url_schemes,
        )
        folder = Folder(job.output)
        with folder.lock():
            return start_or_resume(job, settings, inputs, folder, progress)


def start_or_resume(
    job: BatchJob, settings: Mapping[str, Any], inputs: Inputs, folder: Folder, progress: Progress
) -> Summary:
    """Start the job of an output folder, or continue it. `settings`: the content of infer_cfg.yml."""
    class_names, category_ids = class_list(settings)
    precision = job.precision or settings.get("precision", "fp32")
    identity: dict[str, Any] = {
        "table_version": result_table.VERSION,
        "model": model_fingerprint(job.model_dir),
        "images_sha256": inputs.fingerprint(),
        "precision": precision,
        "threshold": threshold_of(job, settings),
        "tta": None if job.tta is None else str(job.tta),
        "slicing": None if job.slicing is None else str(job.slicing),
    }
    manifest = read_manifest(folder)
    if manifest is not None:
        # What the user leaves open stays as it was.
        chosen = {"backend": job.backend if job.backend != "auto" else None, "shard_size": job.shard_size}
        require_same_job(folder, manifest, identity | {key: value for key, value in chosen.items() if value})
    size = manifest.shard_size if manifest else job.shard_size or SHARD_SIZE
    shards = ShardFiles(folder, len(inputs), size, class_names, category_ids)
    finished = shards.finished() if manifest else {}
    if manifest and len(finished) == shards.count:
        logger.info("done before: %s", count_of(len(inputs), "image"))
        return summarize(manifest, folder, finished, 0, progress)
    worker_settings = WorkerSettings(
        model_dir=str(Path(job.model_dir).resolve()),
        backend=manifest.backend if manifest else job.backend,
        device=job.device,
        precision=precision,
        threads=job.cpu_threads,
        batch_size=job.batch_size,
        threshold=identity["threshold"],
        image_timeout_s=job.image_timeout_s,
        extensions=imported(),
        tta=job.tta,
        slicing=job.slicing,
    )
    with ray_session(job.ray_address, (job.workers or 1) * job.cpu_threads, progress.step):
        measures = worker_settings.backend == "auto"
        progress.step("measuring which engine is the fastest" if measures else "loading the model")
        pool = WorkerPool(worker_settings, job.workers, lambda: progress.add(0))
        if manifest is None:
            manifest = Manifest(
                **identity,
                model_dir=job.model_dir,
                input=job.input,
                images=len(inputs),
                image_root=inputs.root if isinstance(inputs, ImagePaths) else None,
                backend=pool.settings.backend,
                shard_size=size,
                shards=shards.count,
                classes=list(class_names),
                category_ids=list(category_ids),
            )
            manifest.write(folder)
        for name in (DETECTIONS, COCO):
            folder.remove_temporaries(name)
        run = JobRun(shards, finished)
        if job.tta:
            logger.info("test-time augmentation: %s", job.tta)
        if job.slicing:
            logger.info("slicing: %s", job.slicing)
        if finished:
            logger.info("going on: %d of %d images are done", len(inputs) - run.total, len(inputs))
        logger.info(
            "%s, %s of %s, backend %s; a worker loads the model first",
            count_of(run.total, "image"), count_of(pool.workers, "worker"), count_of(job.cpu_threads, "thread"),
            manifest.backend,
        )  # fmt: skip
        tasks = split_ranges(run.missing, task_size(inputs, run.total, size, job.batch_size))
        progress.count(len(inputs) - run.total, len(inputs), pool.workers)
        run.collect(pool.detect(inputs, tasks), progress)
    return summarize(manifest, folder, run.finished, run.images, progress)


def threshold_of(job: BatchJob, settings: Mapping[str, Any]) -> float | None:
    """The least score that a job keeps; None for the thresholds that the model has for each class."""
    return 0.0 if job.threshold is None and not settings.get("class_thresholds") else job.threshold


def summarize(
    manifest: Manifest, folder: Folder, finished: Mapping[int, Counts], now: int, progress: Progress
) -> Summary:
    """Note in the manifest that the job is complete, and log its results; `now`: images of this start.

    Raises:
        DataError: no image could be read.
    """
    counts = total(finished.values())
    manifest.finish(folder, counts)
    summary = Summary(counts, now, progress.seconds if now else 0.0, progress.speed)
    speed = f", {summary.speed:.2f} images/s after the workers had started" if summary.speed else ""
    took = f" in {summary.seconds:.1f} s{speed}" if now else ""
    here = f"; {now} of them" if 0 < now < counts.images else ""
    errors, boxes = count_of(counts.errors, "error"), count_of(counts.boxes, "box", "boxes")
    logger.info("done: %s, %s, %s%s%s", count_of(counts.images, "image"), errors, boxes, here, took)
    if counts.errors:
        logger.warning("images with an error instead of boxes: %d, see column error of the tables", counts.errors)
    logger.info("tables: %s/%s; COCO: %s/%s", folder.url, DETECTIONS, folder.url, COCO)
    if counts.errors == counts.images:
        raise DataError(f"no image could be read of {counts.images}; why is in {folder.url}/{DETECTIONS}")
    return summary
