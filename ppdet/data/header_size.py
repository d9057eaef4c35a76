"""The size of an image file, read from its header where possible."""

import contextlib
import warnings

from PIL import Image

from ppdet.data.transforms.decode import read_image

FORMATS = ("BMP", "JPEG", "PNG", "WEBP")  # whose headers give the size that OpenCV gives
ORIENTATION = 0x0112  # EXIF tag; the values 5 to 8 swap width and height


def image_size(path: str, expected_size: tuple[int, int] | None = None) -> tuple[int, int]:
    """Return the (h, w) that Decode finds for an image file.

    Args:
        path: the image file.
        expected_size: (h, w) of the record, see `decode_image`.

    Raises:
        ImageError: it cannot be read.
    """
    # Where Pillow fails or warns, OpenCV decodes the file.
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path, formats=FORMATS) as opened:
            w, h = opened.size
            if "exif" not in opened.info or opened.getexif().get(ORIENTATION, 1) not in (5, 6, 7, 8):
                return h, w
            if opened.format in ("JPEG", "MPO"):
                return (h, w) if expected_size == (h, w) else (w, h)
    height, width = read_image(path, expected_size).shape[:2]
    return height, width
