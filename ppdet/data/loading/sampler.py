"""The order of the images: which image comes in which batch, and on which rank."""

import math
from dataclasses import dataclass

import numpy as np

UNITS = 2**20  # a repeat factor is a whole number of these parts of 1
COPIES = 2**32  # distance between the numbers of two copies of an image, above that of all epochs


@dataclass(kw_only=True)
class EpochSampler:
    """The batches of an epoch on one rank. They depend on (seed, epoch) alone.

    Rank r takes every world_size-th image, starting with image r. So the batches that all ranks read in one step are
    together the batch that a single process with world_size times the batch size would read.

    Args:
        size: number of images in the data set.
        batch_size: images per batch on each rank.
        shuffle: use another order in every epoch instead of the data set's.
        drop_last: leave out the images that do not fill a batch on every rank.
        even: give all ranks the same number of batches, as training needs. Without drop_last, up to world_size - 1
            images are then read twice. Otherwise (evaluation) every image is read exactly once.
        seed: seed of the shuffling.
        rank: this process, from 0.
        world_size: number of processes.
    """

    size: int
    batch_size: int
    shuffle: bool
    drop_last: bool
    even: bool
    seed: int = 0
    rank: int = 0
    world_size: int = 1

    def indices(self, epoch: int) -> np.ndarray:
        """(n,) positions in the data set of this rank's images, in order."""
        return self._share(shuffled_order(self.size, self.seed, epoch, shuffle=self.shuffle))

    def _share(self, images: np.ndarray) -> np.ndarray:
        """Return this rank's share of the images of an epoch, (images,) or (images, any)."""
        if self.drop_last and self.even:
            global_batch = self.batch_size * self.world_size
            images = images[: len(images) // global_batch * global_batch]
        elif self.even:
            count = math.ceil(len(images) / self.world_size) * self.world_size
            images = images[np.resize(np.arange(len(images)), count)]  # repeats the first ones
        mine = images[self.rank :: self.world_size]
        return mine[: len(mine) // self.batch_size * self.batch_size] if self.drop_last else mine

    def batches(self, epoch: int) -> list[list[tuple[int, int]]]:
        """The batches of an epoch, as pairs (epoch, position in the data set)."""
        pairs = [(epoch, position) for position in self.indices(epoch).tolist()]
        return [pairs[i : i + self.batch_size] for i in range(0, len(pairs), self.batch_size)]

    def __len__(self) -> int:
        return len(self.batches(0))


@dataclass(kw_only=True)
class RepeatSampler(EpochSampler):
    """Batches of an epoch in which images come several times, such as those with rare classes.

    An image with the factor 1.3 comes once in every epoch, and twice in three of ten on average. All epochs have the
    same number of images, the sum of the factors, rounded down, and every image comes at least once.

    Args:
        factors: (size,) how often each image comes on average, at least 1.
    """

    factors: np.ndarray

    def indices(self, epoch: int) -> np.ndarray:
        return self._pairs(epoch)[:, 1]

    def batches(self, epoch: int) -> list[list[tuple[int, int]]]:
        """The batches of an epoch, as pairs (number, position in the data set).

        The number is the epoch for the first copy of an image, and another one for each further copy, since the random
        numbers of a sample depend on it.
        """
        pairs = [(number, position) for number, position in self._pairs(epoch).tolist()]
        return [pairs[i : i + self.batch_size] for i in range(0, len(pairs), self.batch_size)]

    def _pairs(self, epoch: int) -> np.ndarray:
        """(n, 2) this rank's pairs of an epoch, in order."""
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, epoch, COPIES)))
        # Systematic sampling in whole numbers, which are exact: of the images in a random order, each gets as many
        # copies as its stretch of the line has marks, which lie UNITS apart from a random start on.
        units = np.round(self.factors * UNITS).astype(np.int64)
        order = rng.permutation(self.size)
        marks = (np.cumsum(units[order]) + rng.integers(UNITS)) // UNITS
        copies = np.diff(marks, prepend=0)
        positions = np.repeat(order, copies)
        numbers = epoch + (np.arange(len(positions)) - np.repeat(np.cumsum(copies) - copies, copies)) * COPIES
        pairs = np.stack([numbers, positions], axis=1)[rng.permutation(len(positions))]
        if len(pairs) > units.sum() // UNITS:  # one mark more than in other epochs: leave out a further copy
            pairs = np.delete(pairs, np.flatnonzero(pairs[:, 0] >= COPIES)[-1], axis=0)
        return self._share(pairs if self.shuffle else pairs[np.argsort(pairs[:, 1], kind="stable")])


@dataclass(kw_only=True)
class EndlessSampler:
    """Batches from one pass over a data set after the other; an epoch starts where the previous one ended.

    Every image is read once before any is read again. The batches depend on (seed, epoch) alone.

    Args:
        size: number of images in the data set.
        batch_size: images per batch on each rank.
        batches_per_epoch: number of batches per epoch on each rank.
        shuffle: use another order in every pass instead of the data set's.
        seed: seed of the shuffling.
        rank: this process, from 0.
        world_size: number of processes.
    """

    size: int
    batch_size: int
    batches_per_epoch: int
    shuffle: bool
    seed: int = 0
    rank: int = 0
    world_size: int = 1

    def batches(self, epoch: int) -> list[list[tuple[int, int]]]:
        """The batches of an epoch, as pairs (pass, position in the data set).

        Random numbers of an image depend on the pass, since an image may come several times in an epoch.
        """
        count = self.batches_per_epoch * self.batch_size * self.world_size
        passes, places = np.divmod(np.arange(epoch * count, (epoch + 1) * count), self.size)
        orders = {
            number: shuffled_order(self.size, self.seed, number, shuffle=self.shuffle).tolist()
            for number in range(passes[0], passes[-1] + 1)
        }
        pairs = [(number, orders[number][place]) for number, place in zip(passes.tolist(), places.tolist())]
        mine = pairs[self.rank :: self.world_size]
        return [mine[i : i + self.batch_size] for i in range(0, len(mine), self.batch_size)]

    def __len__(self) -> int:
        return self.batches_per_epoch


def shuffled_order(size: int, seed: int, number: int, *, shuffle: bool) -> np.ndarray:
    """(size,) the order of the images in pass `number` over the data set; without `shuffle`, the data set's own."""
    if not shuffle:
        return np.arange(size)
    return np.random.default_rng(np.random.SeedSequence((seed, number))).permutation(size)
