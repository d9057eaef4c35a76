"""Tasks through Ray Data's pool of workers, and what comes of workers that die."""

import contextlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple

from ppdet.deploy.batch.inputs import Inputs
from ppdet.deploy.batch.worker import WORKER, DetectorWorker, Tally, WorkerSettings, choose_backend
from ppdet.utils.errors import DeployError, UserError
from ppdet.utils.logger import get_logger
from ppdet.utils.process.cpu import cpu_count
from ppdet.utils.process.stop import Stopped, say

logger = get_logger(__name__)

# Images of a task: enough that Ray's share of the time is small, few enough that workers end together.
TASK_IMAGES, TASKS = 16, 20_000
# How many tasks may kill all workers that try them, before something else must be the matter.
LOST_TASKS = 50


class Task(NamedTuple):
    """Images `first` to `first + count`."""

    first: int
    count: int


def split(ranges: Sequence[range], images: int) -> list[Task]:
    """Tasks of at most so many images each, none of which crosses from one range into the next."""
    return [
        Task(start, min(images, part.stop - start)) for part in ranges for start in range(part.start, part.stop, images)
    ]


def task_images(inputs: Inputs, pending: int, shard_size: int, batch_size: int) -> int:
    """How many images a task should have."""
    if inputs.whole_shards:
        return shard_size
    images = max(TASK_IMAGES, -(-pending // TASKS))
    return min(-(-images // batch_size) * batch_size, shard_size)


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Drop what C++ code prints: Ray says that it was told to be quiet."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def stop(number: int, frame: object) -> None:
    """End with Ray, and with the exit code that schedulers expect."""
    logger.warning("%s: the same command goes on with what is missing", signal.Signals(number).name)
    sys.exit(128 + number)


@contextlib.contextmanager
def ray_session(address: str | None, cpus: int) -> Iterator[None]:
    """Ray, started on this machine for this job alone, or the cluster of an address. One that runs already is used.

    Args:
        cpus: that the workers need, at least.
    """
    # They are read when Ray is imported: no reports to its makers, and no lines about its own affairs.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray

    try:
        import ray.data
    except ImportError as error:
        raise DeployError(f"Ray Data is not complete ({error}): pip install 'ray[data]'") from None
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options.update(address="local", include_dashboard=False, num_cpus=max(cpu_count(), cpus))
    else:
        options.update(address=address)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with silent_stderr():
            ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise DeployError(f"Ray does not start: {error}") from None
    except SystemExit as end:  # by a signal, whose line nobody has seen; Ray's own handler has a code of its own
        number = signal.SIGINT if end.code == 128 + signal.SIGINT else signal.SIGTERM
        ray.shutdown()
        say(number, "interrupted while Ray was starting")
        raise Stopped(number) from None
    if threading.current_thread() is threading.main_thread():
        # Ray's own prints where in its code it was, and without one Ray would be left behind.
        signal.signal(signal.SIGTERM, before if callable(before) else stop)
    try:
        yield
    finally:
        ray.shutdown()


class Pool:
    """Workers, each with a Detector of its own.

    Args:
        settings: of the workers. workers: how many; None for one per `threads` processors, or per GPU.

    Raises:
        DeployError: Ray has no room for them, or the model cannot be loaded.
    """

    def __init__(self, settings: WorkerSettings, workers: int | None) -> None:
        import ray

        self.resources = {"num_cpus": settings.threads, "num_gpus": int(settings.device == "gpu")}
        there = ray.cluster_resources()
        room = int(there.get("CPU", 0)) // settings.threads
        if settings.device == "gpu":
            room = min(room, int(there.get("GPU", 0)))
        self.workers = workers or room
        if self.workers > room or not room:
            raise DeployError(
                f"Ray has {there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs: room for {room} workers with "
                f"{settings.threads} CPUs each, not for {self.workers or 'one'}: lower --workers or --cpu_threads"
            )
        # In a process of its own, which goes: the one that measures should not slow the others down.
        choose = ray.remote(max_calls=1, **self.resources)(choose_backend)
        try:
            self.settings = settings._replace(backend=ray.get(choose.remote(settings)))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise

    def run(self, inputs: Inputs, tasks: Sequence[Task]) -> Generator[Any, None, None]:
        """Yield Arrow tables of images with their detections, in any order, each image once at most.

        What a dying worker had not given is given to another. Tasks whose workers die again and again are left out.

        Raises:
            DeployError: too many tasks are left out, or Ray ends.
        """
        import ray

        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        tally = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Tally).remote()
        items = [{"first": task.first, "task": json.dumps(inputs.task(*task))} for task in tasks]
        # Ray Data starts an actor again that died, and gives another the tasks that it had.
        found = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            DetectorWorker,
            fn_constructor_args=[self.settings, tally],
            compute=ray.data.ActorPoolStrategy(size=min(self.workers, len(tasks))),
            batch_size=None,
            batch_format="pyarrow",
            **self.resources,
        )
        found.context.enable_progress_bars = False
        found.context.execution_no_progress_timeout_s = -1  # how long a task may take is the model's affair
        # Closed where this ends early: Ray Data's threads would otherwise start Ray again after it was shut down.
        tables = iter(found.iter_batches(batch_size=None, batch_format="pyarrow"))
        lost = 0
        try:
            for table in tables:
                if not table[WORKER].null_count:
                    yield table
                    continue
                lost += 1
                if lost > LOST_TASKS:
                    raise DeployError(
                        f"workers died several times on each of {lost} tasks: is there memory for {self.workers} of "
                        "them? The same command goes on with what is missing"
                    )
        except ray.exceptions.RayTaskError:
            raise  # a defect, with its traceback
        except ray.exceptions.RayError as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise DeployError(f"Ray gave up ({reason}); the same command goes on with what is missing") from None
        finally:
            tables.close()
