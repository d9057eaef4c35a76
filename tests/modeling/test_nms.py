"""Each setting of NMS against plain loops."""

import numpy as np
import paddle
import pytest

from ppdet.modeling.nms import MultiClassNMS


def random_case(seed, count=60, classes=3):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (2, count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 40, (2, count, 2))], axis=2).astype(np.float32)
    return boxes, rng.uniform(0, 1, (2, classes, count)).astype(np.float32)


def overlap(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def suppress(boxes, scores, score_threshold, nms_top_k, keep_top_k, nms_threshold):
    """Rows of one image: class by class, best first."""
    rows = []
    for label, values in enumerate(scores):
        order = [i for i in np.argsort(-values, kind="stable") if values[i] > score_threshold]
        kept = []
        for i in order[:nms_top_k] if nms_top_k > 0 else order:
            if all(overlap(boxes[i], boxes[k]) <= nms_threshold for k in kept):
                kept.append(i)
        rows += [[label, values[i], *boxes[i]] for i in kept]
    rows.sort(key=lambda row: -row[1])
    rows = rows[:keep_top_k] if keep_top_k > 0 else rows
    return np.array(sorted(rows, key=lambda row: (row[0], -row[1]))).reshape(-1, 6)


DEFAULTS = {"score_threshold": 0.025, "nms_top_k": 1000, "keep_top_k": 100, "nms_threshold": 0.6}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"nms_top_k": 7},
        {"nms_top_k": 1},
        {"nms_top_k": -1, "keep_top_k": -1},
        {"keep_top_k": 5},
        {"score_threshold": 0.5},
        {"score_threshold": 0.0},
        {"nms_threshold": 0.2},
        {"nms_threshold": 0.9},
        {"nms_top_k": 20, "keep_top_k": 12, "score_threshold": 0.3, "nms_threshold": 0.4},
    ],
)
def test_settings(settings):
    found = []
    for seed in range(2):
        boxes, scores = random_case(seed)
        rows, counts = MultiClassNMS(**settings)(paddle.to_tensor(boxes), paddle.to_tensor(scores))
        expected = [suppress(*image, **{**DEFAULTS, **settings}) for image in zip(boxes, scores)]
        assert counts.tolist() == [len(part) for part in expected]
        np.testing.assert_allclose(rows.numpy(), np.concatenate(expected), rtol=1e-6)
        found.append(len(rows))
    assert min(found) > 0


def test_defaults_cut_at_a_thousand_and_a_hundred():
    """Boxes apart from each other: nothing is suppressed, only cut."""
    places = np.arange(1200, dtype=np.float32)[:, None] * np.float32(20)
    boxes = np.concatenate([places, places, places + 10, places + 10], axis=1)[None]
    scores = np.linspace(0.9, 0.1, 1200, dtype=np.float32)[None, None]
    rows, _ = MultiClassNMS()(paddle.to_tensor(boxes), paddle.to_tensor(scores))
    np.testing.assert_allclose(rows.numpy()[:, 1], scores[0, 0, :100])
    rows, _ = MultiClassNMS(keep_top_k=-1)(paddle.to_tensor(boxes), paddle.to_tensor(scores))
    np.testing.assert_allclose(rows.numpy()[:, 1], scores[0, 0, :1000])


def test_thresholds_at_their_edges():
    """A box of a score at the threshold is dropped, and one of an IoU above the threshold, here 0.65."""
    boxes = np.array(
        [[[0, 0, 10, 10], [0, 0, 10, 5.9], [20, 0, 30, 10], [20, 0, 30, 6.5], [50, 50, 60, 60]]], np.float32
    )
    scores = np.array([[[0.9, 0.8, 0.9, 0.8, 0.025]]], np.float32)
    rows, counts = MultiClassNMS()(paddle.to_tensor(boxes), paddle.to_tensor(scores))
    np.testing.assert_array_equal(rows.numpy()[:, 1:], np.column_stack([scores[0, 0], boxes[0]])[[0, 2, 1]])
    assert counts.tolist() == [3]


def test_the_first_class_is_no_background():
    rows, counts = MultiClassNMS()(
        paddle.to_tensor(np.array([[[0, 0, 10, 10]]], np.float32)),
        paddle.to_tensor(np.array([[[0.5], [0.25]]], np.float32)),
    )
    assert rows.numpy().tolist() == [[0, 0.5, 0, 0, 10, 10], [1, 0.25, 0, 0, 10, 10]] and counts.tolist() == [2]
