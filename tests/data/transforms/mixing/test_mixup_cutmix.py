"""Mixup and Cutmix: what of both images is seen, and which boxes stay."""

import numpy as np
import pytest
from painted import BACKGROUND, frozen, painted_sample, painted_samples, seen_box

from ppdet.data.transforms import Cutmix, Mixup
from ppdet.utils.errors import DataError

SEEDS = range(20)


def two(seed, sizes=((90, 100), (110, 80)), count=3):
    rng = np.random.default_rng(seed)
    return [painted_sample(rng, number * count, size=size, count=count, crowd=1) for number, size in enumerate(sizes)]


class Fixed:
    """Random numbers that a test gives."""

    def __init__(self, beta, uniform=()):
        self.values = list(uniform)
        self.share = beta

    def beta(self, a, b):
        return self.share

    def uniform(self, low, high):
        return low + self.values.pop(0) * (high - low)


def test_mixup_adds_both_images_up_and_keeps_all_boxes():
    own, other = two(0)
    first, second = own["image"].astype(float), other["image"].astype(float)
    boxes = np.concatenate([own["gt_bbox"], other["gt_bbox"]])
    result = Mixup()(frozen([own, other]), Fixed(0.3))
    assert result["image"].shape == (110, 100, 3) and result["image"].dtype == np.uint8
    assert result["im_shape"].tolist() == [110, 100]
    expected = np.zeros((110, 100, 3))
    expected[:90, :100] += 0.3 * first
    expected[:110, :80] += 0.7 * second
    np.testing.assert_allclose(result["image"], expected, atol=0.51)
    np.testing.assert_array_equal(result["gt_bbox"], boxes)
    assert result["gt_class"][:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert result["is_crowd"][:, 0].tolist() == [0, 1, 0, 0, 1, 0]
    assert result["im_id"].tolist() == [0]


def test_weights_come_from_the_beta_distribution():
    """Its mean is alpha / (alpha + beta), and its variance alpha beta / (alpha + beta)^2 / (alpha + beta + 1)."""
    white, black = (
        {"image": np.full((1, 1, 3), value, dtype=np.uint8), "im_shape": np.ones(2, dtype=np.float32)}
        for value in (255, 0)
    )
    rng, mix = np.random.default_rng(0), Mixup(alpha=2.0, beta=6.0)
    weights = [mix([dict(white), black], rng)["image"][0, 0, 0] / 255 for _ in range(2000)]
    assert np.mean(weights) == pytest.approx(0.25, abs=0.015)
    assert np.std(weights) == pytest.approx(np.sqrt(12 / 64 / 9), abs=0.015)


@pytest.mark.parametrize("seed", SEEDS)
def test_cutmix_boxes_bound_the_pixels_that_are_seen(seed):
    own, other = two(seed)
    whole = [*own["gt_bbox"], *other["gt_bbox"]]
    result = Cutmix()(frozen([own, other]), np.random.default_rng(seed))
    assert result["image"].shape == (90, 100, 3) and result["image"].dtype == np.uint8
    assert result["im_shape"].tolist() == [90, 100]
    boxes, labels, crowds = (result[field] for field in ("gt_bbox", "gt_class", "is_crowd"))
    assert boxes.dtype == np.float32 and len(boxes) == len(labels) == len(crowds)
    for box, (label,), (crowd,) in zip(boxes, labels, crowds):
        assert crowd == (label in (1, 4))
        np.testing.assert_allclose(seen_box(result["image"], label)[0], box, atol=1)
    for label in set(range(6)) - set(labels[:, 0].tolist()):
        seen = seen_box(result["image"], label)
        if seen is not None:
            sides = seen[0][2:] - seen[0][:2]
            assert label not in (1, 4)
            assert seen[1] < 0.1 * (whole[label][2:] - whole[label][:2]).prod() or sides.min() < 2


def test_cutmix_pixels_come_from_one_of_both_images_and_the_rectangle_is_as_large_as_drawn():
    own, other = (
        {**sample, "image": np.full((100, 100, 3), value, dtype=np.uint8)}
        for sample, value in zip(two(0, sizes=((100, 100),) * 2, count=0), (10, 200))
    )
    # The share of the rectangle is 1 - 0.75, its sides are half of the image's, and its center is the image's.
    image = Cutmix()([own, other], Fixed(0.75, [0.5, 0.5]))["image"]
    expected = np.full((100, 100, 3), 10)
    expected[25:75, 25:75] = 200
    np.testing.assert_array_equal(image, expected)


def square(box, crowd=0, value=200):
    sample = painted_sample(np.random.default_rng(0), 0, size=(100, 100), count=0)
    sample["image"] = np.full((100, 100, 3), value, dtype=np.uint8)
    sample["gt_bbox"] = np.array([box], dtype=np.float32)
    sample["gt_class"] = np.zeros((1, 1), dtype=np.int32)
    sample["is_crowd"] = np.array([[crowd]], dtype=np.int32)
    return sample


OUTSIDE = [0, 0, 10, 10]  # not in the rectangle from 25 to 75 of the tests below


@pytest.mark.parametrize(
    ("box", "left"),
    [
        ([30, 30, 60, 60], None),  # covered
        ([0, 30, 50, 60], [0, 30, 25, 60]),  # its right part is
        ([50, 30, 90, 60], [75, 30, 90, 60]),  # its left part
        ([30, 0, 60, 50], [30, 0, 60, 25]),  # its lower part
        ([30, 50, 60, 100], [30, 75, 60, 100]),  # its upper part
        ([10, 30, 90, 60], [10, 30, 90, 60]),  # a stretch in the middle: both ends are seen
        ([10, 10, 50, 50], [10, 10, 50, 50]),  # a corner
        ([18, 25.5, 68, 70], [18, 25.5, 25, 70]),  # a seventh is left
        ([24, 30, 34, 60], None),  # 1 pixel of 10 is left: a tenth, but narrower than 2 pixels
        ([22, 30, 72, 60], None),  # less than a tenth
        ([80, 80, 90, 90], [80, 80, 90, 90]),  # not touched
    ],
)
def test_boxes_that_the_rectangle_covers(box, left):
    samples = [square(box), square([90, 90, 100, 100])]
    result = Cutmix()(samples, Fixed(0.75, [0.5, 0.5]))
    expected = np.array([] if left is None else [left], dtype=np.float32).reshape(-1, 4)
    np.testing.assert_array_equal(result["gt_bbox"], expected)


def test_crowds_stay_as_long_as_anything_of_them_is_seen():
    result = Cutmix()([square([24, 30, 74, 60], crowd=1), square([0, 0, 26, 26], crowd=1)], Fixed(0.75, [0.5, 0.5]))
    assert result["gt_bbox"].tolist() == [[24, 30, 25, 60], [25, 25, 26, 26]]
    result = Cutmix()([square([30, 30, 60, 60], crowd=1), square(OUTSIDE, crowd=1)], Fixed(0.75, [0.5, 0.5]))
    assert result["gt_bbox"].shape == (0, 4) and result["is_crowd"].shape == (0, 1)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("make", [Mixup, Cutmix])
def test_images_without_boxes_and_of_any_sizes(make, seed):
    rng = np.random.default_rng(seed)
    samples = [painted_sample(rng, 0, size=tuple(rng.integers(1, 40, 2)), count=0) for _ in range(2)]
    result = make()(frozen(samples), rng)
    assert result["gt_bbox"].shape == (0, 4) and result["gt_class"].shape == (0, 1)
    assert result["image"].shape[:2] == tuple(result["im_shape"])
    for sample in samples:
        for field in ("gt_bbox", "gt_class", "is_crowd"):
            sample.pop(field)
    assert "gt_bbox" not in make()(frozen(samples), rng)


@pytest.mark.parametrize("make", [Mixup, Cutmix])
def test_wrong_parameters_and_images(make):
    name = make.__name__
    with pytest.raises(ValueError, match=f"{name}.alpha is 0"):
        make(alpha=0)
    with pytest.raises(ValueError, match=f"{name}.beta is -1"):
        make(beta=-1)
    samples = painted_samples(0, 2)
    samples[0]["image"] = samples[0]["image"].astype(np.float32)
    with pytest.raises(DataError, match=f"{name} got a float32 image: list it before NormalizeImage"):
        make()(samples, np.random.default_rng(0))


def test_the_background_of_painted_images_is_no_color_of_a_box():
    sample = painted_sample(np.random.default_rng(0), 0, size=(60, 60), count=2)
    assert (sample["image"] == BACKGROUND).all(axis=-1).any()
    for box, (label,) in zip(sample["gt_bbox"], sample["gt_class"]):
        np.testing.assert_array_equal(seen_box(sample["image"], label)[0], box)
