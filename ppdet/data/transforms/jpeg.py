"""What a JPEG file says of itself before it is decoded (ITU-T T.81, annex B)."""

from collections.abc import Callable, Iterator

START, END = b"\xff\xd8", b"\xff\xd9"
START_OF_SCAN = 0xDA
FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of a frame header; these three mean other things
REDUCTIONS = (8, 4, 2)  # by which a decoder can shrink both sides for less than the cost of decoding


def is_jpeg(data: bytes) -> bool:
    return data.startswith(START)


def is_cut_short(data: bytes) -> bool:
    """Whether no end marker follows the image's own scan: one before it belongs to an embedded preview.

    OpenCV fills what is missing with grey and says nothing.
    """
    if data.endswith(END):
        return False
    scan = next((position for marker, position in _segments(data) if marker == START_OF_SCAN), None)
    # Inside the data of a scan, a byte FF is never followed by D9.
    return scan is None or data.find(END, scan) < 0


def stored_size(data: bytes) -> tuple[int, int] | None:
    """(h, w) of the pixels as stored, before any EXIF orientation; None where the header has none."""
    for marker, position in _segments(data):
        if marker in FRAMES and position + 9 <= len(data):
            sides = data[position + 5 : position + 7], data[position + 7 : position + 9]
            h, w = (int.from_bytes(side, "big") for side in sides)
            return (h, w) if h and w else None
    return None


def reduction(size: tuple[int, int], new_size: Callable[[int, int], tuple[int, int]]) -> int:
    """By how much the sides of an image may be divided when decoding it: 1, 2, 4 or 8.

    The result still has at least the size (h, w) that the image is resized to next, `new_size(h, w)`. `size` is that
    of the stored pixels, which an EXIF orientation may turn.
    """
    h, w = size
    if h != w and abs(h - w) < REDUCTIONS[0]:
        return 1  # from the reduced sides one could not tell whether the image was turned
    room = min(side / new for sides in ((h, w), (w, h)) for side, new in zip(sides, new_size(*sides)))
    # Where a side is no multiple, the last pixel stands for fewer than the others, and resizing would shift the picture
    # against its boxes.
    return next((factor for factor in REDUCTIONS if factor <= room and h % factor == w % factor == 0), 1)


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """(marker, position of its FF) of all segments up to the first scan."""
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
