"""Detection in the windows of large images (docs/SLICING.md), each of which counts as an image of its own.

A process decodes the image once, into memory that all of them share; then the windows are prepared, wait and run among
those of other images and among images that are no larger than a window.
"""

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ppdet.deploy.detector import Detections
from ppdet.deploy.serving.batching import Outcome
from ppdet.deploy.serving.jobs import IMAGE, Prepared
from ppdet.deploy.serving.slots import SlotQueue
from ppdet.deploy.slicing import Slicing

if TYPE_CHECKING:
    from ppdet.deploy.serving.service import Answer, Request, Service

# Windows of one image that are in use at the same time, per image of a batch: those of one batch run while those of the
# next are prepared. It is half of all places for prepared images, so that further images have room beside it.
WINDOWS_PER_BATCH = 2


class Part(NamedTuple):
    """An image or window that was detected in: its sample, the seconds of its preparation, and what the model found."""

    sample: Prepared
    prepare_s: float
    outcome: Outcome


class SlicedImages:
    """Detects in windows of images, for a service.

    Args:
        pixels: slots for decoded images; an image keeps one until all of its windows are prepared.
    """

    def __init__(self, service: "Service", slicing: Slicing, pixels: SlotQueue) -> None:
        self.service = service
        self.slicing = slicing
        self.pixels = pixels

    async def has_windows(self, request: "Request") -> bool:
        """Whether an image may have more than one window, as its header says.

        Raises:
            Refused: the image cannot be used.
        """
        larger, _ = await self.service.prepare(request, "is_larger", IMAGE, self.service.settings.max_pixels)
        return larger

    async def detect(self, request: "Request", number: int) -> "Answer":
        """Detect in the windows of an image, and merge their detections.

        Args:
            number: a slot of `pixels`, which is given back here.

        Raises:
            Refused: the image cannot be used, or has too many windows, or a process died twice with one.
        """
        service, settings = self.service, self.service.settings
        limits = settings.max_pixels, settings.max_windows
        try:
            (height, width), decode_s = await service.prepare(request, "decode", IMAGE, number, *limits)
            boxes = self.slicing.windows(height, width)
            parts = await self._detect_all(request, number, (height, width), boxes) if len(boxes) > 1 else []
        finally:
            await self.pixels.give_back(number)
        if not parts:  # of sides that only fit when the image is rotated as its EXIF data says
            return await service.detect_whole(request)
        rows = [part.outcome.result.rows for part in parts]
        merged, merge_s = await service.prepare(request, "merge", boxes, rows)
        return service.answer(
            Detections.from_rows(merged, service.class_names),
            (width, height),
            max(part.outcome.batch_size for part in parts),
            prepare=decode_s + sum(part.prepare_s for part in parts) + merge_s,
            queue=max(part.outcome.waited_s for part in parts),
            # Its share of each run.
            inference=sum(part.outcome.ran_s / part.outcome.batch_size for part in parts),
        )

    async def _detect_all(
        self, request: "Request", number: int, size: tuple[int, int], boxes: np.ndarray
    ) -> list[Part]:
        """Detect in all windows (K, 4), a few at a time; if one fails, no further one begins."""
        windows, found = iter(enumerate(boxes)), dict[int, Part]()
        count = min(len(boxes), WINDOWS_PER_BATCH * self.service.settings.max_batch)
        lanes = [asyncio.ensure_future(self._detect_some(request, number, size, windows, found)) for _ in range(count)]
        done, _ = await asyncio.wait(lanes, return_when=asyncio.FIRST_EXCEPTION)
        if len(found) < len(boxes):
            # The others end with errors that only say that the request was given up.
            errors = [error for lane in done if not lane.cancelled() and (error := lane.exception())]
            self.service.give_up(request)
            await asyncio.wait(lanes)
            raise errors[0] if errors else asyncio.CancelledError
        return [found[place] for place in range(len(boxes))]

    async def _detect_some(
        self,
        request: "Request",
        number: int,
        size: tuple[int, int],
        windows: Iterator[tuple[int, np.ndarray]],
        found: dict[int, Part],
    ) -> None:
        service = self.service
        for place, box in windows:
            slot = await service.room.take()
            found[place] = await service.detect_part(request, slot, "prepare_window", number, size, box)
