"""Decoding image files to RGB arrays."""

import itertools
import os
from collections.abc import Callable

import cv2
import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.image_files import ImageHeader, Unreadable, check_header, jpeg, png
from ppdet.data.transforms.base import Transform
from ppdet.data.transforms.box_fields import select_boxes
from ppdet.data.transforms.geometry.random_sizes import RandomResize
from ppdet.data.transforms.geometry.resize import Resize, Size
from ppdet.utils.boxes import clip_to_image
from ppdet.utils.disk.files import open_regular, read_regular
from ppdet.utils.disk.object_storage import is_url
from ppdet.utils.disk.remote_files import forget_copy, read_remote
from ppdet.utils.errors import ImageError
from ppdet.utils.logger import get_logger
from ppdet.utils.process.once import warn_once

logger = get_logger(__name__)

NewSize = Callable[[int, int], Size]  # (height, width) of an image -> the size it is resized to next

FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
LARGEST_FILE = 2**31 - 1  # bytes that OpenCV takes
_numbers = itertools.count()  # of the instances of Decode

# An image that OpenCV cannot decode becomes an error of ours. Its log would repeat a line for each damaged strip.
if "OPENCV_LOG_LEVEL" not in os.environ:
    getattr(cv2.utils, "logging", cv2).setLogLevel(0)  # OpenCV 4 has the function in cv2 itself


@register
@serializable
class Decode(Transform):
    """Reads the file `im_file` into `image` (H, W, 3) RGB uint8, and sets `h`, `w`, `im_shape` and `scale_factor` = 1.

    A sample that already has a uint8 RGB `image`, such as a video frame, keeps it. If it has the bytes of a file in
    `encoded`, these are decoded, and `im_file` serves as their name.

    The EXIF orientation of a photo is applied, as cv2.imread does, unless the record's `h` and `w` show that its boxes
    were drawn on the unrotated pixels. If the record's size is wrong in another way, the size of the image is used.
    Boxes are clipped to the image, and those outside of it are dropped. The first image of each of these two kinds is
    logged as a warning.

    Raises ImageError for a file that is missing, empty, truncated or not an image, or whose decoding would take far
    more time or memory than that of usual images of its size (see `image_files.check_header`).
    """

    keeps_uint8 = True

    def __init__(self) -> None:
        self._number = next(_numbers)  # copies in worker processes share it, so that each kind is logged once

    def __call__(self, sample: dict, rng: np.random.Generator | None = None, new_size: NewSize | None = None) -> dict:
        """Decode; with `new_size`, a JPEG may be decoded at half its size or less, see DecodeAndResize."""
        expected = (sample["h"], sample["w"]) if "h" in sample and "w" in sample else None
        if "image" in sample:
            h, w = sample["image"].shape[:2]
        else:
            path = sample["im_file"]
            data = sample.pop("encoded", None)
            data = read_file(path) if data is None else data
            sample["image"], (h, w) = _decode(data, path, expected, new_size)
        if expected not in (None, (h, w)):
            self._warn(
                "size",
                f"{sample.get('im_file')} is {h} x {w} pixels, but its annotation says {sample['h']} x {sample['w']}: "
                "the image's size is used, and boxes are clipped to it",
            )
        if "gt_bbox" in sample:
            self._clip_boxes(sample, h, w)
        sample["h"], sample["w"] = h, w
        sample["im_shape"] = np.array([h, w], dtype=np.float32)
        sample["scale_factor"] = np.ones(2, dtype=np.float32)
        return sample

    def _clip_boxes(self, sample: dict, h: int, w: int) -> None:
        sample["gt_bbox"], inside = clip_to_image(sample["gt_bbox"], h, w)
        if not inside.all():
            select_boxes(sample, inside)
            self._warn(
                "outside",
                f"{sample.get('im_file')}: {(~inside).sum()} of its {len(inside)} boxes are outside of its {h} x {w} "
                "pixels and are dropped",
            )

    def _warn(self, kind: str, message: str) -> None:
        key = f"Decode {self._number} {kind}"
        warn_once(logger, key, f"{message} (further such images are not reported)")


class DecodeAndResize(Transform):
    """Decode and the Resize or RandomResize right after it as one step, which readers and deployed models use.

    A JPEG whose sides both shrink to half or less is decoded at 1/2, 1/4 or 1/8 of its size, but never below the size
    it is resized to. This is faster, and smoother than bilinear resizing, which then skips pixels. Boxes, `im_shape`
    and `scale_factor` are the same as with the two separate steps.
    """

    keeps_uint8 = True

    def __init__(self, decode: Decode, resize: Resize | RandomResize) -> None:
        self.decode = decode
        self.resize = resize

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        sample = self.decode(sample, rng, self.resize.new_size)
        return self.resize(sample, rng, (sample["h"], sample["w"]))


def read_image(path: str, expected_size: Size | None = None) -> np.ndarray:
    """Return the image file `path` as (H, W, 3) RGB uint8; see `decode_image`."""
    return decode_image(read_file(path), path, expected_size)


def decode_image(data: bytes, name: str, expected_size: Size | None = None) -> np.ndarray:
    """Decode the bytes of an image file to (H, W, 3) RGB uint8.

    Gray, palette, 16-bit and CMYK images are converted, and alpha is dropped.

    Args:
        name: name of the image in errors.
        expected_size: (h, w). If only the unrotated pixels have this size, the EXIF orientation is ignored.

    Raises:
        ImageError: the bytes are not an image, truncated, or too much work (see `image_files.check_header`).
    """
    return _decode(data, name, expected_size)[0]


def read_file(path: str, most: int | None = None) -> bytes:
    """Return the bytes of an image file, or the first `most` of them; ImageError if it cannot be read.

    Args:
        path: a path, or the URL of a file in object storage.
    """
    try:
        if is_url(path):
            return read_remote(path, LARGEST_FILE)[:most]
        if most is None:
            return read_regular(path, LARGEST_FILE)
        with open_regular(path) as file:
            return file.read(most)
    except OSError as error:
        raise ImageError(path, (error.strerror or str(error)).lower()) from None


def _decode(
    data: bytes, name: str, expected_size: Size | None = None, new_size: NewSize | None = None
) -> tuple[np.ndarray, Size]:
    """Return what `decode_image` does, perhaps at reduced scale if `new_size` is given, and the size at full scale.

    Of a file in object storage that cannot be decoded no copy is kept.
    """
    try:
        return _decode_checked(data, name, expected_size, new_size)
    except ImageError:
        if is_url(name):
            forget_copy(name)
        raise


def _decode_checked(
    data: bytes, name: str, expected_size: Size | None, new_size: NewSize | None
) -> tuple[np.ndarray, Size]:
    try:
        header = check_header(data)
        if header.kind == "PNG":
            data = png.without_extras(data)
            image = png.decode_pixels(data) if png.may_hide_data(data, header) else None
            if image is not None:
                return image, image.shape[:2]
    except Unreadable as error:
        raise ImageError(name, str(error)) from None
    stored = (header.height, header.width)
    factor = jpeg.reduction(stored, new_size) if new_size and header.kind == "JPEG" else 1
    flags = FLAGS[factor]
    image = _decode_pixels(data, flags, name)
    size = _full_size(image, factor, header)
    if sorted(side * factor for side in image.shape[:2]) != sorted(stored):
        raise ImageError(name, f"its header says {header.height} x {header.width} pixels, and its data something else")
    if expected_size == (size[1], size[0]) and size[0] != size[1]:
        image = _decode_pixels(data, flags | cv2.IMREAD_IGNORE_ORIENTATION, name)
        size = _full_size(image, factor, header)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image), size


def _full_size(image: np.ndarray, factor: int, header: ImageHeader) -> Size:
    """The size of a decoded image before it was reduced by `factor`."""
    h, w = image.shape[:2]
    if factor == 1:
        return h, w
    is_rotated = (h > w) != (header.height > header.width)
    return (header.width, header.height) if is_rotated else (header.height, header.width)


def _decode_pixels(data: bytes, flags: int, name: str) -> np.ndarray:
    """BGR pixels."""
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error as error:  # for example, more pixels than OpenCV accepts
        raise ImageError(name, f"OpenCV cannot decode it ({error.err or error})") from None
    if image is None:
        kind = os.path.splitext(name)[1] or "image"
        raise ImageError(name, f"not a readable {kind} file (damaged, or of a kind OpenCV does not know)")
    return image
