"""Images that show the same picture: copies, copies of another size or quality, neighboring frames of a video.

Each image gets a perceptual hash (pHash, by the library imagehash) of 256 bits: the signs of its lowest frequencies.
Two images are near-duplicates if at most MOST_DIFFERENT of these bits differ. Copies that were compressed again,
resized, made gray, brighter or noisy differ in some 6 bits, and copies that lost a hundredth of each side or were moved
by a few pixels in up to 26. Different microscope slides of one kind differ in 90 or more. Photos from a fixed camera of
one scene, such as circuit boards of one layout, are near-duplicates even if their small objects differ. Turned and
mirrored copies are not found.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ppdet.data.transforms.decode import read_image
from ppdet.utils.errors import DataError, ImageError
from ppdet.utils.extras import require_package

HASH_SIDE = 16
BITS = HASH_SIDE**2
MOST_DIFFERENT = 28  # bits of two near-duplicates
ROWS = 1024  # hashes that are compared with all others at a time


def groups(
    paths: Sequence[str], *, most_different: int = MOST_DIFFERENT, progress: Callable[[Sequence], Iterable] = iter
) -> list[list[int]]:
    """Return groups of near-duplicate images.

    Two images are in one group if they are near-duplicates, or if a chain of near-duplicates leads from one to the
    other, as through the frames of a video.

    Args:
        paths: N image files. One that cannot be read is alone in its group.
        most_different: bits of 256 in which near-duplicates may differ.
        progress: wraps the paths while they are read, to show a progress bar.

    Returns:
        Every number from 0 to N - 1 once. Numbers ascend within a group, and groups ascend by their first number. An
        image without near-duplicates is a group of one.

    Raises:
        DataError: the library imagehash is not installed.
    """
    require_package(DataError, "imagehash")
    hashes: list[np.ndarray | None] = []
    for path in progress(paths):
        try:
            hashes.append(hash_of(read_image(path)))
        except ImageError:
            hashes.append(None)
    return groups_of_hashes(hashes, most_different)


def hash_of(image: np.ndarray) -> np.ndarray:
    """Return the hash (256,) bool of an image (H, W, 3) RGB uint8. An image of one color has a hash of its own."""
    import imagehash
    from PIL import Image

    return np.asarray(imagehash.phash(Image.fromarray(image), HASH_SIDE).hash.reshape(-1), dtype=bool)


def groups_of_hashes(hashes: Sequence[np.ndarray | None], most_different: int = MOST_DIFFERENT) -> list[list[int]]:
    """Do what `groups` does for hashes of `hash_of`; None is the hash of an image that cannot be read."""
    readable = [number for number, one in enumerate(hashes) if one is not None]
    # Of two vectors of -1 and 1, the product is the number of equal bits minus the number of different ones.
    signs = np.array([hashes[number] for number in readable], dtype=np.float32).reshape(-1, BITS) * 2 - 1
    first = list(range(len(hashes)))  # the first image of each one's group, or an earlier one on the way to it

    def find(number: int) -> int:
        while first[number] != number:
            first[number] = first[first[number]]
            number = first[number]
        return number

    for start in range(0, len(readable), ROWS):
        different = (BITS - signs[start : start + ROWS] @ signs.T) / 2
        for row, column in np.argwhere(different <= most_different).tolist():
            one, other = find(readable[start + row]), find(readable[column])
            first[max(one, other)] = min(one, other)
    members: dict[int, list[int]] = {}
    for number in range(len(hashes)):
        members.setdefault(find(number), []).append(number)
    return list(members.values())
