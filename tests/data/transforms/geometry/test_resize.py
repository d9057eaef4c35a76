import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdet.data.transforms import RandomCrop, RandomExpand, RandomFlip, RandomResize, Resize

BOXES = [(4, 6, 30, 20), (40, 10, 60, 44), (16, 28, 24, 36)]


def marked_sample():
    """Box k is filled with 255 in channel k alone: what a transform does to the pixels can be measured."""
    image = np.zeros((48, 64, 3), dtype=np.uint8)
    for channel, (x1, y1, x2, y2) in enumerate(BOXES):
        image[y1:y2, x1:x2, channel] = 255
    return {
        "image": image,
        "gt_bbox": np.array(BOXES, dtype=np.float32),
        "gt_class": np.arange(3, dtype=np.int32)[:, None],
        "is_crowd": np.zeros((3, 1), dtype=np.int32),
        "im_shape": np.array([48, 64], dtype=np.float32),
        "scale_factor": np.ones(2, dtype=np.float32),
    }


def assert_boxes_follow_pixels(sample, tolerance=1.0):
    h, w = sample["image"].shape[:2]
    assert sample["im_shape"].tolist() == [h, w]
    assert len(sample["gt_bbox"]) == len(sample["gt_class"]) == len(sample["is_crowd"])
    for box, channel in zip(sample["gt_bbox"], sample["gt_class"][:, 0]):
        y, x = np.nonzero(sample["image"][..., channel] > 127.5)
        assert np.abs(box - [x.min(), y.min(), x.max() + 1, y.max() + 1]).max() <= tolerance
        assert (box >= 0).all() and (box <= [w, h, w, h]).all()


@pytest.mark.parametrize(
    ("size", "target", "expected", "factor"),
    [
        ((480, 640), [800, 1333], (800, 1067), (800 / 480, 1067 / 640)),
        ((480, 640), [1333, 800], (800, 1067), (800 / 480, 1067 / 640)),
        ((480, 640), 320, (240, 320), (0.5, 0.5)),
        ((640, 480), [256, 416], (341, 256), (341 / 640, 256 / 480)),
        ((10, 2000), [800, 1333], (7, 1333), (0.7, 1333 / 2000)),
        ((2000, 10), [800, 1333], (1333, 7), (1333 / 2000, 0.7)),
        ((1, 5000), [800, 1333], (1, 1333), (1.0, 1333 / 5000)),
        ((1, 1), [800, 1333], (800, 800), (800.0, 800.0)),
    ],
)
def test_resize_sizes(size, target, expected, factor):
    sample = Resize(target_size=target)({"image": np.zeros((*size, 3), np.uint8)})
    assert sample["image"].shape == (*expected, 3)
    assert sample["im_shape"].tolist() == list(expected)
    assert np.allclose(sample["scale_factor"], factor)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 1500), st.integers(1, 1500), st.integers(1, 300), st.integers(1, 300))
def test_resize_reaches_one_limit_and_passes_none(h, w, one, other):
    sample = Resize(target_size=[one, other])({"image": np.zeros((h, w, 3), np.uint8)})
    new_h, new_w = sample["image"].shape[:2]
    short, long = sorted([one, other])
    assert min(new_h, new_w) <= short and max(new_h, new_w) <= long
    assert min(new_h, new_w) == short or max(new_h, new_w) == long


@pytest.mark.parametrize("interp", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("target", [[96, 128], [24, 32], [50, 40]])
def test_resize_moves_boxes_with_pixels(target, interp):
    sample = Resize(target_size=target, keep_ratio=False, interp=interp)(marked_sample())
    assert sample["image"].shape[:2] == tuple(target) and sample["image"].dtype == np.uint8
    assert_boxes_follow_pixels(sample)
    assert np.allclose(sample["scale_factor"], [target[0] / 48, target[1] / 64])


def test_two_resizes_multiply_their_factors():
    sample = Resize(target_size=24)(Resize(target_size=[48, 32], keep_ratio=False)(marked_sample()))
    assert np.allclose(sample["scale_factor"], [24 / 48, 16 / 64])


def test_resize_without_boxes():
    sample = marked_sample()
    sample["gt_bbox"] = np.zeros((0, 4), np.float32)
    assert Resize(target_size=10)(sample)["gt_bbox"].shape == (0, 4)


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


def test_flip():
    rng = np.random.default_rng(0)
    before = marked_sample()
    flipped = RandomFlip(prob=1.0)(marked_sample(), rng)
    assert np.array_equal(flipped["image"], before["image"][:, ::-1])
    assert_boxes_follow_pixels(flipped, tolerance=0)
    assert np.array_equal(RandomFlip(prob=0.0)(marked_sample(), rng)["image"], before["image"])
    count = sum(not np.array_equal(RandomFlip()(marked_sample(), rng)["gt_bbox"], BOXES) for _ in range(400))
    assert 150 < count < 250


def test_crop_moves_boxes_with_pixels():
    shapes = set()
    for seed in range(200):
        sample = RandomCrop(allow_no_crop=False)(marked_sample(), np.random.default_rng(seed))
        assert len(sample["gt_bbox"]) >= 1
        assert_boxes_follow_pixels(sample, tolerance=0)
        shapes.add(sample["image"].shape)
    assert len(shapes) > 50


def test_crop_keeps_the_promised_overlap():
    for seed in range(50):
        crop = RandomCrop(thresholds=[0.3], allow_no_crop=False, num_attempts=200)
        sample = crop(marked_sample(), np.random.default_rng(seed))
        h, w = sample["image"].shape[:2]
        if (h, w) == (48, 64):
            continue  # nothing found
        x1, y1, x2, y2 = sample["gt_bbox"].T
        full = np.array([(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in BOXES])[sample["gt_class"][:, 0]]
        shared = (x2 - x1) * (y2 - y1)
        assert (shared / (full + h * w - shared)).max() >= 0.3


def overlaps(box, boxes):
    """(M,) IoU of a box with boxes, all x1, y1, x2, y2."""
    result = []
    for x1, y1, x2, y2 in boxes:
        width, height = min(box[2], x2) - max(box[0], x1), min(box[3], y2) - max(box[1], y1)
        shared = max(width, 0) * max(height, 0)
        result.append(shared / ((box[2] - box[0]) * (box[3] - box[1]) + (x2 - x1) * (y2 - y1) - shared))
    return np.array(result)


@pytest.mark.parametrize("cover_all_box", [False, True])
def test_crop_by_one_box_or_by_all(cover_all_box):
    """Two boxes side by side, of which a window can hold one well or both a little less."""
    boxes = [(10, 10, 30, 40), (34, 10, 54, 40)]
    y, x = np.mgrid[:48, :64]
    least, most = [], []
    for seed in range(150):
        sample = {
            "image": np.dstack([x, y, x]).astype(np.uint8),  # pixels say where they come from
            "gt_bbox": np.array(boxes, np.float32),
            "gt_class": np.zeros((2, 1), np.int32),
        }
        crop = RandomCrop(
            thresholds=[0.25], allow_no_crop=False, cover_all_box=cover_all_box, num_attempts=200, scaling=[0.4, 0.9]
        )
        image = crop(sample, np.random.default_rng(seed))["image"]
        window = (*image[0, 0, :2].astype(int), *image[-1, -1, :2].astype(int) + 1)
        if image.shape != (48, 64, 3):
            found = overlaps(window, boxes)
            least.append(found.min())
            most.append(found.max())
    assert len(least) > 100 and min(most) >= 0.25
    assert min(least) >= 0.25 if cover_all_box else min(least) == 0


def test_crop_limits_sides():
    for seed in range(100):
        crop = RandomCrop(aspect_ratio=None, scaling=[0.4, 0.6], allow_no_crop=False)
        h, w = crop(marked_sample(), np.random.default_rng(seed))["image"].shape[:2]
        if (h, w) != (48, 64):
            assert 0.5 <= h / w <= 2 and int(0.4 * 48) <= h <= 0.6 * 48 and int(0.4 * 64) <= w <= 0.6 * 64


def test_crop_leaves_an_image_without_boxes_alone():
    sample = marked_sample()
    for field in ("gt_bbox", "gt_class", "is_crowd"):
        sample[field] = sample[field][:0]
    assert RandomCrop()(sample, np.random.default_rng(0))["image"].shape == (48, 64, 3)


def test_crop_and_expand_of_extreme_images():
    for shape in [(10, 2000, 3), (1, 1, 3), (2000, 10, 3)]:
        sample = {
            "image": np.zeros(shape, np.uint8),
            "gt_bbox": np.array([[0, 0, 1, 1], [0.5, 0.5, 0.5, 0.5]], np.float32),
            "gt_class": np.zeros((2, 1), np.int32),
        }
        for seed in range(20):
            crop = RandomCrop()(dict(sample), np.random.default_rng(seed))
            assert min(crop["image"].shape) >= 1 and np.isfinite(crop["gt_bbox"]).all()
            assert RandomExpand(prob=1.0)(crop, np.random.default_rng(seed))["image"].size > 0


def test_expand_moves_boxes_with_pixels():
    areas = []
    for seed in range(50):
        sample = RandomExpand(ratio=3.0, prob=1.0, fill_value=[9, 8, 7])(marked_sample(), np.random.default_rng(seed))
        assert_boxes_follow_pixels(sample, tolerance=0)
        areas.append(sample["image"].shape[0] / 48)
        if areas[-1] > 1.2:
            assert (sample["image"] == [9, 8, 7]).all(axis=2).sum() == sample["image"][..., 0].size - 48 * 64
    assert min(areas) < 1.5 and 2.5 < max(areas) <= 3


@pytest.mark.parametrize(
    "transform", [RandomFlip(prob=1.0), RandomCrop(), RandomExpand(prob=1.0), Resize(target_size=9)]
)
def test_records_keep_their_arrays(transform):
    sample = marked_sample()
    boxes = sample["gt_bbox"]
    transform(sample, np.random.default_rng(1))
    assert boxes.tolist() == [list(box) for box in BOXES]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Resize(target_size=[1, 2, 3]), "one or two"),
        (lambda: Resize(target_size=0), "positive"),
        (lambda: Resize(target_size=8, interp=9), "bilinear"),
        (lambda: RandomResize(target_size=[[1, 2]], random_range=True), "two sizes"),
        (lambda: RandomResize(target_size=5), "list"),
        (lambda: RandomResize(target_size=5, random_size=False, scale_range=[1, 0.8]), "scale_range"),
        (lambda: RandomFlip(prob=2.0), "probability"),
        (lambda: RandomCrop(scaling=[0.5, 1.5]), "scaling"),
        (lambda: RandomExpand(ratio=0.5), "above 1"),
    ],
)
def test_wrong_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()
