"""Worker processes on Ray: starting Ray, and giving tasks to workers that may die."""

import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

from ppdet.deploy.batch.inputs import Inputs
from ppdet.deploy.batch.progress import count_of
from ppdet.deploy.batch.read_images import item_names
from ppdet.deploy.batch.worker import DetectorWorker, WorkerSettings, choose_backend, new_row
from ppdet.utils.errors import DeployError, UserError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)

# Images per task: enough that Ray's overhead is small, few enough that all workers finish at about the same time.
TASK_IMAGES, MAX_TASKS = 16, 20_000
ATTEMPTS = 2  # number of workers that may die on a task before its images are retried one at a time
TICK_S = 1.0  # longest time without a word from the workers
MAX_LOST_TASKS = 50  # tasks that used up their attempts; with more, the cause is not an image, and the job ends
GO_ON = "run the same command again to finish the remaining images"


class Task(NamedTuple):
    """Numbers of the images, how many workers have died on them, and how long the last of these had them."""

    images: range
    deaths: int = 0
    seconds: float = 0.0


def split_ranges(ranges: Sequence[range], size: int) -> list[range]:
    """Split ranges into chunks of at most `size` numbers; a chunk never spans two ranges."""
    return [part[start : start + size] for part in ranges for start in range(0, len(part), size)]


def task_size(inputs: Inputs, images: int, shard_size: int, batch_size: int) -> int:
    """How many images a task should have in a job of `images`: a multiple of the batch, and at most a shard."""
    if inputs.tasks_are_shards:
        return shard_size
    size = max(TASK_IMAGES, -(-images // MAX_TASKS))
    return min(-(-size // batch_size) * batch_size, shard_size)


class WorkerPool:
    """Workers with a Detector each.

    Args:
        settings: settings of each worker; the backend `auto` is replaced by the one that is chosen.
        workers: number of workers. None: as many as the cluster's CPUs (`settings.threads` each) or GPUs allow.
        tick: called each second while the model is loaded and the engines are measured.

    Raises:
        DeployError: Ray has no room for so many workers, or the model cannot be loaded.
    """

    def __init__(self, settings: WorkerSettings, workers: int | None, tick: Callable[[], object]) -> None:
        import ray

        self.resources = {"num_cpus": settings.threads, "num_gpus": int(settings.device == "gpu")}
        cluster = ray.cluster_resources()
        room = int(cluster.get("CPU", 0)) // settings.threads
        if settings.device == "gpu":
            room = min(room, int(cluster.get("GPU", 0)))
            if not cluster.get("GPU"):
                raise DeployError("--device gpu: Ray finds no GPU; nvidia-smi lists those of this machine")
        self.workers = workers or room
        if self.workers > room or not room:
            raise DeployError(
                f"Ray has {cluster.get('CPU', 0):g} CPUs and {cluster.get('GPU', 0):g} GPUs: room for "
                f"{count_of(room, 'worker')} with {count_of(settings.threads, 'CPU')} each, not for "
                f"{self.workers or 'one'}: lower --workers or --cpu_threads"
            )
        # The process that measures the engines ends afterwards, so that it takes no memory from the workers.
        choose = ray.remote(max_calls=1, **self.resources)(choose_backend)
        choice = choose.remote(settings)
        while not ray.wait([choice], timeout=TICK_S)[0]:
            tick()
        try:
            self.settings = settings._replace(backend=ray.get(choice))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise

    def detect(self, inputs: Inputs, ranges: Sequence[range]) -> Generator[list[dict], None, None]:
        """Detect on all images in `ranges`; yield the rows of each task, in any order.

        An empty list is yielded each second in which no task ends, so that the job can show that it waits.
        A task whose worker dies is given to another worker. If that one dies too, each of its images becomes a task,
        and an image whose workers die again becomes a row with an error.

        Raises:
            DeployError: workers die on too many tasks, or Ray itself fails.
        """
        import ray

        waiting = deque(Task(images) for images in ranges)
        idle = [self._start_worker() for _ in range(min(self.workers, len(waiting)))]
        running: dict[Any, tuple[Any, Task, float]] = {}
        lost = 0
        try:
            while waiting or running:
                while waiting and idle:
                    worker, task = idle.pop(), waiting.popleft()
                    reference = worker.detect.remote(task.images.start, inputs.task(task.images))
                    running[reference] = worker, task, time.monotonic()
                ended, _ = ray.wait(list(running), num_returns=1, timeout=TICK_S)
                if not ended:
                    yield []
                    continue
                (reference,) = ended
                worker, task, start = running.pop(reference)
                try:
                    rows = ray.get(reference)
                except ray.exceptions.RayTaskError:
                    raise  # an exception in the worker's code: a defect, which keeps its traceback
                except ray.exceptions.RayError as error:
                    logger.warning("a worker died (%s); another one takes its place and its task", first_line(error))
                    idle.append(self._start_worker())
                    task = task._replace(deaths=task.deaths + 1, seconds=time.monotonic() - start)
                    if task.deaths < ATTEMPTS:
                        waiting.append(task)
                        continue
                    lost += 1
                    if lost > MAX_LOST_TASKS:
                        raise DeployError(
                            f"workers died {ATTEMPTS} times on each of {lost} tasks: is there memory for "
                            f"{self.workers} workers? {GO_ON}"
                        ) from None
                    if len(task.images) == 1:
                        yield [lost_row(inputs, task, self.settings)]
                        continue
                    logger.warning("retrying the %d images of that task one at a time", len(task.images))
                    waiting.extend(Task(images) for images in split_ranges([task.images], 1))
                else:
                    idle.append(worker)
                    yield rows
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError as error:
            raise DeployError(f"Ray failed ({first_line(error)}); {GO_ON}") from None
        finally:
            for worker in [*idle, *(worker for worker, *_ in running.values())]:
                ray.kill(worker)

    def _start_worker(self) -> Any:
        import ray

        return ray.remote(**self.resources)(DetectorWorker).remote(self.settings)


def lost_row(inputs: Inputs, task: Task, settings: WorkerSettings) -> dict:
    """The row of an image on which every worker dies. The image is not read here: this process must live."""
    ((name, path),) = item_names(inputs.task(task.images))
    limit = settings.image_timeout_s * settings.batch_size
    late = f"{ATTEMPTS} workers had no result after {limit:g} s (--image_timeout_s)"
    reason = late if task.seconds >= limit else f"{ATTEMPTS} workers died on it"
    return new_row(task.images.start, name, path, reason)


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
