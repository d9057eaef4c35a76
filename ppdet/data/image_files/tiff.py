"""Reads the first image directory of a TIFF file before decoding (TIFF 6.0, and BigTIFF)."""

import re

import numpy as np

from ppdet.data.image_files.size import ImageHeader, Unreadable

WIDTH, HEIGHT, BITS, COMPRESSION, CHANNELS, PLANES = 256, 257, 258, 259, 277, 284
STRIP_BYTES, TILE_WIDTH, TILE_HEIGHT, TILE_BYTES = 279, 322, 323, 325
JPEG = (6, 7)  # values of COMPRESSION
NUMBERS = {1: "u1", 3: "u2", 4: "u4", 16: "u8"}  # types of values, as NumPy calls them
MOST_TAGS = 4096
# Strips may share their bytes, and each of them reads them again.
MOST_READ = 2**32
# Frame headers of progressive JPEG, and scans of one channel and of two. Random bytes look like them once in 2**38.
PROGRESSIVE = re.compile(rb"\xff\xc2\x00[\x0b\x0e\x11\x14]\x08|\xff\xda\x00\x0a\x02")
ONE_CHANNEL = b"\xff\xda\x00\x08\x01"


def is_tiff(data: bytes) -> bool:
    """Whether a file begins as a TIFF."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_header(data: bytes) -> ImageHeader:
    """Return the header of the first image; Unreadable if it is damaged."""
    tags = _tags(data)
    width, height = _first(tags, WIDTH), _first(tags, HEIGHT)
    bits = max(map(int, tags[BITS][:4]), default=1) if BITS in tags else 1
    decoded = height * width
    if TILE_WIDTH in tags or TILE_HEIGHT in tags:
        tile = _first(tags, TILE_WIDTH), _first(tags, TILE_HEIGHT)
        if min(tile) < 1:
            raise Unreadable("the size of its tiles is damaged")
        decoded = -(-width // tile[0]) * tile[0] * -(-height // tile[1]) * tile[1]
    return ImageHeader("TIFF", height, width, decoded, max(24, bits * _first(tags, CHANNELS, 1)))


def check_work(data: bytes, header: ImageHeader) -> None:
    """Raise Unreadable if the bytes are read too often, or if they are JPEG with several scans."""
    tags = _tags(data)
    counts = np.concatenate([tags.get(tag, np.zeros(0, np.uint64)) for tag in (STRIP_BYTES, TILE_BYTES)])
    read = int(np.minimum(counts, np.uint64(len(data))).sum())
    if read > max(MOST_READ, len(data)):
        raise Unreadable(f"its {len(counts)} strips or tiles share bytes that would be read as {read} bytes")
    if _first(tags, COMPRESSION, 1) not in JPEG:
        return
    is_interleaved = _first(tags, CHANNELS, 1) > 1 and _first(tags, PLANES, 1) == 1
    # The standard has no such scans in TIFF files.
    if PROGRESSIVE.search(data) or (is_interleaved and ONE_CHANNEL in data):
        raise Unreadable("a TIFF file with progressive JPEG inside, which is not decoded")


def _first(tags: dict[int, np.ndarray], tag: int, default: int = 0) -> int:
    values = tags.get(tag)
    return int(values[0]) if values is not None and len(values) else default


def _tags(data: bytes) -> dict[int, np.ndarray]:
    """The values of the tags above, uint64 (N,), by tag.

    Decoders differ in which of two entries of one tag they take, and in the types that they read. No encoder writes
    either for these tags, so that a file that has them is refused.
    """
    order, big = "<" if data[:1] == b"I" else ">", data[2:4] in (b"+\0", b"\0+")
    offset, size = ("u8", 8) if big else ("u4", 4)
    count_size, entry = (8, 20) if big else (2, 12)

    def numbers(kind: str, position: int, count: int) -> np.ndarray:
        length = np.dtype(kind).itemsize * count
        if count < 0 or position + length > len(data):
            raise Unreadable("the file is truncated, or its directory is damaged")
        return np.frombuffer(data, order + kind, count, position).astype(np.uint64)

    start = int(numbers(offset, 8 if big else 4, 1)[0])
    count = int(numbers(f"u{count_size}", start, 1)[0])
    if count > MOST_TAGS:
        raise Unreadable(f"its directory has {count} tags")
    tags: dict[int, np.ndarray] = {}
    for position in range(start + count_size, start + count_size + entry * count, entry):
        tag, kind = map(int, numbers("u2", position, 2))
        if tag not in WANTED:
            continue
        if kind not in NUMBERS or tag in tags:
            wrong = "occurs twice" if tag in tags else f"has the type {kind}, which is no unsigned integer"
            raise Unreadable(f"its tag {tag} {wrong}: save it again with another program")
        length = int(numbers(offset, position + 4, 1)[0])
        place = position + 4 + size
        if length * np.dtype(NUMBERS[kind]).itemsize > size:
            place = int(numbers(offset, place, 1)[0])
        tags[tag] = numbers(NUMBERS[kind], place, length)
    return tags


WANTED = {WIDTH, HEIGHT, BITS, COMPRESSION, CHANNELS, PLANES, STRIP_BYTES, TILE_WIDTH, TILE_HEIGHT, TILE_BYTES}
