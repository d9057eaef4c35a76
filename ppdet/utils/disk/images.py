"""Finding image files: by the ending of their names in a folder, or in a text file that lists their paths."""

import os

from ppdet.utils.disk.files import decode_text, lines_of
from ppdet.utils.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def is_image_name(name: str) -> bool:
    """Whether a file name ends like an image's, in small letters or capitals."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def find_images(folder: str | os.PathLike[str]) -> list[str]:
    """Sorted paths of all images in `folder` and its subfolders.

    Raises:
        DataError: the folder has no image.
    """
    files = (os.path.join(place, name) for place, _, names in os.walk(os.fspath(folder)) for name in names)
    paths = sorted(file for file in files if is_image_name(file))
    if not paths:
        raise no_image_error(folder)
    return paths


def no_image_error(folder: str | os.PathLike, hint: str = "") -> DataError:
    """The error for a folder without images; `hint` is added to its message."""
    return DataError(f"no image in {folder}: expected files ending in {' '.join(IMAGE_SUFFIXES)}{hint}")


def parse_image_list(content: bytes, source: str) -> list[str]:
    """Image paths from the content of a text file with one path per line; `source` names the file in errors.

    Raises:
        DataError: the content is not such a text, or lists no path.
    """
    try:
        paths = lines_of(decode_text(content))
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: expected a text file with one image path per line ({error})") from None
    if any("\0" in path for path in paths):
        raise DataError(f"{source}: expected a text file with one image path per line, but it has NUL characters")
    if not paths:
        raise DataError(f"{source}: no image paths in it")
    return paths
