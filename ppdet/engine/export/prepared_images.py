"""Images as an exported graph takes them, of which only one is in memory at a time."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np

from ppdet.data.transforms.decode import read_image
from ppdet.deploy.further_files import of_size
from ppdet.deploy.preprocess import Preprocess
from ppdet.engine.export.check import Arrays
from ppdet.utils.errors import DataError, ImageError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)


def evenly_spread(count: int, total: int) -> list[int]:
    """Return `count` positions that are spread evenly over 0 … `total` - 1; all, if there are no more."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int)).tolist()


class PreparedImages(Sequence[Arrays]):
    """A graph's inputs for image files, one image in each batch.

    An image is read again whenever it is asked for: 300 inputs of 800x1333 pixels would take 4 GB.

    Args:
        paths: the images. Those that cannot be read are left out; a warning counts them.
        preprocess: of the exported model.
        source: what messages call the images.

    Attributes:
        places: the positions in `paths` of those that can be read, in their order.

    Raises:
        DataError: none of them can be read.
    """

    def __init__(self, paths: Sequence[str], preprocess: Preprocess, source: str) -> None:
        self._paths, self._preprocess = list(paths), preprocess
        self.places: list[int] = []
        unreadable = []
        for place, path in enumerate(paths):
            try:
                self._inputs(path)
                self.places.append(place)
            except ImageError as error:
                unreadable.append(error)
        if not self.places:
            example = f", e.g. {unreadable[0]}" if unreadable else ""
            raise DataError(f"{source}: none of {len(paths)} images can be read{example}")
        if unreadable:
            logger.warning("%s: %d images cannot be read, e.g. %s", source, len(unreadable), unreadable[0])

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, place: int) -> Arrays: ...
    @overload
    def __getitem__(self, place: slice) -> list[Arrays]: ...
    def __getitem__(self, place: int | slice) -> Arrays | list[Arrays]:
        if isinstance(place, slice):
            return [self._inputs(self._paths[one]) for one in self.places[place]]
        return self._inputs(self._paths[self.places[place]])

    def _inputs(self, path: str) -> Arrays:
        return self._preprocess.join([self._preprocess.prepare(read_image(path))])


class FixedBatches:
    """Inputs of a graph of fixed sizes, of which only one batch is in memory at a time.

    Args:
        images: inputs of one image each.
        size: height and width to which the images are padded or cut.
        batch_size: images in a batch; the last batch is filled up with its last image.
    """

    def __init__(self, images: Sequence[Arrays], size: tuple[int, int], batch_size: int) -> None:
        self._images, self._size, self._batch_size = images, size, batch_size

    def __len__(self) -> int:
        return -(-len(self._images) // self._batch_size)

    def __iter__(self) -> Iterator[Arrays]:
        for start in range(0, len(self._images), self._batch_size):
            places = np.minimum(np.arange(start, start + self._batch_size), len(self._images) - 1)
            batch = [of_size(self._images[place], self._size) for place in places.tolist()]
            yield {name: np.concatenate([inputs[name] for inputs in batch]) for name in batch[0]}
