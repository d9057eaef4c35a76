import numpy as np
import pytest

from ppdet.data.loading.sampler import EndlessSampler, EpochSampler


def ranks(world_size, epoch=0, **options):
    defaults = dict(size=23, batch_size=2, shuffle=True, drop_last=True, even=True, seed=5)
    samplers = [EpochSampler(**{**defaults, **options}, rank=rank, world_size=world_size) for rank in range(world_size)]
    batches = [[[i for _, i in batch] for batch in sampler.batches(epoch)] for sampler in samplers]
    assert [len(sampler) for sampler in samplers] == [len(mine) for mine in batches]
    return batches


def flat(batches):
    return [i for mine in batches for batch in mine for i in batch]


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_training_shares_are_disjoint_and_equal(world_size):
    batches = ranks(world_size)
    assert {len(mine) for mine in batches} == {23 // (2 * world_size)}
    assert all(len(batch) == 2 for mine in batches for batch in mine)
    assert len(set(flat(batches))) == 23 // (2 * world_size) * 2 * world_size


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 30, 70])
def test_training_without_drop_last_sees_every_image(world_size):
    batches = ranks(world_size, drop_last=False)
    assert len({len(mine) for mine in batches}) == 1
    assert len({sum(map(len, mine)) for mine in batches}) == 1
    if world_size <= 23:
        assert set(flat(batches)) == set(range(23))
        assert len(flat(batches)) - 23 < world_size


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 30])
def test_evaluation_sees_every_image_once(world_size):
    batches = ranks(world_size, shuffle=False, drop_last=False, even=False)
    assert sorted(flat(batches)) == list(range(23))
    assert [i for batch in batches[0] for i in batch] == list(range(0, 23, world_size))


def test_ranks_together_make_the_batch_of_one_process():
    one, two = ranks(1, batch_size=4), ranks(2, batch_size=2)
    assert [set(batch) for batch in one[0]] == [set(a) | set(b) for a, b in zip(*two)]


def test_order_depends_on_seed_and_epoch_alone():
    assert ranks(1) == ranks(1)
    assert ranks(1) != ranks(1, epoch=1)
    assert ranks(1) != ranks(1, seed=6)
    assert flat(ranks(1, shuffle=False, drop_last=False)) == list(range(23))


def endless(epochs, world_size=1, **options):
    """Positions of each rank's images over `epochs` epochs, rank by rank."""
    samplers = [
        EndlessSampler(
            **{"size": 7, "batch_size": 2, "batches_per_epoch": 3, "shuffle": True, **options},
            rank=rank,
            world_size=world_size,
        )
        for rank in range(world_size)
    ]
    pairs = [flat(sampler.batches(epoch) for epoch in range(epochs)) for sampler in samplers]
    passes = [number for pair in zip(*pairs) for number, _ in pair]
    assert passes == [k // samplers[0].size for k in range(len(passes))]
    return [[image for _, image in mine] for mine in pairs]


@pytest.mark.parametrize(("size", "epochs"), [(7, 7), (100, 34), (5, 5), (1, 2)])
def test_endless_passes_see_every_image_once(size, epochs):
    (images,) = endless(epochs, size=size)
    assert len(images) == 6 * epochs
    passes = [images[i : i + size] for i in range(0, len(images) // size * size, size)]
    assert all(sorted(one) == list(range(size)) for one in passes)
    assert size < 5 or passes[0] != passes[1]
    counts = np.bincount(images, minlength=size)
    assert counts.max() - counts.min() <= 1


def test_endless_ranks_together_read_what_one_process_reads():
    (one,) = endless(5, batch_size=4)
    two = endless(5, world_size=2)
    assert [image for pair in zip(*two) for image in pair] == one


def test_endless_without_shuffle_follows_the_data_set():
    (images,) = endless(2, shuffle=False)
    assert images == [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4]
    assert len(EndlessSampler(size=7, batch_size=2, batches_per_epoch=3, shuffle=False)) == 3
