"""Finding the images that a user named: one file, those in a folder, or those that a text file lists."""

import os
from collections import deque

from ppdet.utils.disk.files import decode_text, lines_of, read_regular
from ppdet.utils.errors import DataError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
OF_MACOS = "._"  # begins the names of files in which macOS keeps attributes of others, such as ._1.jpg of 1.jpg
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
    """Sorted paths of all images in `folder` and its subfolders; see `files_below`.

    Raises:
        DataError: the folder has no image.
    """
    paths = [file for file in files_below(folder) if is_image_name(file)]
    if not paths:
        raise no_image_error(folder)
    return paths


def files_below(folder: str | os.PathLike[str]) -> list[str]:
    """Sorted paths of all files in `folder` and its subfolders. A warning tells of those that cannot be read.

    Links to folders are followed, except those to a folder that they are in themselves. What several links lead to is
    listed once. Files in which macOS keeps attributes of others, which archives from there have, are not listed.
    """
    files: list[str] = []
    unreadable: list[OSError] = []
    seen: set[str] = set()
    tops = deque([os.fspath(folder)])  # the folder itself, and then links, so that paths without a link come first
    while tops:
        for place, subfolders, names in os.walk(tops.popleft(), onerror=unreadable.append):
            real = os.path.realpath(place)
            if real in seen:
                subfolders.clear()
                continue
            seen.add(real)
            files += [os.path.join(place, name) for name in names if not name.startswith(OF_MACOS)]
            subfolders.sort()  # so that of several links the same one is followed each time
            links = [path for path in (os.path.join(place, name) for name in subfolders) if os.path.islink(path)]
            tops += [link for link in links if not is_within(real, os.path.realpath(link))]
    if unreadable:
        logger.warning("%s: folders in it that cannot be read: %d (%s)", folder, len(unreadable), unreadable[0])
    return sorted(files)


def is_within(place: str, folder: str) -> bool:
    """Whether a path is `folder`, or in it. Both are real paths, without links."""
    return place == folder or place.startswith(os.path.join(folder, ""))


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
