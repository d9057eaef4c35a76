"""Finding the images that a user named: one file, those in a folder, or those that a text file lists."""

import os

from ppdet.utils.disk.files import decode_text, lines_of, read_regular
from ppdet.utils.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
# A list of images, as text or as a column of a table. Ten million paths of a hundred characters fit into the file.
LARGEST_LIST = 2**30  # bytes
MOST_PATHS = 50_000_000
LONGEST_PATH = 65_536  # characters; file systems end at 4,096, and URLs of object storage are a little longer


def list_images(image: str | None = None, folder: str | None = None, list_file: str | None = None) -> list[str]:
    """Paths of the images that the user named: one file, a folder with its subfolders, or the lines of a text file.

    Raises:
        DataError: there is no image.
        OSError: `list_file` cannot be read.
    """
    if folder:
        if not os.path.isdir(folder):
            raise DataError(f"{folder}: no such folder of images")
        return find_images(folder)
    if list_file:
        return read_image_list(list_file)
    if not image or not os.path.isfile(image):
        raise DataError(f"{image}: no such image file")
    return [image]


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


def read_image_list(path: str) -> list[str]:
    """Image paths from a text file with one path per line.

    Raises:
        OSError: it cannot be read. DataError: it is not such a text, see `parse_image_list`.
    """
    return parse_image_list(read_regular(path, LARGEST_LIST), path)


def parse_image_list(content: bytes, source: str) -> list[str]:
    """Image paths from the content of a text file with one path per line; `source` names the file in errors.

    Raises:
        DataError: the content is not such a text, lists no path or too many, or has a line that is too long for one.
    """
    try:
        text = decode_text(content)
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: expected a text file with one image path per line ({error})") from None
    if "\0" in text:
        raise DataError(f"{source}: expected a text file with one image path per line, but it has NUL characters")
    require_few_paths(text.count("\n"), source)
    paths = lines_of(text)
    require_short_path(max(map(len, paths), default=0), source)
    if not paths:
        raise DataError(f"{source}: no image paths in it")
    return paths


def require_few_paths(count: int, source: str) -> None:
    """Raise DataError if a list, which errors call `source`, has more than MOST_PATHS paths."""
    if count > MOST_PATHS:
        raise DataError(f"{source}: {count:,} lines or rows; a list has at most {MOST_PATHS:,}: divide it")


def require_short_path(longest: int, source: str) -> None:
    """Raise DataError if the longest path of a list, which errors call `source`, cannot be a path."""
    if longest > LONGEST_PATH:
        raise DataError(
            f"{source}: expected one image path per line or row, but one has {longest:,} characters (at most "
            f"{LONGEST_PATH:,})"
        )
