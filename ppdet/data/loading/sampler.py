"""Which images come when, and on which rank."""

import numpy as np


class EpochSampler:
    """The batches of an epoch on one rank, a function of (seed, epoch) alone.

    Args:
        size: images in the data set.
        batch_size: images in a batch of one rank.
        shuffle: another order in every epoch; otherwise the data set's.
        drop_last: leave out what does not fill a batch on every rank.
        even: all ranks must have equally many batches (training). Without drop_last at most world_size - 1
            images then come twice. Otherwise (evaluation) every image comes exactly once.

    Rank r takes every world_size-th image from the r-th on, so the world_size batches of a step together
    are the batch that one process with world_size times the batch size would have.
    """

    def __init__(
        self,
        *,
        size: int,
        batch_size: int,
        shuffle: bool,
        drop_last: bool,
        even: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.size = size
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.even = even
        self.seed = seed
        self.rank = rank
        self.world_size = world_size

    def indices(self, epoch: int) -> np.ndarray:
        """(n,) positions in the data set of this rank's images, in order."""
        order = pass_order(self.size, self.seed, epoch, shuffle=self.shuffle)
        if self.drop_last and self.even:
            together = self.batch_size * self.world_size
            order = order[: self.size // together * together]
        elif self.even:
            order = np.resize(order, -(-self.size // self.world_size) * self.world_size)  # starts over at the end
        mine = order[self.rank :: self.world_size]
        return mine[: len(mine) // self.batch_size * self.batch_size] if self.drop_last else mine

    def batches(self, epoch: int) -> list[list[int]]:
        mine = self.indices(epoch).tolist()
        return [mine[i : i + self.batch_size] for i in range(0, len(mine), self.batch_size)]

    def __len__(self) -> int:
        if self.drop_last and self.even:
            return self.size // (self.batch_size * self.world_size)
        share = (self.size - self.rank + self.world_size - 1) // self.world_size
        if self.even:
            share = -(-self.size // self.world_size)
        return share // self.batch_size if self.drop_last else -(-share // self.batch_size)


class EndlessSampler:
    """Batches from one pass over a data set after the other; an epoch takes up where the one before it ended.

    No image comes a second time before all have come once. A function of (seed, epoch) alone, as EpochSampler is.

    Args:
        size: images in the data set.
        batch_size: images in a batch of one rank.
        batches_per_epoch: on every rank.
        shuffle: another order in every pass; otherwise the data set's.
    """

    def __init__(
        self,
        *,
        size: int,
        batch_size: int,
        batches_per_epoch: int,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.size = size
        self.batch_size = batch_size
        self.batches_per_epoch = batches_per_epoch
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size

    def indices(self, epoch: int) -> np.ndarray:
        """(n, 2) pass, and position in the data set, of this rank's images, in order."""
        count = self.batches_per_epoch * self.batch_size * self.world_size
        passes, places = np.divmod(np.arange(epoch * count, (epoch + 1) * count), self.size)
        numbers = range(passes[0], passes[-1] + 1)
        orders = {number: pass_order(self.size, self.seed, number, shuffle=self.shuffle) for number in numbers}
        pairs = [(number, orders[number][place]) for number, place in zip(passes.tolist(), places.tolist())]
        return np.array(pairs)[self.rank :: self.world_size]

    def batches(self, epoch: int) -> list[list[list[int]]]:
        """Pairs [pass, position] of each batch."""
        return self.indices(epoch).reshape(-1, self.batch_size, 2).tolist()

    def __len__(self) -> int:
        return self.batches_per_epoch


def pass_order(size: int, seed: int, number: int, *, shuffle: bool) -> np.ndarray:
    """(size,) positions in the data set in the order of the pass `number`; the data set's own without `shuffle`."""
    if not shuffle:
        return np.arange(size)
    return np.random.default_rng(np.random.SeedSequence((seed, number))).permutation(size)
