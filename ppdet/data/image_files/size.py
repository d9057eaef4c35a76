"""What all headers of images tell, and how many pixels an image may have."""

import os
from typing import NamedTuple

LIMIT_VARIABLE = "OPENCV_IO_MAX_IMAGE_PIXELS"  # OpenCV's own limit, which is 2**30 unless the variable is set
# About 16,000 x 16,000 pixels; decoding that many takes some seconds and 3 GB.
MOST_PIXELS = 2**28
# Bytes for each pixel of the largest image, before it becomes 8-bit RGB. Larger pixels mean fewer of them.
STORED_BYTES = 4


class Unreadable(ValueError):
    """A file that is not decoded. The message says why, without the file's name."""


class ImageHeader(NamedTuple):
    """What the header of an image file says.

    kind: name of the format, one of `header.KINDS`.
    height, width: of the stored pixels, before the EXIF orientation is applied.
    decoded: pixels that are decoded; more than height * width if tiles reach beyond the image.
    bits: of one pixel as it is stored, before compression.
    """

    kind: str
    height: int
    width: int
    decoded: int
    bits: int = 24


def most_pixels() -> int:
    """The largest number of pixels of an image, which the environment variable that OpenCV has for it changes."""
    value = os.environ.get(LIMIT_VARIABLE, "")
    return int(value[:20]) if value.isdecimal() and value.isascii() else MOST_PIXELS


def check_size(header: ImageHeader) -> None:
    """Raise Unreadable for an image without pixels, or with too many."""
    if header.height < 1 or header.width < 1:
        raise Unreadable(f"the image has {header.height} x {header.width} pixels")
    limit = most_pixels()
    size = f"{header.height} x {header.width} pixels"
    if header.decoded > limit:
        tiles = "" if header.decoded == header.height * header.width else " (more with its tiles)"
        raise Unreadable(f"its {size}{tiles} are more than {limit} (the environment variable {LIMIT_VARIABLE} sets it)")
    most_bytes = STORED_BYTES * max(limit, MOST_PIXELS)
    if header.decoded * header.bits > 8 * most_bytes:
        raise Unreadable(
            f"its {size} of {header.bits} bits are more than {most_bytes} bytes: store 8 bits in a channel"
        )
