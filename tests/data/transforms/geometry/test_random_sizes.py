"""Random sizes of single images. Expected sizes come from DETR's formula, in fractions, and from published recipes."""

from fractions import Fraction

import cv2
import numpy as np
import pytest
from transform_samples import marked_sample, sample_of

from ppdet.data.transforms import (
    BatchRandomResize,
    RandomExpand,
    RandomPerspective,
    RandomResize,
    RandomResizeCrop,
    RandomSelect,
    RandomShortSideResize,
    Resize,
)
from ppdet.data.transforms.composing.compose import apply_transform
from ppdet.utils.errors import DataError


def test_random_resize_draws_from_the_list():
    sizes = [[12, 99], [24, 99], [36, 99]]
    resize = RandomResize(target_size=sizes)
    drawn = {resize(marked_sample(), np.random.default_rng(i))["image"].shape[0] for i in range(40)}
    assert drawn == {12, 24, 36}


def test_random_resize_draws_from_the_range():
    resize = RandomResize(target_size=[[20, 60], [30, 60]], random_range=True)
    shapes = [resize(marked_sample(), np.random.default_rng(i))["image"].shape[:2] for i in range(300)]
    assert {h for h, _ in shapes} == set(range(20, 31))
    assert all(abs(w / h - 64 / 48) < 0.04 for h, w in shapes)


def test_random_resize_of_one_size():
    resize = RandomResize(target_size=[24, 32], random_size=False)
    assert resize(marked_sample(), np.random.default_rng(0))["image"].shape[:2] == (24, 32)


def fit(h, w, short, long):
    """The size at which published recipes of other code bases train: scale to fit, then round half up."""
    scale = min(short / min(h, w), long / max(h, w))
    return int(h * scale + 0.5), int(w * scale + 0.5)


@pytest.mark.parametrize(
    ("options", "shorts"),
    [
        ({"target_size": [[640, 1333], [800, 1333]]}, [640, 800]),  # one of several values
        ({"target_size": [[640, 1333], [800, 1333]], "random_range": True}, list(range(640, 801))),  # a whole number
    ],
)
@pytest.mark.parametrize("size", [(480, 640), (640, 427), (333, 640)])
def test_random_resize_of_published_recipes(options, shorts, size):
    resize = RandomResize(**options)
    sample = {"image": np.zeros((*size, 3), np.uint8)}
    drawn = [resize(dict(sample), np.random.default_rng(i))["image"].shape[:2] for i in range(100)]
    assert set(drawn) <= {fit(*size, short, 1333) for short in shorts}
    assert len(set(drawn)) > (1 if len(shorts) == 2 else 20)


@pytest.mark.parametrize(("h", "w"), [(48, 64), (64, 48), (30, 200)])
def test_random_resize_scales_a_view(h, w):
    """The scale of the view is uniform: so is the longer side, which is all of it."""
    resize = RandomResize(target_size=102, random_size=False, scale_range=[0.8, 1])
    sample = {"image": np.zeros((h, w, 3), np.uint8)}
    shapes = [resize(dict(sample), np.random.default_rng(i))["image"].shape[:2] for i in range(400)]
    longs = [max(shape) for shape in shapes]
    assert all(shape == fit(h, w, max(shape), max(shape)) for shape in shapes)
    assert (min(longs), max(longs)) == (82, 102) and abs(np.mean(longs) - 0.9 * 102) < 1
    assert resize.new_size(h, w) == fit(h, w, 102, 102)


def test_a_scale_leaves_other_draws_alone():
    plain, scaled = (RandomResize(target_size=[10, 20, 30], scale_range=one) for one in (None, [2, 2]))
    sides = [
        [resize(marked_sample(), np.random.default_rng(i))["image"].shape[1] for i in range(20)]
        for resize in (plain, scaled)
    ]
    assert sides[1] == [2 * side for side in sides[0]]


@pytest.mark.parametrize(
    ("size", "short", "max_size", "expected"),
    [
        ((480, 640), 800, 1333, (800, 1067)),
        ((640, 480), 800, 1333, (1067, 800)),
        ((480, 640), 480, 1333, (480, 640)),
        ((427, 640), 800, 1000, (667, 1000)),  # the long side decides: 1000 * 427 / 640 = 667.2
        ((400, 4000), 800, 1333, (133, 1333)),
        ((400, 4000), 800, None, (800, 8000)),
        ((1, 3000), 800, 1333, (1, 1333)),
        ((500, 500), 400, 400, (400, 400)),
    ],
)
def test_short_side_sizes(size, short, max_size, expected):
    resize = RandomShortSideResize(short_side_sizes=[short], max_size=max_size)
    sample = resize(sample_of(*size), np.random.default_rng(0))
    assert sample["image"].shape == (*expected, 3) and sample["im_shape"].tolist() == list(expected)
    assert np.allclose(sample["scale_factor"], np.divide(expected, size))
    assert sample["gt_bbox"].tolist() == [[0, 0, expected[1], expected[0]]]


def test_short_sides_are_drawn_evenly_and_keep_the_ratio():
    sides = [30, 40, 50]
    resize = RandomShortSideResize(short_side_sizes=sides, max_size=66)
    rng = np.random.default_rng(0)
    shapes = [resize(sample_of(60, 90), rng)["image"].shape[:2] for _ in range(300)]
    cut = (44, 66)  # 50 x 75 is too long
    assert set(shapes) == {(30, round(Fraction(30 * 90, 60))), (40, round(Fraction(40 * 90, 60))), cut}
    assert all(70 < shapes.count(shape) < 130 for shape in set(shapes))


@pytest.mark.parametrize("make", [RandomShortSideResize, BatchRandomResize])
def test_a_random_interpolation_is_one_of_five(make):
    name = "short_side_sizes" if make is RandomShortSideResize else "target_size"
    resize = make(**{name: [20]}, random_interp=True)
    sample = sample_of(33, 33)
    expected = {cv2.resize(sample["image"], (20, 20), interpolation=i).tobytes() for i in range(5)}
    found = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        images = resize([dict(sample)], rng) if resize.takes_batch else [resize(dict(sample), rng)]
        found.add(images[0]["image"].tobytes())
    assert found == expected and len(expected) == 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomResize(target_size=[[1, 2]], random_range=True), "two sizes"),
        (lambda: RandomResize(target_size=5), "list"),
        (lambda: RandomResize(target_size=5, random_size=False, scale_range=[1, 0.8]), "scale_range"),
    ],
)
def test_wrong_parameters_of_random_resize(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomShortSideResize(short_side_sizes=[]), r"short_side_sizes is \[\], expected a list of sizes"),
        (lambda: RandomShortSideResize(short_side_sizes=[0]), "short_side_sizes is 0; it must be at least 1"),
        (lambda: RandomShortSideResize(short_side_sizes=[9], max_size=0), "max_size is 0"),
        (lambda: RandomShortSideResize(short_side_sizes=[9], interp=7), "bilinear"),
        (lambda: RandomShortSideResize(short_side_sizes=[10**6]), "pixels"),
    ],
)
def test_wrong_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (RandomShortSideResize(short_side_sizes=[800]), "RandomShortSideResize: .* short_side_sizes is 800 x 480000"),
        (RandomResizeCrop(resizes=[800], cropsizes=[[9, 9]], prob=1), "RandomResizeCrop: .* resizes is 800 x 480000"),
        (RandomPerspective(border=[9000, 9000]), "RandomPerspective: .* border is 18001 x 18600"),
        (RandomExpand(ratio=20, prob=1), "RandomExpand: the canvas of the image is .* it must be at most"),
    ],
)
def test_an_image_that_would_grow_too_large(transform, message):
    """The error is one line that names the image, and not a traceback of the transform."""
    sample = {"image": np.broadcast_to(np.zeros(3, np.uint8), (1, 600, 3)), "im_file": "long.png"}
    if isinstance(transform, RandomExpand):
        sample["image"] = np.broadcast_to(sample["image"][:, :1], (6000, 6000, 3))
    with pytest.raises(DataError, match=f"^long.png: {message}"):
        apply_transform(transform, sample, np.random.default_rng(1))


@pytest.mark.parametrize(
    ("transform", "largest"),
    [
        (BatchRandomResize(target_size=[32, [40, 64], 48], keep_ratio=False), (40, 64)),
        (RandomShortSideResize(short_side_sizes=[20, 60, 40]), (60, 80)),
        (RandomResize(target_size=[[30, 40], [60, 80], [45, 60]]), (60, 80)),
        (RandomResize(target_size=50, random_size=False, scale_range=[0.5, 2.0], keep_ratio=False), (100, 100)),
        (
            RandomSelect(transforms1=[RandomResize(target_size=[12, 24])], transforms2=[Resize(target_size=24)]),
            (18, 24),
        ),
    ],
)
def test_keep_largest(transform, largest):
    assert transform.keep_largest()
    image = np.zeros((60, 80, 3), dtype=np.uint8)
    for seed in range(5):
        sample = {"image": image}
        takes_batch = transform.takes_batch
        result = transform([sample] if takes_batch else sample, np.random.default_rng(seed))
        assert (result[0] if takes_batch else result)["image"].shape[:2] == largest
    assert not Resize(target_size=24).keep_largest()
