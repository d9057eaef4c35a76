"""What the server's worker processes do: some prepare and draw images, and one runs the model."""

import functools
import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np

from ppdet.data.loading.views import View
from ppdet.data.loading.windows import crops
from ppdet.data.transforms.decode import decode_image
from ppdet.deploy.detector import Detections, Detector
from ppdet.deploy.preprocess import Preprocess, read_infer_cfg, read_pixels
from ppdet.deploy.serving.limits import Refused, broken_image, check_image
from ppdet.deploy.serving.quiet import quiet_libraries
from ppdet.deploy.serving.slots import IS_SPARSE, Slots
from ppdet.deploy.slicing import Slicing, WindowMerger
from ppdet.deploy.tta import TTA
from ppdet.utils.errors import DataError, DeployError, ImageError
from ppdet.visualize import draw_detections

JPEG_QUALITY = 90
# Slots have room for every image that a request may have, since only pages that were written take up memory. On systems
# where all of them do, larger prepared images go through pipes, which takes longer.
LARGEST_SLOT = 1 << 50 if IS_SPARSE else 64 * 2**20
IMAGE = object()  # stands for the bytes of a request's image, which a call that waits does not keep
Kind = TypeVar("Kind", bound=Callable)
INPUTS = ("image", "im_shape", "scale_factor")  # what `Preprocess.join` needs of a sample


class ServedModel(NamedTuple):
    """An exported folder, and how it is run; see `Detector`."""

    folder: Path
    backend: str = "auto"
    device: str = "cpu"
    precision: str | None = None
    threads: int | None = None
    tta: TTA | None = None
    slicing: Slicing | None = None

    def load(self) -> Detector:
        return Detector(
            self.folder,
            self.backend,
            device=self.device,
            precision=self.precision,
            threads=self.threads,
            tta=self.tta,
        )

    @property
    def views(self) -> Sequence[View | None]:
        """The views of each image that the model sees; one None for the image as it is."""
        return self.tta.views if self.tta else [None]


class Prepared(NamedTuple):
    """A sample for the model, or one for each view of the image, and the width and height of the image itself.

    `views` is what `Slot.pack` returned for each: the places of the arrays in the slot.
    """

    slot: int
    views: Sequence[dict[str, Any]]
    width: int
    height: int

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """(3, H, W) of the padded image in each view."""
        return [arrays["image"].shape for arrays in self.views]


class Unusable(NamedTuple):
    """An image that cannot be used: the status and the reason of the answer."""

    status: int
    reason: str


def tells_unusable(prepare: Kind) -> Kind:
    """Let a method of Preparer return Unusable for an image that cannot be used, which it raises as an error."""

    @functools.wraps(prepare)
    def method(*arguments: Any) -> Any:
        try:
            return prepare(*arguments)
        except ImageError as error:
            refused = broken_image(error)
        except DataError as error:  # a view of it would be too large
            return Unusable(413, str(error))
        except Refused as error:
            refused = error
        return Unusable(refused.status, refused.reason)

    return method  # type: ignore[return-value]


class Preparer:
    """Decodes, preprocesses and draws images, and merges the detections of their windows.

    Args:
        model: the exported model, and the views or windows of images that it sees.
        slots: where prepared images go.
        pixels: where decoded images are while their windows are prepared; None if images are not sliced.
    """

    hello = None

    def __init__(self, model: ServedModel, slots: Slots, pixels: Slots | None = None) -> None:
        quiet_libraries()
        cv2.setNumThreads(0)  # the processes themselves run in parallel
        self.preprocess = Preprocess(read_infer_cfg(model.folder))
        self.views = model.views
        self.slots = slots
        self.slicing = model.slicing or Slicing()
        self.pixels = pixels

    @tells_unusable
    def prepare(self, number: int, image: bytes, max_pixels: int) -> Prepared | Unusable:
        """Preprocess the bytes of an image file, and pad the image, into the slot `number`; so for each view."""
        check_image(image, max_pixels)
        return self._prepare(number, image)

    def _prepare(self, number: int, image: bytes | np.ndarray) -> Prepared:
        slot, room, views = self.slots[number], self.slots.size, []
        for view in self.views:
            sample = self.preprocess.prepare(image, view=view)
            height, width = self.preprocess.padded(sample["image"].shape[1:])
            room -= image_bytes(height * width)
            if IS_SPARSE and room < 0:
                pixels = f"{height * width} pixels when it is padded for the model"
                raise Refused(413, f"the image has {pixels}: too many")
            sample = self.preprocess.pad(sample)
            views.append(slot.pack({name: np.asarray(sample[name], np.float32) for name in INPUTS}))
        return Prepared(number, views, int(sample["w"]), int(sample["h"]))

    @tells_unusable
    def is_larger(self, image: bytes, max_pixels: int) -> bool | Unusable:
        """Whether the bytes of an image file, upright or rotated, may be of more than one window."""
        header = check_image(image, max_pixels)
        return max(self.slicing.count(*size) for size in itertools.permutations((header.height, header.width))) > 1

    @tells_unusable
    def decode(self, image: bytes, place: int, max_pixels: int, max_windows: int) -> tuple[int, int] | Unusable:
        """Decode the bytes of an image file into the slot `place` of `pixels`; its height and width."""
        check_image(image, max_pixels)
        decoded = read_pixels(image)
        height, width, _ = decoded.shape
        count = self.slicing.count(height, width)
        if count > max_windows:
            raise Refused(413, f"the image has {count} windows: at most {max_windows}")
        self._pixels(place, (height, width))[...] = decoded
        return height, width

    @tells_unusable
    def prepare_window(self, number: int, place: int, size: tuple[int, int], box: np.ndarray) -> Prepared | Unusable:
        """Preprocess the window (4,) x1, y1, x2, y2 of an image that was decoded; `size` is its height and width."""
        ((_, _, part),) = crops(self._pixels(place, size), box[None])
        return self._prepare(number, part)

    def _pixels(self, place: int, size: tuple[int, int]) -> np.ndarray:
        """The decoded image (H, W, 3) in a slot of `pixels`."""
        assert self.pixels is not None
        return np.ndarray((*size, 3), np.uint8, buffer=self.pixels[place].memory)

    def merge(self, boxes: np.ndarray, found: Sequence[np.ndarray]) -> np.ndarray:
        """The detections (M, 6) of an image from those of its windows (K, 4)."""
        following = range(len(boxes) - 1, -1, -1)
        ((_, rows),) = WindowMerger(self.slicing).add(following, list(boxes), following, found)
        return rows

    def draw(self, image: bytes, rows: np.ndarray, class_names: Sequence[str], kind: str) -> bytes:
        """Draw detections into an image; return an image file of this kind, jpeg or png."""
        drawn = draw_detections(decode_image(image, "image"), rows, class_names, threshold=0.0)
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if kind == "jpeg" else []
        return cv2.imencode(f".{kind}", drawn[..., ::-1], quality)[1].tobytes()


def slot_bytes(preprocess: Preprocess, max_pixels: int, views: Sequence[View | None]) -> int:
    """Bytes for the arrays of one prepared image, in all its views.

    Without Resize any size of at most `max_pixels` may come; there is an eighth more for padding.
    """
    size = 0
    for view in views:
        scale = view.scale if view else 1.0
        pixels = int(scale**2 * (max_pixels + max_pixels // 8)) + 2**16
        with suppress(DeployError):
            _, _, (height, width) = preprocess.sizes(scale)
            pixels = height * width
        size += image_bytes(pixels)
    return min(size, LARGEST_SLOT)


def image_bytes(pixels: int) -> int:
    """Bytes of a slot for the arrays of an image of so many pixels."""
    return 3 * 4 * pixels + 4096


class ModelInfo(NamedTuple):
    """The engine that runs the model, and how many seconds the first run took."""

    backend: str
    device: str
    precision: str
    first_run_s: float


class Runner:
    """Loads a model, and runs it once, because the first run takes longer than later ones.

    Raises:
        DeployError: the model cannot be loaded, or cannot run.
    """

    def __init__(self, model: ServedModel, slots: Slots) -> None:
        self.slots = slots
        self.detector = model.load()
        start = time.perf_counter()
        try:
            self.detector.predict(np.full((480, 640, 3), 128, np.uint8))
        except Exception as error:  # an engine may raise anything
            raise DeployError(f"the model cannot run: {error}") from error
        options = self.detector.backend.options
        seconds = time.perf_counter() - start
        self.hello = ModelInfo(self.detector.backend.name, options.device, options.precision, seconds)

    def run(self, batch: Sequence[Prepared]) -> tuple[list[Detections], float]:
        """The detections of each image, and the seconds that the run took."""
        start = time.perf_counter()
        views = [[self.slots[image.slot].unpack(arrays) for arrays in image.views] for image in batch]
        found = self.detector.run_views(zip(*views), [(image.height, image.width) for image in batch])
        return found, time.perf_counter() - start
