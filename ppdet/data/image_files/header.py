"""The kind of an image file, by its first bytes, and the checks of its header."""

import re
from collections.abc import Callable
from typing import NamedTuple

from ppdet.data.image_files import jpeg, png, tiff
from ppdet.data.image_files.size import ImageHeader, Unreadable, check_size

# PBM, PGM and PPM: a letter and two numbers, with blanks and comments between.
# As OpenCV reads them, a comment ends with either character of a line's end, and none begins right after a number.
BLANK = rb"(?:\s|#[^\r\n]*[\r\n])"
PNM = re.compile(rb"P[1-6]" + BLANK + rb"+(\d{1,10})\s" + BLANK + rb"*(\d{1,10})\s")
LONGEST_PNM_HEADER = 4096  # bytes
# Kinds that some builds of OpenCV would decode, by their first bytes, for the message.
OTHERS = {
    b"GIF8": "GIF",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"#?RGBE": "Radiance HDR",
    b"\x59\xa6\x6a\x95": "Sun raster",
    b"%PDF": "PDF",
    b"<svg": "SVG",
    b"P7\n": "PAM",
}


def check_header(data: bytes) -> ImageHeader:
    """Return the header of an image file, and refuse files whose decoding would be out of proportion to their pixels.

    The pixels are not looked at. The time is in proportion to the number of parts of the file (segments, chunks,
    tiles), which is limited, and far below that of decoding.

    Raises:
        Unreadable: it is empty, of another kind than KINDS, truncated, or too much work.
    """
    if not data:
        raise Unreadable("the file is empty")
    header = read_size(data)
    check_size(header)
    check = KINDS[header.kind].check
    if check is not None:
        check(data, header)
    return header


def read_size(data: bytes) -> ImageHeader:
    """Return the header of an image file, of which `data` may be the start only.

    Raises:
        Unreadable: it is of another kind than KINDS, or damaged, or the start is too short.
    """
    for kind in KINDS.values():
        if kind.begins(data):
            return kind.read(data)
    raise Unreadable(f"{_other_kind(data)}; images are {', '.join(KINDS)} files")


def _other_kind(data: bytes) -> str:
    if data[4:8] == b"ftyp":
        return (
            f"not decoded: it is a file of the kind {data[8:12].decode('ascii', 'replace').strip()} (AVIF, HEIF or MP4)"
        )
    name = next((name for start, name in OTHERS.items() if data.startswith(start)), None)
    return f"not decoded: it is a {name} file" if name else "not an image, or damaged"


def _bmp(data: bytes) -> ImageHeader:
    size = int.from_bytes(data[14:18], "little")
    if size == 12:  # of OS/2
        width, height, bits = (int.from_bytes(data[i : i + 2], "little") for i in (18, 20, 24))
    else:
        width, height = (int.from_bytes(data[i : i + 4], "little", signed=True) for i in (18, 22))
        bits = int.from_bytes(data[28:30], "little")
    return ImageHeader(
        "BMP", abs(height), width, abs(height) * width, max(24, bits)
    )  # a negative height: top row first


def _webp(data: bytes) -> ImageHeader:
    kind, body = data[12:16], data[20:30]
    if kind not in (b"VP8X", b"VP8L", b"VP8 "):  # a decoder would look for pixels right here
        raise Unreadable("a WebP file whose header is damaged")
    if kind == b"VP8X":
        width, height = (int.from_bytes(body[i : i + 3], "little") + 1 for i in (4, 7))
    elif kind == b"VP8L":
        sides = int.from_bytes(body[1:5], "little")
        width, height = (sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1
    else:
        width, height = (int.from_bytes(body[i : i + 2], "little") & 0x3FFF for i in (6, 8))
    return ImageHeader("WEBP", height, width, height * width, 32)


def _pnm(data: bytes) -> ImageHeader:
    sides = PNM.match(data, 0, LONGEST_PNM_HEADER)
    if not sides:
        raise Unreadable("a PNM file whose header is damaged")
    width, height = map(int, sides.groups())
    return ImageHeader("PNM", height, width, height * width)


def _check_webp(data: bytes, header: ImageHeader) -> None:
    if len(data) < int.from_bytes(data[4:8], "little") + 8:
        raise Unreadable("the file is truncated")


class Kind(NamedTuple):
    """How files of a kind begin, how their size is read, and what, if anything, is checked in the rest of the file."""

    begins: Callable[[bytes], bool]
    read: Callable[[bytes], ImageHeader]
    check: Callable[[bytes, ImageHeader], None] | None = None


KINDS = {
    "JPEG": Kind(jpeg.is_jpeg, jpeg.read_header, jpeg.check_work),
    "PNG": Kind(png.is_png, png.read_header, png.check_chunks),
    "WEBP": Kind(lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP", _webp, _check_webp),
    "BMP": Kind(lambda data: data[:2] == b"BM", _bmp),
    "TIFF": Kind(tiff.is_tiff, tiff.read_header, tiff.check_work),
    "PNM": Kind(lambda data: data[:1] == b"P" and data[1:2] in b"123456" and data[1:2] != b"", _pnm),
}
