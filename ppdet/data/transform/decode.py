"""Image files to RGB arrays."""

import os
from typing import Optional

import cv2
import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.errors import ImageError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)


@register
@serializable
class Decode:
    """Reads `im_file` into `image` (H, W, 3) RGB uint8 and sets `h`, `w`, `im_shape` and `scale_factor` = 1.

    A sample that already has an RGB uint8 `image` (a video frame) keeps it. The orientation in a photo's
    EXIF data is applied, as cv2.imread does, unless the record's `h` and `w` show that its boxes were drawn
    on the unturned pixels. Where the record's size is wrong otherwise the image is trusted: boxes stay in
    pixels, are clipped to it, and the log says so once in each process.
    Raises ImageError for a file that is missing, empty, cut short or not an image.
    """

    keeps_uint8 = True

    def __init__(self) -> None:
        self._reported = False

    def __call__(self, sample: dict, rng: Optional[np.random.Generator] = None) -> dict:
        size = (sample.get("h"), sample.get("w"))
        if "image" not in sample:
            sample["image"] = read_image(sample["im_file"], size if None not in size else None)
        h, w = sample["image"].shape[:2]
        if None not in size and size != (h, w):
            self._use_image_size(sample, h, w)
        sample["h"], sample["w"] = h, w
        sample["im_shape"] = np.array([h, w], dtype=np.float32)
        sample["scale_factor"] = np.ones(2, dtype=np.float32)
        return sample

    def _use_image_size(self, sample: dict, h: int, w: int) -> None:
        if not self._reported:
            self._reported = True
            logger.warning(
                f"{sample.get('im_file')} is {h} x {w} pixels, its annotation says"
                f" {sample['h']} x {sample['w']}: the image's size is used,"
                " boxes are clipped to it (further such images are not reported)"
            )
        if "gt_bbox" in sample:
            sample["gt_bbox"] = np.clip(sample["gt_bbox"], 0, np.array([w, h, w, h], dtype=np.float32))


def read_image(path: str, expected_size: Optional[tuple[int, int]] = None) -> np.ndarray:
    """The image file `path` as (H, W, 3) RGB uint8; see decode_image."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise ImageError(path, (error.strerror or str(error)).lower()) from None
    return decode_image(data, path, expected_size)


def decode_image(data: bytes, name: str, expected_size: Optional[tuple[int, int]] = None) -> np.ndarray:
    """Encoded bytes as (H, W, 3) RGB uint8; grey, palette, 16-bit, CMYK are converted, alpha is dropped.

    `expected_size` (h, w): when only the unturned pixels have it, the EXIF orientation is ignored.
    Raises ImageError, naming `name`.
    """
    if not data:
        raise ImageError(name, "the file is empty")
    if _is_cut_short(data):
        raise ImageError(name, "the file is truncated")
    image = _decode(data, cv2.IMREAD_COLOR, name)
    h, w = image.shape[:2]
    if expected_size == (w, h) and h != w:
        image = _decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, name)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def _decode(data: bytes, flags: int, name: str) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error as error:  # e.g. more pixels than OpenCV admits
        raise ImageError(name, f"OpenCV cannot decode it ({error.err or error})") from None
    if image is None:
        kind = os.path.splitext(name)[1] or "image"
        raise ImageError(name, f"not a readable {kind} file (damaged, or of a kind OpenCV does not know)")
    return image


def _is_cut_short(data: bytes) -> bool:
    """Whether the end is missing. OpenCV fills what is missing of a JPEG with grey and says nothing."""
    if data.startswith(b"\xff\xd8"):
        return not (data.endswith(b"\xff\xd9") or _has_jpeg_end(data))
    if data.startswith(b"\x89PNG"):
        return data.rfind(b"IEND") < 0
    if data.startswith(b"RIFF"):
        return len(data) < int.from_bytes(data[4:8], "little") + 8
    return False  # OpenCV reports it for the other kinds


def _has_jpeg_end(data: bytes) -> bool:
    """Whether an end marker follows the image's own scan: one before it belongs to an embedded preview."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xDA:  # start of scan: inside its data, a byte FF is never followed by D9
            return data.find(b"\xff\xd9", position) >= 0
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False
