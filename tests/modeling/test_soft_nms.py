"""Soft-NMS against the pseudo-code of the paper (arXiv:1704.04503, figure 2), written as plain loops."""

import math

import numpy as np
import paddle
import pytest

from ppdet.modeling.nms import MultiClassNMS
from ppdet.modeling.soft_nms import SoftNMS

METHODS = {
    "gaussian": lambda overlap, sigma, threshold: math.exp(-(overlap**2) / sigma),
    "linear": lambda overlap, sigma, threshold: 1 - overlap if overlap >= threshold else 1.0,
}


def clustered(seed, count=60, classes=3):
    """Boxes (2, count, 4) in clusters, and scores (2, classes, count) of which most are low."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 200, (2, 1 + count // 6, 2)).repeat(6, axis=1)[:, :count] + rng.normal(0, 6, (2, count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 50, (2, count, 2))], axis=2).astype(np.float32)
    return boxes, (rng.uniform(0, 1, (2, classes, count)) ** 3).astype(np.float32)


def overlap_of(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def soft_nms(boxes, scores, score_threshold=0.001, keep_top_k=100, method="gaussian", sigma=0.5, nms_threshold=0.3):
    """Rows of one image, class by class, best first: B, S and D are the names of the paper."""
    rows = []
    for label, values in enumerate(scores.astype(np.float64)):
        B = [i for i in range(len(boxes)) if values[i] > score_threshold]
        S = {i: values[i] for i in B}
        D = []
        while B:
            m = max(B, key=S.get)
            D.append(m)
            B.remove(m)
            for i in B:
                S[i] *= METHODS[method](overlap_of(boxes[m], boxes[i]), sigma, nms_threshold)
        rows += [[label, S[i], *boxes[i]] for i in D if S[i] > score_threshold]
    rows = sorted(rows, key=lambda row: -row[1])[:keep_top_k]
    return np.array(sorted(rows, key=lambda row: (row[0], -row[1]))).reshape(-1, 6)


def found_by(nms, boxes, scores, *rest):
    rows, counts = nms(paddle.to_tensor(boxes), paddle.to_tensor(scores), *rest)
    return rows.numpy(), counts.tolist()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sigma": 0.1, "nms_threshold": 0.6},
        {"sigma": 2.0, "nms_threshold": 0.0},
        {"score_threshold": 0.3},
        {"score_threshold": 0.0},
        {"keep_top_k": 7},
        {"keep_top_k": 400},
    ],
)
def test_the_papers_pseudo_code(method, settings):
    for seed in range(2):
        boxes, scores = clustered(seed)
        rows, counts = found_by(SoftNMS(method=method, **settings), boxes, scores)
        expected = [soft_nms(*image, method=method, **settings) for image in zip(boxes, scores)]
        assert counts == [len(part) for part in expected]
        np.testing.assert_allclose(rows, np.concatenate(expected), rtol=2e-5, atol=1e-7)
        assert len(rows) > 4


# Of two boxes of 10 x 10 pixels, one lies 5 pixels to the right: they share 50 of 150 pixels. The third is apart.
THREE = np.array([[[0, 0, 10, 10], [5, 0, 15, 10], [40, 40, 50, 50]]], np.float32)


@pytest.mark.parametrize(
    ("settings", "second"),
    [
        ({"method": "gaussian"}, 0.8 * math.exp(-(1 / 9) / 0.5)),
        ({"method": "gaussian", "sigma": 0.25}, 0.8 * math.exp(-(1 / 9) / 0.25)),
        ({"method": "linear"}, 0.8 * (1 - 1 / 3)),
        ({"method": "linear", "nms_threshold": 0.34}, 0.8),
    ],
)
def test_scores_by_hand(settings, second):
    rows, _ = found_by(SoftNMS(**settings), THREE, np.array([[[0.9, 0.8, 0.7]]], np.float32))
    by_place = dict(zip(rows[:, 2], rows[:, 1]))
    assert by_place == pytest.approx({0: 0.9, 5: second, 40: 0.7})
    assert (np.diff(rows[:, 1]) < 0).all()


def test_other_classes_do_not_matter():
    scores = np.array([[[0.9, 0, 0], [0, 0.8, 0], [0, 0, 0.7]]], np.float32)
    rows, _ = found_by(SoftNMS(), THREE, scores)
    np.testing.assert_allclose(rows[:, :3], [[0, 0.9, 0], [1, 0.8, 5], [2, 0.7, 40]])


def test_a_score_that_falls_below_the_threshold_is_dropped():
    """The same box a second time has an IoU of 1: 0.8 x exp(-2) = 0.108."""
    boxes, scores = THREE[:, [0, 0, 2]], np.array([[[0.9, 0.8, 0.7]]], np.float32)
    for threshold, expected in ((0.108, [0.9, 0.7, 0.8 * math.exp(-2)]), (0.109, [0.9, 0.7])):
        rows, counts = found_by(SoftNMS(score_threshold=threshold), boxes, scores)
        assert rows[:, 1].tolist() == pytest.approx(expected) and counts == [len(expected)]


def test_the_best_candidates_of_all_classes_enter():
    boxes, scores = clustered(5)
    rows, _ = found_by(SoftNMS(nms_top_k=9), boxes, scores)
    limits = np.sort(scores.reshape(2, -1))[:, -10]
    entered = np.where(scores > limits[:, None, None], scores, 0)
    expected = [soft_nms(*image) for image in zip(boxes, entered)]
    np.testing.assert_allclose(rows, np.concatenate(expected), rtol=2e-5)


def test_overlap_is_that_of_the_boxes_with_their_offset():
    """One pixel more to the right and below: 6 x 11 of 2 x 121 - 66 pixels are shared."""
    offset = paddle.to_tensor(np.array([[0, 0, 1, 1]], np.float32))
    rows, _ = found_by(SoftNMS(), THREE[:, :2], np.array([[[0.9, 0.8]]], np.float32), offset)
    np.testing.assert_array_equal(rows[:, 2:], THREE[0, :2])
    assert rows[1, 1] == pytest.approx(0.8 * math.exp(-((66 / 176) ** 2) / 0.5))


def test_nothing_to_detect_and_empty_boxes():
    """A box without area overlaps nothing; a score that is no number is never above a threshold."""
    nothing = np.zeros((2, 3, 60), np.float32)
    rows, counts = found_by(SoftNMS(), clustered(0)[0], nothing)
    assert rows.shape == (0, 6) and counts == [0, 0]
    boxes = np.array([[[3, 3, 3, 3], [0, 0, 9, 9], [0, 0, 9, 9]]], np.float32)
    rows, counts = found_by(SoftNMS(), boxes, np.array([[[0.5, 0.4, np.nan]]], np.float32))
    np.testing.assert_allclose(rows[:, 1], [0.5, 0.4])


def test_without_overlap_it_is_nms():
    places = np.arange(150, dtype=np.float32)[:, None] * np.float32(20)
    boxes = np.concatenate([places, places, places + 10, places + 10], axis=1)[None]
    scores = np.linspace(0.9, 0.1, 150, dtype=np.float32)[None, None]
    expected, _ = found_by(MultiClassNMS(), boxes, scores)
    rows, _ = found_by(SoftNMS(), boxes, scores)
    np.testing.assert_array_equal(rows, expected)
