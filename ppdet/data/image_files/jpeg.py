"""Reads the markers of a JPEG file before decoding (ITU-T T.81, annex B)."""

import itertools
import re
from collections.abc import Callable, Container, Iterator
from typing import Literal

from ppdet.data.image_files.size import ImageHeader, Unreadable

START, END = b"\xff\xd8", b"\xff\xd9"
START_OF_SCAN, END_OF_IMAGE, EXIF = 0xDA, 0xD9, 0xE1
FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of a frame header; these three mean something else
PROGRESSIVE = 0xC2
DECODED_FRAMES = (0xC0, 0xC1, PROGRESSIVE, 0xC3)  # the others are hierarchical or arithmetic coding, which nobody uses
ALONE = {0x01, *range(0xD0, 0xDA)}  # markers without a segment
# A decoder looks for the next marker as this does, whatever lies between.
MARKER = re.compile(rb"\xff[^\x00\xff]")
# A scan of one to four channels. Pixels never look like this, because a zero follows each FF in them.
SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")
# The next segment, or the end, after a scan: neither pixels, nor the markers D0 to D7 between parts of a scan. At the
# reserved markers below C0, a decoder gives up or looks for the next one.
AFTER_SCAN = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
REDUCTIONS = (8, 4, 2)  # factors by which a decoder can reduce both sides, for less than the cost of decoding
# Large color profiles and depth maps are cut into some hundreds of segments. Decoders keep lists of them, and some
# search each list to its end.
MOST_SEGMENTS = 5_000
# Each scan of a progressive file visits all blocks of pixels. Encoders write about 10 scans, for CMYK about 18.
MOST_SCANS = 100
# 49 megapixels may have 32 scans, which take about a second. An image of any size may have as many as encoders write.
MOST_SCANNED = 3 * 2**29  # pixels times scans
USUAL_SCANS = 12
ORIENTATION = 0x0112  # EXIF tag; the values 5 to 8 swap width and height


def is_jpeg(data: bytes) -> bool:
    """Whether a file begins as a JPEG."""
    return data.startswith(START)


def read_header(data: bytes) -> ImageHeader:
    """Return the header; Unreadable if it is damaged, or if `data` ends before it."""
    frame = _find(data, FRAMES)
    height, width = (int.from_bytes(data[frame + i : frame + i + 2], "big") for i in (5, 7))
    return ImageHeader("JPEG", height, width, height * width)


def check_work(data: bytes, header: ImageHeader) -> None:
    """Raise Unreadable if the file is truncated, or if decoding it would be too much work."""
    frame = _find(data, FRAMES)
    scan = _find(data, {START_OF_SCAN}, frame)
    if not data.endswith(END) and data.find(END, scan) < 0:
        # OpenCV fills the missing part with gray and reports nothing. In the data of a scan, D9 never follows FF.
        raise Unreadable("the file is truncated")
    marker, channels = data[frame + 1], data[frame + 9]
    if marker not in DECODED_FRAMES:
        raise Unreadable("a JPEG with arithmetic coding or layers, which is not decoded: save it as a usual JPEG")
    _check_segments(data, scan)
    if marker == PROGRESSIVE or data[scan + 4] < channels:
        _check_scans(data, scan, header)


def is_turned(data: bytes) -> bool:
    """Whether the EXIF orientation swaps width and height."""
    for marker, position in _segments(data):
        if marker == EXIF and data[position + 4 : position + 10] == b"Exif\0\0":
            length = int.from_bytes(data[position + 2 : position + 4], "big")
            return _swaps_sides(data[position + 10 : position + 2 + length])
    return False


def _swaps_sides(exif: bytes) -> bool:
    order: Literal["little", "big"] = "little" if exif.startswith(b"II") else "big"

    def number(position: int, size: int) -> int:
        return int.from_bytes(exif[position : position + size], order)

    if number(2, 2) != 42:  # what follows is not EXIF data, and OpenCV does not read it
        return False
    directory = number(4, 4)
    entries = (directory + 2 + 12 * i for i in range(number(directory, 2)))
    return next((number(at + 8, 2) in (5, 6, 7, 8) for at in entries if number(at, 2) == ORIENTATION), False)


def _check_segments(data: bytes, position: int) -> None:
    """Refuse an image with too many segments between its first scan, which is at `position`, and its end.

    A film or other pictures may follow the end, which a decoder does not look at.
    """
    for _ in range(MOST_SEGMENTS):
        length = max(2, int.from_bytes(data[position + 2 : position + 4], "big"))
        found = AFTER_SCAN.search(data, position + 2 + length)
        if found is None or data[found.start() + 1] == END_OF_IMAGE:
            return
        position = found.start()
    raise Unreadable(f"it has more than {MOST_SEGMENTS} segments between its first scan and its end")


def _check_scans(data: bytes, first: int, header: ImageHeader) -> None:
    """Refuse an image whose scans are many. Scans of pictures that follow the image are counted too."""
    limit = min(MOST_SCANS, max(USUAL_SCANS, MOST_SCANNED // max(1, header.decoded)))
    if _count(SCAN, data, first, limit) > limit:
        raise Unreadable(
            f"a JPEG of {header.height} x {header.width} pixels with more than {limit} scans: save it as a baseline "
            "JPEG"
        )


def _count(pattern: re.Pattern[bytes], data: bytes, start: int, limit: int) -> int:
    """How often a pattern occurs, at most `limit` + 1."""
    return sum(1 for _ in itertools.islice(pattern.finditer(data, start), limit + 1))


def reduction(size: tuple[int, int], new_size: Callable[[int, int], tuple[int, int]]) -> int:
    """The largest factor, 1, 2, 4 or 8, by which the sides of an image may be divided while decoding it.

    The reduced image is at least as large as the size to which it is resized next.

    Args:
        size: (h, w) of the stored pixels; the EXIF orientation may swap them.
        new_size: (h, w) of an image -> the size it is resized to.
    """
    h, w = size
    if h != w and abs(h - w) < REDUCTIONS[0]:
        return 1  # the reduced sides would not tell whether the image was rotated
    room = min(side / new for sides in ((h, w), (w, h)) for side, new in zip(sides, new_size(*sides)))
    # If the factor does not divide a side, the last pixel covers fewer pixels than the others, and resizing would
    # shift the image against its boxes.
    return next((factor for factor in REDUCTIONS if factor <= room and h % factor == w % factor == 0), 1)


def _find(data: bytes, markers: Container[int], start: int = len(START)) -> int:
    """The position of the first segment from `start` with one of these markers; Unreadable if there is none."""
    for marker, position in _segments(data, start):
        if marker in markers and position + 10 <= len(data):
            return position
    raise Unreadable("the file is truncated, or its header is damaged")


def _segments(data: bytes, position: int = len(START)) -> Iterator[tuple[int, int]]:
    """(marker, position of its byte FF) of all segments from `position` up to the first scan."""
    for _ in range(MOST_SEGMENTS):
        found = MARKER.search(data, position)
        if found is None:
            return
        position = found.start()
        marker = data[position + 1]
        yield marker, position
        if marker == START_OF_SCAN:
            return
        length = 0 if marker in ALONE else max(2, int.from_bytes(data[position + 2 : position + 4], "big"))
        position += 2 + length
    raise Unreadable(f"it has more than {MOST_SEGMENTS} segments before its pixels")
