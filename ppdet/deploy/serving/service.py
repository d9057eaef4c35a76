"""A detector that many requests share: decoding in some threads, the model in one, nothing without a bound."""

import asyncio
import time
from collections.abc import Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import cv2
import numpy as np

from ppdet.data.transforms.decode import decode_image
from ppdet.deploy.detector import Detections, Detector
from ppdet.deploy.serving.batching import Batcher
from ppdet.deploy.serving.limits import Settings, broken_image, check_image, too_busy
from ppdet.deploy.serving.prometheus import Metrics
from ppdet.utils.errors import ImageError
from ppdet.utils.logger import get_logger
from ppdet.utils.process.cpu import cpu_count
from ppdet.visualize import draw_detections

logger = get_logger(__name__)

MOST_PREPARING_THREADS = 4
# Prepared images that wait for the model, for each image of a batch: enough to find some of one size.
PREPARED_PER_BATCH = 4
JPEG_QUALITY = 90


class Answer(NamedTuple):
    """Detections of an image of that size, and milliseconds of each stage."""

    detections: Detections
    width: int
    height: int
    batch_size: int
    timing_ms: dict[str, float]


class Service:
    """Everything of the server that is not HTTP. `start` and `stop` are for the event loop that calls `predict`.

    Attributes:
        ready: the model has run. draining: the server is about to end. failure: why the model could not run at all.
    """

    def __init__(self, detector: Detector, settings: Settings) -> None:
        self.detector = detector
        self.settings = settings
        self.metrics = Metrics()
        options = detector.backend.options
        self.metrics.model.labels(detector.backend.name, options.device, options.precision).set(1)
        self.metrics.ready.set_function(lambda: float(self.obstacle is None))
        self.metrics.in_flight.set_function(lambda: self.admitted)
        self.admitted = 0
        self.ready = self.draining = False
        self.failure: Exception | None = None

    async def start(self) -> None:
        """Start the threads, and the model's first run, which takes longer than others."""
        settings = self.settings
        self.pool = ThreadPoolExecutor(min(MOST_PREPARING_THREADS, max(2, cpu_count())), "prepare")
        self.batcher = Batcher(self.detector.run, settings.max_batch, 1e-3 * settings.max_delay_ms, self.metrics)
        self.prepared = asyncio.Semaphore(PREPARED_PER_BATCH * settings.max_batch)
        self.first_run = asyncio.ensure_future(self.run_first())

    async def run_first(self) -> None:
        start = time.perf_counter()
        try:
            await self.detect(np.full((480, 640, 3), 128, np.uint8))
        except Exception as error:  # whatever an engine may raise; the server ends with it
            self.failure = error
            return
        self.ready = True
        logger.info("ready: the first run took %.2f s", time.perf_counter() - start)

    async def stop(self) -> None:
        """Finish what was admitted, and end the threads."""
        self.first_run.cancel()
        await asyncio.get_running_loop().run_in_executor(None, self.batcher.close, self.settings.timeout_s)
        self.pool.shutdown()

    @property
    def obstacle(self) -> str | None:
        """Why nobody should send a request now; None when all is well."""
        if self.draining:
            return "the server is about to end"
        if not self.ready:
            return "the model has not run yet"
        since = self.batcher.running_since
        if since is not None and time.monotonic() - since > self.settings.timeout_s:
            return "the model does not come to an end"
        return None

    @contextmanager
    def admission(self) -> Iterator[None]:
        """Hold one of max_queue places for a request, from before it is read until it is answered.

        Raises:
            Refused: there is none left.
        """
        if self.admitted >= self.settings.max_queue:
            raise too_busy(f"{self.admitted} requests are waiting already")
        self.admitted += 1
        try:
            yield
        finally:
            self.admitted -= 1

    async def detect(self, image: Any) -> Answer:
        """Detect on the bytes of an image file, or on RGB pixels (H, W, 3) uint8.

        Raises:
            Refused: the image is broken, or too large.
        """
        async with self.prepared:
            sample, seconds = await self.in_pool(self.prepare, image)
            outcome = await asyncio.wrap_future(self.batcher.submit(sample))
        timing = {"prepare": seconds, "queue": outcome.waited_s, "inference": outcome.ran_s}
        timing_ms = {stage: round(1e3 * value, 2) for stage, value in timing.items()}
        return Answer(outcome.result, sample["w"], sample["h"], outcome.batch_size, timing_ms)

    def prepare(self, image: Any) -> tuple[dict, float]:
        """A sample at its padded size, and the seconds it took."""
        with self.metrics.stage("prepare") as time_taken:
            if isinstance(image, bytes):
                check_image(image, self.settings.max_pixels)
            try:
                sample = self.detector.prepare(image)
            except ImageError as error:
                raise broken_image(error) from None
            sample = self.detector.preprocess.pad(sample)
        return sample, time_taken["seconds"]

    async def draw(self, image: bytes, detections: Detections, kind: str) -> bytes:
        """The image with its detections, as a jpeg or png file."""
        return await self.in_pool(self.draw_now, image, detections, kind)

    def draw_now(self, image: bytes, detections: Detections, kind: str) -> bytes:
        with self.metrics.stage("draw"):
            pixels = decode_image(image, "image")
            drawn = draw_detections(pixels, detections.rows, self.detector.class_names, threshold=0.0)
            quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if kind == "jpeg" else []
            return cv2.imencode(f".{kind}", drawn[..., ::-1], quality)[1].tobytes()

    def in_pool(self, function: Any, *arguments: Any) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(self.pool, function, *arguments)
