"""Reads the chunks of a PNG file before decoding (PNG specification, third edition).

A chunk of text of some kilobytes may decompress to megabytes, and a file may have thousands of them. What decides no
pixel is therefore left out of what a decoder gets.
"""

import io
import zlib
from collections.abc import Iterator

import numpy as np
from PIL.PngImagePlugin import PngImageFile

from ppdet.data.image_files.size import ImageHeader, Unreadable

SIGNATURE = b"\x89PNG\r\n\x1a\n"
FIRST_CHUNK = len(SIGNATURE)
# What pixels depend on: size, palette, pixels, transparency, orientation. All but IDAT occur once.
KEPT = (b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND")
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the color type
# Chunks of pixels usually have 8 kB or more. The first number is for small files.
MOST_CHUNKS, LEAST_BYTES = 10_000, 1024
# Libpng, which OpenCV uses, decompresses everything in IDAT, also what lies beyond the pixels. One byte becomes
# EXPANSION bytes at most, and HARMLESS_BYTES of them beyond the pixels are no matter: they take a tenth of a second.
EXPANSION, HARMLESS_BYTES = 1032, 2**26
BLOCK = 2**18  # pixels that are converted at once


def is_png(data: bytes) -> bool:
    """Whether a file begins as a PNG."""
    return data.startswith(SIGNATURE)


def read_header(data: bytes) -> ImageHeader:
    """Return the header; Unreadable if it is damaged."""
    body = data[FIRST_CHUNK + 8 : FIRST_CHUNK + 21]
    if data[FIRST_CHUNK + 4 : FIRST_CHUNK + 8] != b"IHDR" or len(body) < 13:
        raise Unreadable("the file is truncated, or its header is damaged")
    width, height = (int.from_bytes(body[i : i + 4], "big") for i in (0, 4))
    bits = body[8] * CHANNELS.get(body[9], 1)
    return ImageHeader("PNG", height, width, height * width, bits)


def check_chunks(data: bytes, header: ImageHeader) -> None:
    """Raise Unreadable for a truncated file, or one with too many chunks."""
    for _ in chunks(data):
        pass


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type of each chunk up to the end of the image, and where it begins and ends in the file.

    Raises:
        Unreadable: the end is missing, or there are too many chunks.
    """
    position, limit = FIRST_CHUNK, MOST_CHUNKS + len(data) // LEAST_BYTES
    for _ in range(limit):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if end > len(data):
            raise Unreadable("the file is truncated")
        kind = data[position + 4 : position + 8]
        yield kind, position, end
        if kind == b"IEND":
            return
        position = end
    raise Unreadable(f"it has more than {limit} chunks")


def without_extras(data: bytes) -> bytes:
    """Return the file with only those chunks that decide pixels; the same object if it has no others."""
    pieces, seen, start, stop = [], set(), 0, FIRST_CHUNK
    for kind, _, end in chunks(data):
        if kind not in KEPT or kind in seen:
            pieces += [data[start:stop]] if start < stop else []
            start = end
        elif kind != b"IDAT":
            seen.add(kind)
        stop = end
    return b"".join([*pieces, data[start:stop]]) if pieces else data


def may_hide_data(data: bytes, header: ImageHeader) -> bool:
    """Whether it may have far more data than its pixels need, so that `decode_pixels` should decode it."""
    return EXPANSION * len(data) > _pixel_bytes(header) + HARMLESS_BYTES


def _pixel_bytes(header: ImageHeader) -> int:
    """At least as many bytes as the pixels become when they are decompressed."""
    # Each row has a byte for its filter, and interlaced images have up to twice as many rows.
    return header.height * (header.width * header.bits // 8 + 16)


def decode_pixels(data: bytes) -> np.ndarray | None:
    """Decode a file from `without_extras` to (H, W, 3) RGB uint8 with Pillow, which stops after the last pixel.

    Pillow is as fast as OpenCV, and the pixels are the same. None if OpenCV has to decode it, since it has an
    orientation; then nothing lies beyond the pixels.

    Raises:
        Unreadable: it is damaged.
    """
    pixels, found = [], list(chunks(data))
    for kind, begin, end in found:
        if zlib.crc32(memoryview(data)[begin + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise Unreadable("it is damaged: a check sum is wrong")
        if kind == b"IDAT":
            pixels.append((begin + 8, end - 4))
    if any(kind == b"eXIf" for kind, _, _ in found):
        _check_end(data, pixels)
        return None
    try:
        with PngImageFile(io.BytesIO(data)) as image:
            image.load()
            return _rgb(image)
    except Exception as error:  # Pillow raises many classes for damaged files
        raise Unreadable(f"it is damaged ({str(error) or type(error).__name__})") from None


def _rgb(image: PngImageFile) -> np.ndarray:
    """(H, W, 3) RGB uint8. The pixels are converted in blocks, which needs less memory than all at once."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, BLOCK // image.width)
    for top in range(0, image.height, rows):
        block = image.crop((0, top, image.width, min(top + rows, image.height)))
        if image.mode.startswith("I"):  # gray of 16 bits
            pixels[top : top + rows] = (np.asarray(block) >> 8)[..., None]
        else:
            pixels[top : top + rows] = np.asarray(block if image.mode == "RGB" else block.convert("RGB"))
    return pixels


def _check_end(data: bytes, pixels: list[tuple[int, int]]) -> None:
    """Raise Unreadable if the pixels decompress to much more than the header says."""
    header = read_header(data)
    left = _pixel_bytes(header) + HARMLESS_BYTES
    stream = zlib.decompressobj()
    try:
        for begin, end in pixels:
            part = data[begin:end]
            while part and left >= 0:
                left -= len(stream.decompress(part, BLOCK))
                part = stream.unconsumed_tail
    except zlib.error as error:
        raise Unreadable(f"it is damaged ({error})") from None
    if left < 0:
        raise Unreadable(f"its data are more than its {header.height} x {header.width} pixels")
