"""Random crops and borders: boxes are found again by the color of their pixels."""

import numpy as np
import pytest
from transform_samples import BOXES, assert_boxes_follow_pixels, marked_sample

from ppdet.data.transforms import RandomCrop, RandomExpand, RandomFlip, Resize


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
        (lambda: RandomCrop(scaling=[0.5, 1.5]), "scaling"),
        (lambda: RandomExpand(ratio=0.5), "above 1"),
    ],
)
def test_wrong_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()
