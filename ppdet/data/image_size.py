"""How large an image is, without decoding it where its header tells."""

import contextlib
import warnings

from PIL import Image

from ppdet.data.transforms.decode import read_image

HEADERS = ("BMP", "JPEG", "PNG", "WEBP")  # kinds whose headers give the size that OpenCV gives
ORIENTATION = 0x0112  # EXIF; 5 to 8 swap width and height


def image_size(path: str, expected_size: tuple[int, int] | None = None) -> tuple[int, int]:
    """(h, w) of an image file as Decode gives them for a record of `expected_size` (h, w).

    Raises ImageError.
    """
    # What Pillow has no header for, or warns of, OpenCV decides.
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path, formats=HEADERS) as opened:
            w, h = opened.size
            if "exif" not in opened.info or opened.getexif().get(ORIENTATION, 1) not in (5, 6, 7, 8):
                return h, w
            if opened.format in ("JPEG", "MPO"):
                return (h, w) if expected_size == (h, w) else (w, h)
    return read_image(path, expected_size).shape[:2]
