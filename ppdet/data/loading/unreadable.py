"""Counting images that cannot be read, which end a run if there are too many of them."""

from ppdet.utils.errors import DataError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)

MAX_UNREADABLE = 0.01  # share of the images read that may be unreadable


def add_skipped(skipped: dict[str, str], more: dict[str, str], images_read: int, share: float) -> None:
    """Add the images that could not be read to `skipped`, path -> reason, and log each new one.

    Raises:
        DataError: there are at least two, and more than this share of the images read.
    """
    for path, reason in more.items():
        if path not in skipped:
            skipped[path] = reason
            logger.warning("image skipped: %s: %s", path, reason)
    if len(skipped) > max(1, share * images_read):
        some = "; ".join(f"{path}: {reason}" for path, reason in list(skipped.items())[:3])
        raise DataError(
            f"{len(skipped)} of {images_read} images cannot be read, more than 1 %:"
            f" {some}{'; …' if len(skipped) > 3 else ''}. Check dataset_dir and image_dir"
        )
