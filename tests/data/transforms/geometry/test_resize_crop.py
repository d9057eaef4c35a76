"""Crops by pixels: sides, overlap and rules, read from pixels that say where they come from."""

import numpy as np
import pytest

from ppdet.data.transforms import RandomResizeCrop, RandomSizeCrop

H, W = 60, 90


def sample_of(boxes, h=H, w=W):
    y, x = np.mgrid[:h, :w]
    return {
        "image": np.dstack([x, y, x]).astype(np.uint8),
        "gt_bbox": np.array(boxes, np.float32).reshape(-1, 4),
        "gt_class": np.arange(len(boxes), dtype=np.int32)[:, None],
        "im_shape": np.float32([h, w]),
    }


def window_of(image):
    """x1, y1, x2, y2 of the window that an image was cropped to."""
    return (*image[0, 0, :2].astype(int), *(image[-1, -1, :2].astype(int) + 1))


def test_sides_and_places_are_uniform():
    crop, rng = RandomSizeCrop(min_size=20, max_size=80), np.random.default_rng(0)
    windows = np.array([window_of(crop(sample_of([]), rng)["image"]) for _ in range(1500)])
    widths, heights = (windows[:, 2:] - windows[:, :2]).T
    assert set(heights) == set(range(20, 61)) and set(widths) == set(range(20, 81))
    assert abs(heights.mean() - 40) < 1 and abs(widths.mean() - 50) < 1.5
    free = W - widths
    assert abs((windows[:, 0] / free).mean() - 0.5) < 0.03 and (windows[:, 2] == W).any() and (windows[:, 0] == 0).any()


def test_a_small_image_stays_whole():
    sample = RandomSizeCrop(min_size=384, max_size=600)(sample_of([(1, 2, 3, 4)]), np.random.default_rng(0))
    assert sample["image"].shape == (H, W, 3) and sample["gt_bbox"].tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize("keep_empty", [True, False])
def test_windows_without_boxes(keep_empty):
    crop = RandomSizeCrop(min_size=10, max_size=20, keep_empty=keep_empty)
    empty = whole = 0
    for seed in range(60):
        sample = crop(sample_of([(0, 0, 8, 8), (80, 50, 90, 60)]), np.random.default_rng(seed))
        empty += not len(sample["gt_bbox"])
        whole += sample["image"].shape[:2] == (H, W)
        assert sample["gt_bbox"].shape[1] == 4 and len(sample["gt_class"]) == len(sample["gt_bbox"])
    assert (empty > 20 and not whole) if keep_empty else (whole > 20 and not empty)
    # An image that has no boxes anyway is cropped.
    assert crop(sample_of([]), np.random.default_rng(0))["image"].shape[0] <= 20


@pytest.mark.parametrize(
    ("mode", "keep_ratio", "resize", "expected"),
    [
        ("short", True, 120, (120, 180)),
        ("long", True, 120, (80, 120)),
        ("short", True, [120, 150], (120, 180)),  # the short side decides: 120 / 60 > 150 / 90
        ("short", True, [30, 180], (120, 180)),  # the long side decides
        ("long", True, [150, 30], (30, 45)),  # 30 / 60 < 150 / 90
        ("short", False, [70, 50], (70, 50)),
    ],
)
def test_sizes_before_the_crop(mode, keep_ratio, resize, expected):
    """An image without boxes is resized alone."""
    change = RandomResizeCrop(resizes=[resize], cropsizes=[[5, 9]], prob=1.0, mode=mode, keep_ratio=keep_ratio)
    sample = change(sample_of([]), np.random.default_rng(0))
    assert sample["image"].shape == (*expected, 3)
    assert np.allclose(sample["scale_factor"], [expected[0] / H, expected[1] / W])


def test_sizes_and_crops_are_drawn_from_lists():
    change = RandomResizeCrop(
        resizes=[60, 120], cropsizes=[[20, 25], [40, 50]], prob=1.0, thresholds=[0.0], num_attempts=500
    )
    found = set()
    for seed in range(80):
        sample = change(sample_of([(0, 0, W, H)]), np.random.default_rng(seed))
        shape = sample["image"].shape[:2]
        assert all(20 <= side <= 25 for side in shape) or all(40 <= side <= 50 for side in shape)
        found.add((float(sample["scale_factor"][0]), shape[0] >= 40))
    assert found == {(1.0, False), (1.0, True), (2.0, False), (2.0, True)}


@pytest.mark.parametrize(("ioumode", "cover_all_box"), [("iou", False), ("iof", False), ("iof", True)])
def test_the_window_overlaps_boxes_enough(ioumode, cover_all_box):
    boxes = [(10, 10, 30, 40), (34, 10, 54, 40)]
    change = RandomResizeCrop(
        resizes=[H],
        cropsizes=[[20, 60]],
        prob=1.0,
        thresholds=[0.6],
        num_attempts=100,
        ioumode=ioumode,
        cover_all_box=cover_all_box,
    )
    overlaps = []
    for seed in range(60):
        image = change(sample_of(boxes), np.random.default_rng(seed))["image"]
        x1, y1, x2, y2 = window_of(image)
        if image.shape[:2] == (H, W):
            continue  # nothing found
        shared = [max(min(x2, b[2]) - max(x1, b[0]), 0) * max(min(y2, b[3]) - max(y1, b[1]), 0) for b in boxes]
        whole = [600 if ioumode == "iof" else 600 + (x2 - x1) * (y2 - y1) - one for one in shared]
        overlaps.append([one / of for one, of in zip(shared, whole)])
    assert len(overlaps) > 30
    least, most = np.array(overlaps).min(axis=1), np.array(overlaps).max(axis=1)
    assert (least if cover_all_box else most).min() >= 0.6
    assert cover_all_box or least.min() < 0.3


def test_not_to_crop_is_a_choice_only_if_allowed():
    options = {"resizes": [H], "cropsizes": [[20, 30]], "prob": 1.0, "thresholds": [0.0], "num_attempts": 200}
    for allow in (False, True):
        change = RandomResizeCrop(**options, allow_no_crop=allow)
        shapes = [
            change(sample_of([(0, 0, W, H)]), np.random.default_rng(seed))["image"].shape[:2] for seed in range(60)
        ]
        assert ((H, W) in shapes) == allow and any(shape != (H, W) for shape in shapes)


def test_the_probability():
    change = RandomResizeCrop(resizes=[30], cropsizes=[[20, 25]], prob=0.3)
    rng = np.random.default_rng(0)
    assert 60 < sum(change(sample_of([]), rng)["image"].shape[0] == 30 for _ in range(300)) < 120


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomSizeCrop(min_size=0, max_size=4), "RandomSizeCrop.min_size"),
        (lambda: RandomSizeCrop(min_size=5, max_size=4), "RandomSizeCrop.max_size is 4; it must be at least 5"),
        (lambda: RandomResizeCrop(resizes=[], cropsizes=[9]), r"RandomResizeCrop.resizes is \[\]"),
        (lambda: RandomResizeCrop(resizes=[9], cropsizes=[[9, 0]]), "RandomResizeCrop.cropsizes"),
        (lambda: RandomResizeCrop(resizes=[9], cropsizes=[9], prob=2), "RandomResizeCrop.prob"),
        (lambda: RandomResizeCrop(resizes=[9], cropsizes=[9], mode="both"), "RandomResizeCrop.mode"),
        (lambda: RandomResizeCrop(resizes=[9], cropsizes=[9], ioumode="giou"), "RandomResizeCrop.ioumode"),
        (lambda: RandomResizeCrop(resizes=[9], cropsizes=[9], num_attempts=0), "RandomResizeCrop.num_attempts"),
        (lambda: RandomResizeCrop(resizes=[9], cropsizes=[9], thresholds=[3]), "RandomResizeCrop.thresholds.0"),
        (lambda: RandomResizeCrop(resizes=[9], cropsizes=[9], is_mask_crop=True), "there are no masks to crop here"),
    ],
)
def test_wrong_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_largest_of_random_crops():
    """For an estimate of memory, every window is the largest; images without a window stay whole."""
    crop, rng = RandomSizeCrop(min_size=10, max_size=50), np.random.default_rng(0)
    assert crop.keep_largest() and not RandomSizeCrop(min_size=50, max_size=50).keep_largest()
    assert {crop(sample_of([]), rng)["image"].shape for _ in range(20)} == {(50, 50, 3)}
    resized = RandomResizeCrop(resizes=[[30, 40], [80, 120]], cropsizes=[[10, 30]], prob=0.1, thresholds=[0])
    assert resized.keep_largest()
    assert {resized(sample_of([[10, 10, 50, 50]]), rng)["image"].shape for _ in range(20)} == {(80, 120, 3)}
    assert not RandomResizeCrop(resizes=[40], cropsizes=[[10, 30]], prob=0).keep_largest()
