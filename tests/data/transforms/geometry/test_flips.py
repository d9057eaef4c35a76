"""Flips and quarter turns, against NumPy's."""

import numpy as np
import pytest
from transform_samples import BOXES, assert_boxes_follow_pixels, marked_sample

from ppdet.data.transforms import RandomFlip, RandomRotate90, RandomVerticalFlip

BOX = (10, 4, 30, 20)  # in an image of 48 x 64


def sample_of():
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    return {
        "image": image,
        "gt_bbox": np.float32([BOX]),
        "im_shape": np.float32([48, 64]),
        "scale_factor": np.float32([0.5, 0.25]),
    }


def test_vertical_flip():
    sample = RandomVerticalFlip(prob=1.0)(sample_of(), np.random.default_rng(0))
    assert np.array_equal(sample["image"], sample_of()["image"][::-1])
    assert sample["gt_bbox"].tolist() == [[10, 28, 30, 44]]


def test_quarter_turns():
    """np.rot90 turns counterclockwise, k times."""
    expected = {1: [4, 34, 20, 54], 2: [34, 28, 54, 44], 3: [28, 10, 44, 30]}
    found = []
    for seed in range(200):
        sample = RandomRotate90(prob=1.0)(sample_of(), np.random.default_rng(seed))
        turned = [k for k in range(4) if np.array_equal(sample["image"], np.rot90(sample_of()["image"], k))]
        found += turned
        assert sample["gt_bbox"].tolist() == [expected[turned[0]]]
        swapped = turned[0] % 2
        assert sample["im_shape"].tolist() == ([64, 48] if swapped else [48, 64])
        assert sample["scale_factor"].tolist() == ([0.25, 0.5] if swapped else [0.5, 0.25])
    assert sorted(set(found)) == [1, 2, 3] and min(found.count(k) for k in (1, 2, 3)) > 45


@pytest.mark.parametrize("kind", [RandomVerticalFlip, RandomRotate90])
def test_probabilities(kind):
    rng, change = np.random.default_rng(0), kind()
    changed = sum(change(sample_of(), rng)["gt_bbox"].tolist() != [list(BOX)] for _ in range(400))
    assert 150 < changed < 250
    assert np.array_equal(kind(prob=0.0)(sample_of(), rng)["image"], sample_of()["image"])
    with pytest.raises(ValueError, match=rf"{kind.__name__}.prob is 1.5, expected a probability"):
        kind(prob=1.5)


def test_horizontal_flip():
    rng = np.random.default_rng(0)
    before = marked_sample()
    flipped = RandomFlip(prob=1.0)(marked_sample(), rng)
    assert np.array_equal(flipped["image"], before["image"][:, ::-1])
    assert_boxes_follow_pixels(flipped, tolerance=0)
    assert np.array_equal(RandomFlip(prob=0.0)(marked_sample(), rng)["image"], before["image"])
    count = sum(not np.array_equal(RandomFlip()(marked_sample(), rng)["gt_bbox"], BOXES) for _ in range(400))
    assert 150 < count < 250


def test_wrong_probability():
    with pytest.raises(ValueError, match=r"RandomFlip\.prob is 2\.0, expected a probability"):
        RandomFlip(prob=2.0)
