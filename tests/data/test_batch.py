import numpy as np
import pytest

from ppdet.data.errors import DataError
from ppdet.data.transform import PadBatch
from ppdet.data.transform.batch import stack_images


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
