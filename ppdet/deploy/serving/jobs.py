"""What the server's worker processes do: some prepare and draw images, and one runs the model."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from ppdet.data.loading.views import View
from ppdet.data.transforms.decode import decode_image
from ppdet.deploy.detector import Detections, Detector
from ppdet.deploy.preprocess import Preprocess, read_infer_cfg
from ppdet.deploy.serving.limits import Refused, broken_image, check_image
from ppdet.deploy.serving.quiet import quiet_libraries
from ppdet.deploy.serving.slots import IS_SPARSE, Slots
from ppdet.deploy.tta import TTA
from ppdet.utils.errors import DataError, DeployError, ImageError
from ppdet.visualize import draw_detections

JPEG_QUALITY = 90
INPUTS = ("image", "im_shape", "scale_factor")  # what `Preprocess.join` needs of a sample


class ServedModel(NamedTuple):
    """An exported folder, and how it is run; see `Detector`."""

    folder: Path
    backend: str = "auto"
    device: str = "cpu"
    precision: str | None = None
    threads: int | None = None
    tta: TTA | None = None

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


class Preparer:
    """Decodes, preprocesses and draws images.

    Args:
        model: the exported model, and the views of images that it sees.
        slots: where prepared images go.
    """

    hello = None

    def __init__(self, model: ServedModel, slots: Slots) -> None:
        quiet_libraries()
        cv2.setNumThreads(0)  # the processes themselves run in parallel
        self.preprocess = Preprocess(read_infer_cfg(model.folder))
        self.views = model.views
        self.slots = slots

    def prepare(self, image: bytes, number: int, max_pixels: int) -> Prepared | Unusable:
        """Preprocess the bytes of an image file, and pad the image, into the slot `number`; so for each view."""
        slot, room, views = self.slots[number], self.slots.size, []
        try:
            check_image(image, max_pixels)
            for view in self.views:
                sample = self.preprocess.prepare(image, view=view)
                height, width = self.preprocess.padded(sample["image"].shape[1:])
                room -= image_bytes(height * width)
                if IS_SPARSE and room < 0:
                    pixels = f"{height * width} pixels when it is padded for the model"
                    return Unusable(413, f"the image has {pixels}: too many")
                sample = self.preprocess.pad(sample)
                views.append(slot.pack({name: np.asarray(sample[name], np.float32) for name in INPUTS}))
        except ImageError as error:
            refused = broken_image(error)
            return Unusable(refused.status, refused.reason)
        except DataError as error:  # a view of it would be too large
            return Unusable(413, str(error))
        except Refused as refused:
            return Unusable(refused.status, refused.reason)
        return Prepared(number, views, int(sample["w"]), int(sample["h"]))

    def draw(self, image: bytes, rows: np.ndarray, class_names: Sequence[str], kind: str) -> bytes:
        """Draw detections into an image; return an image file of this kind, jpeg or png."""
        drawn = draw_detections(decode_image(image, "image"), rows, class_names, threshold=0.0)
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if kind == "jpeg" else []
        return cv2.imencode(f".{kind}", drawn[..., ::-1], quality)[1].tobytes()


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
