"""Samples for tests of transforms: noise, and boxes that are found again by their color."""

import numpy as np

BOXES = [(4, 6, 30, 20), (40, 10, 60, 44), (16, 28, 24, 36)]


def sample_of(h, w):
    """Noise of h x w pixels with one box around all of it."""
    image = np.random.default_rng(h * w).integers(0, 256, (h, w, 3), dtype=np.uint8)
    boxes = np.array([[0, 0, w, h]], np.float32)
    return {"image": image, "gt_bbox": boxes, "gt_class": np.zeros((1, 1), np.int32), "im_shape": np.float32([h, w])}


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
