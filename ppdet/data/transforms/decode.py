"""Image files to RGB arrays."""

import os
from collections.abc import Callable

import cv2
import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.transforms import jpeg
from ppdet.utils.boxes import clip_to_image
from ppdet.utils.errors import ImageError
from ppdet.utils.logger import get_logger
from ppdet.utils.process.once import Once

logger = get_logger(__name__)

BOX_FIELDS = ("gt_bbox", "gt_class", "is_crowd")  # with a row for every box
Size = tuple[int, int]  # h, w
NewSize = Callable[[int, int], Size]  # (h, w) -> the size that the image is resized to next

FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


@register
@serializable
class Decode:
    """Reads `im_file` into `image` (H, W, 3) RGB uint8 and sets `h`, `w`, `im_shape` and `scale_factor` = 1.

    A sample that already has an RGB uint8 `image` (a video frame) keeps it; one with the bytes of a file in `encoded`
    is read from these, and `im_file` is their name. The orientation in a photo's
    EXIF data is applied, as cv2.imread does, unless the record's `h` and `w` show that its boxes were drawn
    on the unturned pixels. Where the record's size is wrong otherwise the image is trusted, and the log says so
    once. Boxes are in pixels: they are clipped to the image, and those outside of it are dropped, which
    the log also says once.
    Raises ImageError for a file that is missing, empty, cut short or not an image.
    """

    keeps_uint8 = True

    def __init__(self) -> None:
        self._once = Once(("size", "outside"))

    def __call__(self, sample: dict, rng: np.random.Generator | None = None, new_size: NewSize | None = None) -> dict:
        """With `new_size`, the pixels of a JPEG may come at half the size or less; see DecodeAndResize."""
        size = (sample.get("h"), sample.get("w"))
        if "image" in sample:
            h, w = sample["image"].shape[:2]
        else:
            path = sample["im_file"]
            data = sample.pop("encoded", None)
            data = _read(path) if data is None else data
            sample["image"], (h, w) = _decode(data, path, size if None not in size else None, new_size)
        if None not in size and size != (h, w):
            said = f"its annotation says {size[0]} x {size[1]}: the image's size is used"
            self._report("size", f"{sample.get('im_file')} is {h} x {w} pixels, {said}, boxes are clipped to it")
        if "gt_bbox" in sample:
            self._clip_boxes(sample, h, w)
        sample["h"], sample["w"] = h, w
        sample["im_shape"] = np.array([h, w], dtype=np.float32)
        sample["scale_factor"] = np.ones(2, dtype=np.float32)
        return sample

    def _clip_boxes(self, sample: dict, h: int, w: int) -> None:
        boxes, inside = clip_to_image(sample["gt_bbox"], h, w)
        sample["gt_bbox"] = boxes
        if not inside.all():
            for key in BOX_FIELDS:
                if key in sample:
                    sample[key] = sample[key][inside]
            count = f"{(~inside).sum()} of its {len(inside)} boxes lie outside of its {h} x {w} pixels"
            self._report("outside", f"{sample.get('im_file')}: {count}: left out")

    def _report(self, kind: str, message: str) -> None:
        """Warn once of a kind, over all data workers."""
        if self._once.first(kind):
            logger.warning(f"{message} (further such images are not reported)")


class DecodeAndResize:
    """Decode and the Resize or RandomResize right after it, in one: readers and deployed models join them.

    A JPEG whose sides all become at most half as long is decoded at 1/2, 1/4 or 1/8 of its size, never below the
    size it is resized to. This is faster, and smoother than bilinear resizing, which looks at every second pixel at
    most. Boxes, `im_shape` and `scale_factor` are the same as without.
    """

    keeps_uint8 = True

    def __init__(self, decode: Decode, resize: Callable) -> None:
        self.decode = decode
        self.resize = resize

    def __call__(self, sample: dict, rng: np.random.Generator | None = None) -> dict:
        sample = self.decode(sample, rng, self.resize.new_size)
        return self.resize(sample, rng, (sample["h"], sample["w"]))


def read_image(path: str, expected_size: Size | None = None) -> np.ndarray:
    """The image file `path` as (H, W, 3) RGB uint8; see decode_image."""
    return decode_image(_read(path), path, expected_size)


def decode_image(data: bytes, name: str, expected_size: Size | None = None) -> np.ndarray:
    """Encoded bytes as (H, W, 3) RGB uint8; grey, palette, 16-bit, CMYK are converted, alpha is dropped.

    `expected_size` (h, w): when only the unturned pixels have it, the EXIF orientation is ignored.
    Raises ImageError, naming `name`.
    """
    return _decode(data, name, expected_size)[0]


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ImageError(path, (error.strerror or str(error)).lower()) from None
    except ValueError as error:  # NUL, or half a character
        raise ImageError(path, f"not the name of a file ({error})") from None


def _decode(
    data: bytes, name: str, expected_size: Size | None = None, new_size: NewSize | None = None
) -> tuple[np.ndarray, Size]:
    """As decode_image; also the size that the image has when it is not reduced."""
    if not data:
        raise ImageError(name, "the file is empty")
    if _is_cut_short(data):
        raise ImageError(name, "the file is truncated")
    stored = jpeg.stored_size(data) if new_size and jpeg.is_jpeg(data) else None
    factor = jpeg.reduction(stored, new_size) if stored else 1
    flags = FLAGS[factor]
    image, (h, w) = _decode_pixels(data, flags, name, factor, stored)
    if expected_size == (w, h) and h != w:
        image, (h, w) = _decode_pixels(data, flags | cv2.IMREAD_IGNORE_ORIENTATION, name, factor, stored)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image), (h, w)


def _decode_pixels(data: bytes, flags: int, name: str, factor: int, stored: Size | None) -> tuple[np.ndarray, Size]:
    """BGR pixels, and their size before reduction by `factor`."""
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error as error:  # e.g. more pixels than OpenCV admits
        raise ImageError(name, f"OpenCV cannot decode it ({error.err or error})") from None
    if image is None:
        kind = os.path.splitext(name)[1] or "image"
        raise ImageError(name, f"not a readable {kind} file (damaged, or of a kind OpenCV does not know)")
    size = image.shape[:2]
    if factor > 1:
        h, w = stored
        turned = (size[0] > size[1]) != (h > w)
        size = (w, h) if turned else (h, w)
    return image, size


def _is_cut_short(data: bytes) -> bool:
    """Whether the end is missing of a file of a kind for which OpenCV does not say so."""
    if jpeg.is_jpeg(data):
        return jpeg.is_cut_short(data)
    if data.startswith(b"\x89PNG"):
        return data.rfind(b"IEND") < 0
    if data.startswith(b"RIFF"):
        return len(data) < int.from_bytes(data[4:8], "little") + 8
    return False  # OpenCV reports it for the other kinds
