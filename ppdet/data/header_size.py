"""The size of an image file, read from the start of the file where possible."""

from ppdet.data.image_files import Unreadable, jpeg, read_size
from ppdet.data.transforms.decode import read_file, read_image

ENOUGH = 2**16  # bytes from the start of a file, in which most files have their size
KINDS = ("JPEG", "PNG", "WEBP", "BMP")  # whose headers give the size that OpenCV gives
EXIF_CHUNKS = (b"eXIf", b"EXIF")  # of PNG and WebP; what OpenCV makes of them depends on its version


def image_size(path: str, expected_size: tuple[int, int] | None = None) -> tuple[int, int]:
    """Return the (h, w) that Decode finds for an image file.

    Args:
        path: the image file.
        expected_size: (h, w) of the record, see `decode_image`.

    Raises:
        ImageError: it cannot be read.
    """
    size = _size_at_start(read_file(path, ENOUGH), expected_size)
    if size is None:
        height, width = read_image(path, expected_size).shape[:2]
        return height, width
    return size


def _size_at_start(start: bytes, expected_size: tuple[int, int] | None) -> tuple[int, int] | None:
    """The size by the first bytes of a file; None if these do not tell."""
    try:
        header = read_size(start)
    except Unreadable:  # the decoder says what is wrong, or needs more of the file
        return None
    stored = header.height, header.width
    if header.kind not in KINDS or min(stored) < 1:
        return None
    if header.kind == "JPEG":
        return stored[::-1] if jpeg.is_turned(start) and expected_size != stored else stored
    return None if any(chunk in start for chunk in EXIF_CHUNKS) else stored
