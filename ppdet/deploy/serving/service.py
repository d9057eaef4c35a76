"""The part of the server that is not HTTP: a detector that requests share, with bounded queues.

A few threads decode and preprocess images, and one thread runs the model.
"""

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

MAX_PREPARING_THREADS = 4
# Preprocessed images that may wait for the model, per image of a batch: enough to find several of one size.
PREPARED_PER_BATCH = 4
JPEG_QUALITY = 90


class Answer(NamedTuple):
    """The detections in an image of `width` x `height` pixels, the size of its batch, and milliseconds per stage."""

    detections: Detections
    width: int
    height: int
    batch_size: int
    timing_ms: dict[str, float]


class Service:
    """Detects for many requests. All methods but `prepare` and `draw_now` belong to the event loop's thread.

    Attributes:
        admitted: requests that hold a place (see `admission`).
        ready: the model has run once.
        draining: the server is about to end.
        failure: the exception of the model's first run, if it failed.
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
        """Start the threads and the model's first run, which takes longer than later runs."""
        settings = self.settings
        self.pool = ThreadPoolExecutor(min(MAX_PREPARING_THREADS, max(2, cpu_count())), "prepare")
        self.batcher = Batcher(self.detector.run, settings.max_batch, 1e-3 * settings.max_delay_ms, self.metrics)
        self.prepared = asyncio.Semaphore(PREPARED_PER_BATCH * settings.max_batch)
        self.first_run = asyncio.ensure_future(self._run_first())

    async def _run_first(self) -> None:
        start = time.perf_counter()
        try:
            await self.detect(np.full((480, 640, 3), 128, np.uint8))
        except Exception as error:  # an engine may raise anything; the server ends with it
            self.failure = error
            return
        self.ready = True
        logger.info("ready: the first run took %.2f s", time.perf_counter() - start)

    async def stop(self) -> None:
        """Finish the admitted requests and end the threads."""
        self.first_run.cancel()
        await asyncio.get_running_loop().run_in_executor(None, self.batcher.close, self.settings.timeout_s)
        self.pool.shutdown()

    @property
    def obstacle(self) -> str | None:
        """Why clients should not send requests now; None if they may."""
        if self.draining:
            return "the server is about to end"
        if not self.ready:
            return "the model has not run yet"
        since = self.batcher.running_since
        if since is not None and time.monotonic() - since > self.settings.timeout_s:
            return "the model has been running for more than timeout_s"
        return None

    @contextmanager
    def admission(self) -> Iterator[None]:
        """Hold one of `max_queue` places for a request, from before it is read until it is answered.

        Raises:
            Refused: all `max_queue` places are in use.
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
            Refused: the image is damaged, or too large.
        """
        async with self.prepared:
            sample, seconds = await self._in_pool(self.prepare, image)
            outcome = await asyncio.wrap_future(self.batcher.submit(sample))
        timing = {"prepare": seconds, "queue": outcome.waited_s, "inference": outcome.ran_s}
        timing_ms = {stage: round(1e3 * value, 2) for stage, value in timing.items()}
        return Answer(outcome.result, sample["w"], sample["h"], outcome.batch_size, timing_ms)

    def prepare(self, image: Any) -> tuple[dict, float]:
        """Preprocess an image and pad it; return the sample and the seconds that this took."""
        with self.metrics.stage("prepare") as timer:
            if isinstance(image, bytes):
                check_image(image, self.settings.max_pixels)
            try:
                sample = self.detector.prepare(image)
            except ImageError as error:
                raise broken_image(error) from None
            sample = self.detector.preprocess.pad(sample)
        return sample, timer.seconds

    async def draw(self, image: bytes, detections: Detections, kind: str) -> bytes:
        """Draw detections into an image; return an image file of this kind, jpeg or png."""
        return await self._in_pool(self.draw_now, image, detections, kind)

    def draw_now(self, image: bytes, detections: Detections, kind: str) -> bytes:
        with self.metrics.stage("draw"):
            pixels = decode_image(image, "image")
            drawn = draw_detections(pixels, detections.rows, self.detector.class_names, threshold=0.0)
            quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if kind == "jpeg" else []
            return cv2.imencode(f".{kind}", drawn[..., ::-1], quality)[1].tobytes()

    def _in_pool(self, function: Any, *arguments: Any) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(self.pool, function, *arguments)
