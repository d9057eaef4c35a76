"""The part of the server that is not HTTP: a detector that requests share, with bounded queues.

A few processes decode and preprocess images, and one process runs the model (jobs.py). This process only passes work
on, so that it can always answer, whatever they do: what takes too long is killed, and what dies is started again.
"""

import asyncio
import threading
from collections.abc import Awaitable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from ppdet.deploy.detector import Detections
from ppdet.deploy.preprocess import Preprocess, class_list, read_infer_cfg
from ppdet.deploy.serving.batching import Batcher, Item
from ppdet.deploy.serving.jobs import IMAGE, ModelInfo, Prepared, Preparer, Runner, ServedModel, Unusable, slot_bytes
from ppdet.deploy.serving.limits import Refused, Settings, too_busy
from ppdet.deploy.serving.places import Place, Places
from ppdet.deploy.serving.prometheus import Metrics
from ppdet.deploy.serving.sliced import Part, SlicedImages
from ppdet.deploy.serving.slots import SlotQueue, Slots
from ppdet.deploy.serving.worker_process import Died, Ended, WorkerProcess
from ppdet.utils.class_thresholds import thresholds_of
from ppdet.utils.errors import DeployError
from ppdet.utils.logger import get_logger
from ppdet.utils.process.cpu import cpu_count

logger = get_logger(__name__)

MAX_PREPARING_PROCESSES = 4
# Those processes run in parallel. Numpy's library would start a thread for each processor, which has nothing to do.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
# Preprocessed images that may wait for the model, per image of a batch: enough to find several of one size.
PREPARED_PER_BATCH = 4
LEAST_LIMIT_S = 2.0  # a process is not killed earlier, even if timeout_s is shorter: starting another takes as long
WATCH_S = 0.1  # how often the processes are looked at
Kind = TypeVar("Kind")
ENDING = "the server is about to end"


class Answer(NamedTuple):
    """The detections in an image of `width` x `height` pixels, the size of its batch, and milliseconds per stage."""

    detections: Detections
    width: int
    height: int
    batch_size: int
    timing_ms: dict[str, float]


@dataclass(eq=False)
class Request:
    """A request on its way through the stages.

    Attributes:
        image: the bytes of its image file; none if nobody waits for its answer any more.
        gone: nobody waits for its answer any more.
        items: what the batcher has of it.
    """

    image: bytes
    gone: bool = False
    items: list[Item] = field(default_factory=list)

    def forget(self) -> None:
        """Nobody waits any more. A stage that still has this request in its queue does not keep the image."""
        self.gone, self.image = True, b""


class Service:
    """Detects for many requests. All public methods belong to the event loop's thread.

    Attributes:
        class_names: name of each class.
        category_ids: COCO category id of each class.
        thresholds: least scores of detections in an answer, unless the request names one: one, or one for each class.
        infer_cfg: the settings that export wrote beside the graph.
        info: the engine that runs the model; None until it has run once.
        places: what requests hold (see `admission`).
        draining: the server is about to end.

    Raises:
        DeployError: the folder of the model has no infer_cfg.yml, or one that cannot be used.
    """

    def __init__(self, model: ServedModel, settings: Settings) -> None:
        self.infer_cfg = read_infer_cfg(model.folder)
        self.class_names, self.category_ids = class_list(self.infer_cfg)
        self.thresholds = thresholds_of(self.infer_cfg, self.class_names)
        self.slot_bytes = slot_bytes(Preprocess(self.infer_cfg), settings.max_pixels, model.views)
        self.info: ModelInfo | None = None
        self.served = model
        self.settings = settings
        self.metrics = Metrics()
        self.metrics.ready.set_function(lambda: float(self.obstacle is None))
        self.metrics.in_flight.set_function(lambda: self.admitted)
        self.places = Places()
        self.draining = False
        self.processes: list[WorkerProcess] = []

    async def start(self) -> None:
        """Start the processes; they are ready when `obstacle` is None."""
        max_batch = self.settings.max_batch
        count = min(MAX_PREPARING_PROCESSES, max(2, cpu_count()))
        self.slots = Slots(PREPARED_PER_BATCH * max_batch, self.slot_bytes)
        self.room = SlotQueue(self.slots)
        pixels = None
        if self.served.slicing is not None:
            pixels = Slots(count, 3 * self.settings.max_pixels)
            self.sliced = SlicedImages(self, self.served.slicing, SlotQueue(pixels))
        shared = self.metrics, self._limit_s
        self.model = WorkerProcess("model", Runner, (self.served, self.slots), *shared, self._tell_ready)
        arguments = (self.served, self.slots, pixels)
        self.preparing = [
            WorkerProcess("prepare", Preparer, arguments, *shared, environment=ONE_THREAD) for _ in range(count)
        ]
        self.processes = [self.model, *self.preparing]
        for process in self.preparing:
            process.alike = self.preparing
        self.idle = list(self.preparing)  # the first one is taken, the last one was returned last
        self.returned = threading.Condition()
        self.pool = ThreadPoolExecutor(count, "prepare")
        self.starters = ThreadPoolExecutor(count + 1, "start")
        self.batcher = Batcher(self._run, max_batch, 1e-3 * self.settings.max_delay_ms, self.metrics)
        for process in self.processes:
            self.starters.submit(process.start)
        self.watching = asyncio.ensure_future(self._watch())

    def _limit_s(self) -> float:
        return max(self.settings.timeout_s, LEAST_LIMIT_S)

    def _tell_ready(self, info: ModelInfo) -> None:
        self.info = info
        # Another process takes the same engine, rather than the one that is fastest then.
        self.model.arguments = (self.served._replace(backend=info.backend), self.slots)
        self.metrics.model.labels(info.backend, info.device, info.precision).set(1)
        logger.info("ready: the first run took %.2f s", info.first_run_s)

    async def _watch(self) -> None:
        """Kill processes that take too long, and start those again that died without anything to do."""
        while True:
            for process in self.processes:
                if process.overdue:
                    process.kill_overdue()
                elif process.died_idle:
                    self.starters.submit(process.start)
            await asyncio.sleep(WATCH_S)

    async def stop(self) -> None:
        """Finish the admitted requests, as long as they may take, and end the processes and threads."""
        self.draining = True
        patience_s = self.settings.timeout_s if self.admitted else 0.0
        await asyncio.get_running_loop().run_in_executor(None, self.batcher.close, patience_s)
        self.watching.cancel()
        await asyncio.get_running_loop().run_in_executor(None, self._end)

    def end_processes(self) -> None:
        """Kill the processes at once, whatever they do."""
        for process in self.processes:
            process.end()

    def _end(self) -> None:
        self.end_processes()
        self.pool.shutdown()
        self.starters.shutdown()

    @property
    def failure(self) -> DeployError | None:
        """Why a process cannot be started; the server ends with it. None if all can."""
        return next((process.failure for process in self.processes if process.failure is not None), None)

    @property
    def obstacle(self) -> str | None:
        """Why clients should not send requests now; None if they may."""
        if self.draining:
            return ENDING
        if self.model.overdue:
            return "the model has been running for more than timeout_s"
        if not self.model.ready:
            return "the model's process is starting"
        if not any(process.ready and not process.overdue for process in self.preparing):
            return "no process that prepares images is there"
        return None

    @property
    def admitted(self) -> int:
        """How many requests hold a place."""
        return len(self.places.held)

    def admission(self, address: str) -> AbstractContextManager[Place]:
        """Hold one of `max_queue` places for a request, from before it is read until its client has the answer.

        Raises:
            Refused: all `max_queue` places are in use.
        """
        return self.places.hold(address, self.settings.max_queue)

    async def detect(self, image: bytes) -> Answer:
        """Detect on the bytes of an image file. If this is cancelled, no further stage begins.

        Raises:
            Refused: the image is damaged, or too large, or a process died twice with it.
        """
        request = Request(image)
        try:
            if self.served.slicing is not None and await self.sliced.has_windows(request):
                return await self._kept(self.sliced.detect(request, await self.sliced.pixels.take()))
            return await self.detect_whole(request)
        finally:
            self.give_up(request)

    async def detect_whole(self, request: Request) -> Answer:
        """Detect in an image as it is, and not in windows of it."""
        slot = await self.room.take()
        part = await self._kept(self.detect_part(request, slot, "prepare", IMAGE, self.settings.max_pixels))
        sample, outcome = part.sample, part.outcome
        stages = {"prepare": part.prepare_s, "queue": outcome.waited_s, "inference": outcome.ran_s}
        return self.answer(outcome.result, (sample.width, sample.height), outcome.batch_size, **stages)

    async def _kept(self, work: Coroutine[Any, Any, Kind]) -> Kind:
        """Do work that goes on when nobody waits any more: what a process does cannot be taken back, nor its slot."""
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(task)

    def give_up(self, request: Request) -> None:
        """Begin no further stage of a request."""
        request.forget()
        for item in request.items:
            self.batcher.drop(item)

    async def detect_part(self, request: Request, slot: int, name: str, *arguments: Any) -> Part:
        """Detect in an image or window that a method of `Preparer` makes in a slot, which is given back here."""
        try:
            sample, seconds = await self.prepare(request, name, slot, *arguments)
            if request.gone:
                raise asyncio.CancelledError
            item = self.batcher.submit(sample)
            request.items.append(item)
            return Part(sample, seconds, await asyncio.wrap_future(item.future))
        finally:
            await self.room.give_back(slot)

    def answer(self, found: Detections, size: tuple[int, int], batch_size: int, **seconds: float) -> Answer:
        """The answer for an image of this width and height, with the seconds of each stage."""
        return Answer(found, *size, batch_size, {stage: round(1e3 * value, 2) for stage, value in seconds.items()})

    async def prepare(self, request: Request, name: str, *arguments: Any) -> tuple[Any, float]:
        """Call a method of a `Preparer`; return its result, and the seconds that this took.

        Args:
            arguments: of the method; IMAGE stands for the request's image.

        Raises:
            Refused: the image cannot be used.
        """
        return await self._in_pool(self._prepare, request, name, arguments)

    def _prepare(self, request: Request, name: str, arguments: tuple) -> tuple[Any, float]:
        if request.gone:
            raise Refused(504, "timed out before the image was decoded")
        with self.metrics.stage("prepare") as timer:
            result = self._ask(name, *(request.image if argument is IMAGE else argument for argument in arguments))
            if isinstance(result, Unusable):
                raise Refused(*result)
        return result, timer.seconds

    async def draw(self, image: bytes, detections: Detections, kind: str) -> bytes:
        """Draw detections into an image; return an image file of this kind, jpeg or png."""
        request = Request(image)
        try:
            return await self._in_pool(self._draw, request, detections, kind)
        finally:
            request.forget()

    def _draw(self, request: Request, detections: Detections, kind: str) -> bytes:
        with self.metrics.stage("draw"):
            return self._ask("draw", request.image, detections.rows, self.class_names, kind)

    def _run(self, samples: Sequence[Prepared]) -> tuple[list[Detections], float]:
        try:
            return self.model.call("run", samples)
        except Ended:
            raise too_busy(ENDING) from None

    def _ask(self, name: str, *arguments: Any) -> Any:
        """Call a method of a `Preparer`, and once more in another process if the first one dies."""
        for is_last in (False, True):
            process = self._take_idle()
            try:
                return process.call(name, *arguments)
            except Died as error:
                if error.overdue:
                    raise Refused(504, "timed out while the image was decoded") from None
                if is_last:
                    logger.error("an image is given up: %s, twice in a row", error)
                    raise Refused(500, "the process died each time it decoded this image") from None
            except Ended:
                raise too_busy(ENDING) from None
            finally:
                with self.returned:
                    self.idle.append(process)
                    self.returned.notify()

    def _take_idle(self) -> WorkerProcess:
        """Wait for a process that nobody uses: one that is there, or any one if none is."""
        with self.returned:
            while True:
                can_work = [process for process in self.idle if process.ready]
                if can_work or (self.idle and not any(process.ready for process in self.preparing)):
                    process = (can_work or self.idle)[0]
                    self.idle.remove(process)
                    return process
                self.returned.wait(WATCH_S)

    def _in_pool(self, function: Any, *arguments: Any) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(self.pool, function, *arguments)
