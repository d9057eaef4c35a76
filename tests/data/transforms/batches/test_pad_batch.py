import numpy as np
import pytest

from ppdet.data.transforms import Gt2FCOSTarget, PadBatch
from ppdet.data.transforms.batches.pad_batch import stack_images
from ppdet.utils.errors import DataError


def images(*sizes):
    rng = np.random.default_rng(0)
    return [{"image": rng.random((3, h, w), dtype=np.float32)} for h, w in sizes]


@pytest.mark.parametrize(("stride", "size"), [(0, (20, 31)), (1, (20, 31)), (32, (32, 32)), (128, (128, 128))])
def test_pads_to_the_largest_and_the_stride(stride, size):
    before = images((20, 30), (10, 31))
    after = PadBatch(pad_to_stride=stride)([dict(sample) for sample in before])
    for old, new in zip(before, after):
        h, w = old["image"].shape[1:]
        assert new["image"].shape == (3, *size)
        assert np.array_equal(new["image"][:, :h, :w], old["image"])
        assert not new["image"][:, h:].any() and not new["image"][:, :, w:].any()


@pytest.mark.parametrize(
    ("least", "stride", "size"),
    [(25, 0, (25, 31)), ([40, 20], 0, (40, 31)), ([20, 31], 0, (20, 31)), (33, 32, (64, 64)), (1025, 32, (1056, 1056))],
)
def test_pads_to_a_size(least, stride, size):
    before = images((20, 30), (10, 31))
    after = PadBatch(pad_to_stride=stride, pad_to_size=least)([dict(sample) for sample in before])
    for old, new in zip(before, after):
        h, w = old["image"].shape[1:]
        assert new["image"].shape == (3, *size)
        assert np.array_equal(new["image"][:, :h, :w], old["image"])
        assert np.count_nonzero(new["image"]) == np.count_nonzero(old["image"])


def test_a_view_of_1025_has_the_locations_of_its_own_grids():
    """8n + 1 pixels have grids of 8n / stride + 1 locations; 1056 has the same ones, and more in the padding."""
    strides, rng = (8, 16, 32, 64, 128), np.random.default_rng(0)
    corner = rng.uniform(0, 900, (30, 2))
    boxes = np.concatenate([corner, np.minimum(corner + rng.uniform(5, 700, (30, 2)), 1025)], axis=1)
    (sample,) = PadBatch(pad_to_stride=32, pad_to_size=1025)([{"image": np.zeros((3, 820, 1025), np.uint8)}])
    assert sample["image"].shape == (3, 1056, 1056)
    assigner = Gt2FCOSTarget(center_sampling_radius=0, num_shift=0, norm_reg_targets=False)
    view, padded = (assigner.assign(boxes, np.zeros((30, 1)), side, side) for side in (1025, 1056))
    starts = [0, 0]
    for stride in strides:
        sides = 1024 // stride + 1, -(-1056 // stride)
        for whole, part in zip(padded, view):
            fine = [
                one[start : start + side**2].reshape(side, side, -1)
                for one, start, side in zip((part, whole), starts, sides)
            ]
            assert np.array_equal(fine[0], fine[1][: sides[0], : sides[0]])
            assert not fine[1][sides[0] :].any() and not fine[1][:, sides[0] :].any()
        starts = [start + side**2 for start, side in zip(starts, sides)]
    assert starts == [len(view[0]), len(padded[0])] and (view[0] > 0).sum() > 500


def test_stack_finds_the_padded_array_again():
    samples = PadBatch()(images((5, 6), (4, 6)))
    rows = [sample["image"] for sample in samples]
    assert stack_images(rows) is rows[0].base
    swapped = stack_images(rows[::-1])
    assert np.array_equal(swapped, np.stack(rows[::-1]))
    assert np.array_equal(stack_images([rows[0], rows[0]]), np.stack([rows[0], rows[0]]))
    assert stack_images([rows[0]]).shape == (1, 3, 5, 6)


def test_needs_permuted_images():
    with pytest.raises(DataError, match="Permute"):
        PadBatch()([{"image": np.zeros((20, 30, 3), np.float32)}])
    with pytest.raises(ValueError, match="pad_to_stride"):
        PadBatch(pad_to_stride=-1)
    with pytest.raises(ValueError, match="pad_to_size"):
        PadBatch(pad_to_size=[8, 0])
