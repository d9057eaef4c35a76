"""For how long a player shows an MP4, which its edit list may make shorter than its frames. OpenCV does not tell it."""

import os
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

MOST_BOXES = 10_000  # of one level; a damaged file may have a box every eight bytes


def shown_seconds(path: str | os.PathLike) -> float:
    """Return for how many seconds a player shows the first video track of an MP4; 0 if the file does not say."""
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        for moov in _inside(stream, b"moov", 0, size):
            for place in _inside(stream, b"mvhd", *moov):
                ticks = _number(stream, place, (12, 4), (20, 4))
                for track in _inside(stream, b"trak", *moov):
                    if ticks and _is_video(stream, track):
                        return sum(
                            _number(stream, head, (20, 4), (28, 8)) / ticks for head in _inside(stream, b"tkhd", *track)
                        )
    return 0.0


def _is_video(stream: BinaryIO, track: tuple[int, int]) -> bool:
    return any(
        _number(stream, handler, (8, 4), (8, 4)) == int.from_bytes(b"vide", "big")
        for media in _inside(stream, b"mdia", *track)
        for handler in _inside(stream, b"hdlr", *media)
    )


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


def _number(stream: BinaryIO, place: tuple[int, int], short: tuple[int, int], long: tuple[int, int]) -> int:
    """Return a number of a box: where it is and how many bytes it has, in version 0 of the box, and in version 1."""
    stream.seek(place[0])
    content = stream.read(min(64, place[1] - place[0]))
    at, count = long if content[:1] == b"\x01" else short
    return int.from_bytes(content[at : at + count], "big")
