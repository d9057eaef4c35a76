"""Reads the markers of a JPEG file before decoding (ITU-T T.81, annex B)."""

from collections.abc import Callable, Iterator

START, END = b"\xff\xd8", b"\xff\xd9"
START_OF_SCAN = 0xDA
FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of a frame header; these three mean something else
REDUCTIONS = (8, 4, 2)  # factors by which a decoder can reduce both sides, for less than the cost of decoding


def is_jpeg(data: bytes) -> bool:
    """Whether a file begins as a JPEG."""
    return data.startswith(START)


def is_truncated(data: bytes) -> bool:
    """Whether no end marker follows the image's scan; an earlier one belongs to an embedded preview.

    OpenCV fills the missing part with gray and reports nothing.
    """
    if data.endswith(END):
        return False
    scan = next((position for marker, position in _segments(data) if marker == START_OF_SCAN), None)
    # Inside the data of a scan, a byte FF is never followed by D9.
    return scan is None or data.find(END, scan) < 0


def stored_size(data: bytes) -> tuple[int, int] | None:
    """(h, w) of the stored pixels, before the EXIF orientation is applied; None if the header does not say."""
    for marker, position in _segments(data):
        if marker in FRAMES and position + 9 <= len(data):
            h, w = (int.from_bytes(data[position + start : position + start + 2], "big") for start in (5, 7))
            return (h, w) if h and w else None
    return None


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


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """(marker, position of its byte FF) of all segments up to the first scan."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        yield marker, position
        if marker == START_OF_SCAN:
            return
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
