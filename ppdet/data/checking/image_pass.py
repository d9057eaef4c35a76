"""What the image files of a data set are: one pass that decodes each of them."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ppdet.data.annotations.near_duplicates import groups_of_hashes, hash_of
from ppdet.data.transforms.decode import decode_image, read_file
from ppdet.utils.errors import DataError, ImageError
from ppdet.utils.extras import require_package


@dataclass(frozen=True)
class ImageFacts:
    """What one file is.

    Attributes:
        size: (height, width) in pixels; None if it cannot be read.
        error: why it cannot be read; "" if it can.
        digest: of its bytes; equal for copies.
        hash: (256,) bool, see `near_duplicates`; None if it cannot be read.
    """

    size: tuple[int, int] | None
    error: str = ""
    digest: bytes = b""
    hash: np.ndarray | None = None


def facts_of(path: str, expected_size: tuple[int, int] | None = None) -> ImageFacts:
    """Read one image; expected_size is (h, w) as its record says, see `decode_image`."""
    try:
        data = read_file(path)
        image = decode_image(data, path, expected_size)
    except ImageError as error:
        return ImageFacts(None, error.reason)
    height, width = image.shape[:2]
    return ImageFacts((height, width), "", hashlib.blake2b(data).digest(), hash_of(image))


def read_all(
    sizes: dict[str, tuple[int, int]], progress: Callable[[Sequence], Iterable] = iter
) -> dict[str, ImageFacts]:
    """Read images.

    Args:
        sizes: (h, w) of each path, as its record says.
        progress: wraps the paths, to show a progress bar.

    Raises:
        DataError: the library imagehash is not installed.
    """
    require_package(DataError, "imagehash")
    return {path: facts_of(path, sizes[path]) for path in progress(list(sizes))}


def copies(facts: dict[str, ImageFacts]) -> list[list[str]]:
    """Groups of two or more files with the same bytes."""
    same: dict[bytes, list[str]] = {}
    for path, one in facts.items():
        if one.size:
            same.setdefault(one.digest, []).append(path)
    return [paths for paths in same.values() if len(paths) > 1]


def near_duplicates(facts: dict[str, ImageFacts]) -> list[list[str]]:
    """Groups of two or more files that show the same picture, copies included."""
    paths = list(facts)
    groups = groups_of_hashes([facts[path].hash for path in paths])
    return [[paths[number] for number in group] for group in groups if len(group) > 1]
