"""Figures of pseudo-labels, against numbers by hand and a second implementation in loops."""

import math

import numpy as np
import pytest

from ppdet.metrics.pseudo_label_quality import Selected, measure
from ppdet.utils.boxes import pairwise_overlap


def selected(rows):
    """Selected from rows of image, level, label, score, x, y, x1, y1, x2, y2."""
    rows = np.asarray(rows, np.float64).reshape(-1, 10)
    image, level, label = rows[:, :3].astype(np.int64).T
    return Selected(image, level, label, rows[:, 3], rows[:, 4:6], rows[:, 6:])


def test_by_hand():
    rows = [
        (0, 0, 1, 0.8, 5, 5, 0, 0, 10, 20),  # correct; IoU with its true box 1/2
        (0, 1, 0, 0.6, 5, 5, 0, 0, 10, 10),  # inside a box of another class
        (1, 0, 1, 0.4, 5, 5, 0, 0, 10, 10),  # correct in the other image, but for a class that is not there: wrong
        (1, 0, 0, 0.2, 30, 30, 20, 20, 40, 40),  # correct, exact
    ]
    truth = [
        (np.array([[0, 0, 10, 10], [50, 50, 60, 60.0]]), np.array([1, 1])),
        (np.array([[20, 20, 40, 40.0]]), np.array([0])),
    ]
    figures = measure(selected(rows), truth)
    assert figures == pytest.approx(
        {"fg_sum": 2.0, "mean_score": 0.5, "precision": 0.5, "recall": 2 / 3, "box_iou": 0.75}
    )
    assert measure(selected(rows), None) == pytest.approx({"fg_sum": 2.0, "mean_score": 0.5})


def test_nothing_correct_and_images_without_boxes():
    none = (np.zeros((0, 4)), np.zeros(0, np.int64))
    figures = measure(selected([(0, 0, 0, 0.5, 1, 1, 0, 0, 2, 2)]), [none, none])
    assert figures["precision"] == 0 and math.isnan(figures["recall"]) and math.isnan(figures["box_iou"])


def test_against_loops():
    rng = np.random.default_rng(3)
    truth = []
    for count in (4, 0, 7):
        corner = rng.uniform(0, 60, (count, 2))
        truth.append((np.hstack([corner, corner + rng.uniform(5, 50, (count, 2))]), rng.integers(0, 3, count)))
    rows = []
    for _ in range(200):
        x, y = rng.uniform(0, 100, 2)
        left, top, right, bottom = rng.uniform(0, 30, 4)
        place = (rng.integers(3), 0, rng.integers(3), rng.uniform(), x, y)
        rows.append((*place, x - left, y - top, x + right, y + bottom))
    right, best, found = [], [], set()
    for image, _, label, _, x, y, *box in rows:
        hit, largest = False, 0.0
        for number, (true, kind) in enumerate(zip(*truth[image])):
            if kind != label:
                continue
            largest = max(largest, iou(box, true))
            if true[0] < x < true[2] and true[1] < y < true[3]:
                hit = True
                found.add((image, number))
        right.append(hit)
        best += [largest] if hit else []
    figures = measure(selected(rows), truth)
    assert 0.1 < figures["precision"] < 0.9 and 0.1 < figures["box_iou"] < 0.9
    assert figures["precision"] == pytest.approx(sum(right) / 200)
    assert figures["recall"] == pytest.approx(len(found) / 11)
    assert figures["box_iou"] == pytest.approx(sum(best) / len(best))


def iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (areas - width * height)


def test_boxes_without_area_overlap_nothing():
    point = np.array([[5, 5, 5, 5.0]])
    assert pairwise_overlap(point, np.array([[5, 5, 5, 5], [0, 0, 10, 10.0]])).tolist() == [[0, 0]]
