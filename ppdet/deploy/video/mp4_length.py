"""When a player begins to show the frames of an MP4, and for how long, which OpenCV does not tell.

The edit list of a track may leave frames out, or let the track begin after another one.
"""

import os
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO, NamedTuple

MOST_BOXES = 10_000  # of one level; a damaged file may have a box every eight bytes
VIDEO, SOUND = (int.from_bytes(name, "big") for name in (b"vide", b"soun"))


class Shown(NamedTuple):
    """start: seconds from the beginning of the file, with its sound, to the first frame. length: seconds from there to
    the end of the last frame; 0 if the file does not say.
    """

    start: float
    length: float


def shown_times(path: str | os.PathLike) -> Shown:
    """Return when a player shows the first video track of an MP4; zeros if it is none, or does not say."""
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        for moov in _inside(stream, b"moov", 0, size):
            ticks = _number(stream, next(_inside(stream, b"mvhd", *moov), None), (12, 4), (20, 4))
            tracks = [(_kind(stream, track), track) for track in _inside(stream, b"trak", *moov)]
            starts = [(kind, _start(stream, track), track) for kind, track in tracks if kind in (VIDEO, SOUND)]
            for kind, start, track in starts:
                if kind == VIDEO and ticks:
                    end = _number(stream, next(_inside(stream, b"tkhd", *track), None), (20, 4), (28, 8))
                    first = min(other for _, other, _ in starts)
                    return Shown((start - first) / ticks, max(0, end - start) / ticks)
    return Shown(0.0, 0.0)


def _kind(stream: BinaryIO, track: tuple[int, int]) -> int:
    for media in _inside(stream, b"mdia", *track):
        for handler in _inside(stream, b"hdlr", *media):
            return _number(stream, handler, (8, 4), (8, 4))
    return 0


def _start(stream: BinaryIO, track: tuple[int, int]) -> int:
    """Return how long the first entry of a track's edit list lasts, if it shows nothing: its media time is then -1."""
    for edits in _inside(stream, b"edts", *track):
        for table in _inside(stream, b"elst", *edits):
            if _number(stream, table, (12, 4), (16, 8)) in (2**32 - 1, 2**64 - 1):
                return _number(stream, table, (8, 4), (8, 8))
    return 0


def _inside(stream: BinaryIO, kind: bytes, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where the content of each box of a kind begins and ends."""
    return (place for found, place in islice(_boxes(stream, begin, end), MOST_BOXES) if found == kind)


def _boxes(stream: BinaryIO, begin: int, end: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    while begin + 8 <= end:
        stream.seek(begin)
        head = stream.read(16)
        size, first = int.from_bytes(head[:4], "big"), 8
        if size == 1:  # the size has 64 bits, and is behind the kind
            size, first = int.from_bytes(head[8:], "big"), 16
        size = size or end - begin  # 0 is the last box, up to the end of the file
        if size < first:
            return
        yield head[4:8], (begin + first, min(begin + size, end))
        begin += size


def _number(stream: BinaryIO, place: tuple[int, int] | None, short: tuple[int, int], long: tuple[int, int]) -> int:
    """Return a number of a box: where it is and how many bytes it has, in version 0 of the box, and in version 1.

    Without the box it is 0.
    """
    if place is None:
        return 0
    stream.seek(place[0])
    content = stream.read(min(64, place[1] - place[0]))
    at, count = long if content[:1] == b"\x01" else short
    return int.from_bytes(content[at : at + count], "big")
