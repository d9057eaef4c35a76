"""Windows that cover an image, and merging of their detections, compared with plain loops."""

import argparse

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdet.deploy.engine_options import add_slice_arguments
from ppdet.deploy.slicing import Slicing, WindowMerger, detect_windows, overlaps, slicing_of
from ppdet.utils.errors import DeployError

sides = st.integers(1, 400)
shares = st.floats(0, 0.95)


def starts_by_stepping(length, side, share):
    """Windows along one side as a person would lay them."""
    starts, end = [], 0
    start = 0
    while end < length:
        end = min(start + side, length)
        starts.append(max(0, end - side))
        start = end - int(share * side)
    return starts


@settings(max_examples=300, deadline=None)
@given(sides, sides, st.integers(5, 300), st.integers(5, 300), shares, shares)
def test_windows_have_one_size_and_cover_every_pixel(height, width, h, w, share_h, share_w):
    slicing = Slicing((h, w), (share_h, share_w))
    windows = slicing.windows(height, width)
    assert slicing.count(height, width) == len(windows)
    covered = np.zeros((height, width), bool)
    for x1, y1, x2, y2 in windows.tolist():
        assert (y2 - y1, x2 - x1) == (min(h, height), min(w, width))
        assert min(x1, y1) >= 0 and x2 <= width and y2 <= height
        covered[y1:y2, x1:x2] = True
    assert covered.all()
    tops, lefts = starts_by_stepping(height, h, share_h), starts_by_stepping(width, w, share_w)
    assert windows[:, :2].tolist() == [[x, y] for y in tops for x in lefts]


def test_windows_of_a_known_case():
    # 1000 pixels, windows of 400, 100 in common: 0, 300, 600; the second row is moved up to end with the image.
    assert Slicing((400, 400), (0.25, 0.25)).windows(700, 1000)[:, :2].tolist() == [
        *([0, 0], [300, 0], [600, 0]),
        *([0, 300], [300, 300], [600, 300]),
    ]
    assert Slicing((400, 400), (0.0, 0.0)).windows(500, 300).tolist() == [[0, 0, 300, 400], [0, 100, 300, 500]]
    assert Slicing().windows(640, 640).tolist() == [[0, 0, 640, 640]]


def plain_overlap(a, b, metric):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    whole = min(areas) if metric == "ios" else sum(areas) - common
    return common / whole if whole > 0 else 0.0


def plain_merge(rows, combine, threshold, metric):
    """One box after the other, the best first, by the words of the documentation."""
    waiting, merged = sorted(rows, key=lambda row: (row[0], -row[1], *row[2:])), []
    while waiting:
        label, score, *box = waiting.pop(0)
        matches = [row for row in waiting if row[0] == label and plain_overlap(box, row[2:], metric) >= threshold]
        if combine != "concat":
            waiting = [row for row in waiting if row not in matches]
        for _, _, *other in matches if combine == "nmm" else ():
            if plain_overlap(box, other, metric) >= threshold:
                box = [min(box[0], other[0]), min(box[1], other[1]), max(box[2], other[2]), max(box[3], other[3])]
        merged.append([label, score, *box])
    return merged


# Whole numbers make many boxes equal, without area, or exactly at the threshold.
row = st.tuples(
    *(st.integers(0, 2), st.sampled_from([0.1, 0.25, 0.5, 0.9])),
    *(st.integers(0, 12), st.integers(0, 12), st.integers(0, 8), st.integers(0, 8)),
).map(lambda r: (r[0], r[1], r[2], r[3], r[2] + r[4], r[3] + r[5]))


@settings(max_examples=400, deadline=None)
@given(
    st.lists(row, unique=True, max_size=30),
    st.sampled_from(["nms", "nmm", "concat"]),
    st.sampled_from([0.25, 0.5, 0.6, 1.0]),
    st.sampled_from(["iou", "ios"]),
    st.randoms(use_true_random=False),
)
def test_merging_is_that_of_plain_loops_in_any_order(rows, combine, threshold, metric, random):
    slicing = Slicing(combine=combine, match_threshold=threshold, match_metric=metric)
    expected = np.array(plain_merge(rows, combine, threshold, metric)).reshape(-1, 6)
    np.testing.assert_array_equal(slicing.merge(np.array(rows, float).reshape(-1, 6)), expected)
    random.shuffle(rows)
    np.testing.assert_array_equal(slicing.merge(np.array(rows, float).reshape(-1, 6)), expected)


def test_thousands_of_boxes_are_merged_as_by_plain_loops():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 1000, (2000, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 60, (2000, 2))], axis=1)
    rows = np.column_stack([rng.integers(0, 5, 2000), rng.uniform(0, 1, 2000), boxes]).astype(np.float32)
    for combine in ("nms", "nmm"):
        merged = Slicing(combine=combine).merge(rows)
        assert merged.dtype == np.float32
        np.testing.assert_allclose(merged, plain_merge(rows.tolist(), combine, 0.6, "ios"), rtol=1e-6)


def test_methods_on_an_object_that_a_border_cuts():
    whole, part, other_class = [0, 0.9, 10, 10, 50, 30], [0, 0.8, 30, 8, 50, 30], [1, 0.7, 30, 8, 50, 30]
    rows = np.array([part, whole, other_class], np.float32)
    assert np.allclose(Slicing().merge(rows), [whole, other_class])
    assert np.allclose(Slicing(combine="nmm").merge(rows), [[0, 0.9, 10, 8, 50, 30], other_class])
    assert np.allclose(Slicing(combine="concat").merge(rows), [whole, part, other_class])
    # The part covers 20 * 20 of the whole's 800, of its own 440: too little of their union, 840.
    assert np.allclose(overlaps(rows[1, 2:], rows[:1, 2:], "ios"), 400 / 440)
    assert np.allclose(overlaps(rows[1, 2:], rows[:1, 2:], "iou"), 400 / 840)
    assert np.allclose(Slicing(match_metric="iou").merge(rows), [whole, part, other_class])


def test_rows_that_are_not_numbers_match_nothing_and_stay():
    rows = np.array([[0, 0.9, 0, 0, 9, 9], [0, 0.8, np.nan, 0, 9, 9], [0, 0.7, 0, 0, np.inf, 9], [0, 0.6, 1, 1, 9, 9]])
    for combine in ("nms", "nmm"):
        slicing = Slicing(combine=combine, match_metric="iou")
        np.testing.assert_array_equal(slicing.merge(rows), rows[:3])


def test_windows_of_several_images_in_common_batches():
    """A detector that finds one box in each window, at (1, 2) to (3, 4), and calls it by the number it is given."""
    windows = [
        ("a", np.array([0, 0, 10, 10]), 1, 0.5),
        ("a", np.array([20, 30, 30, 40]), 0, 0.25),
        ("b", np.array([5, 5, 6, 6]), 0, 0.75),
        ("c", np.array([0, 0, 10, 10]), 2, 0.5),
        ("c", np.array([0, 0, 10, 10]), 1, 1.0),
        ("c", np.array([0, 0, 10, 10]), 0, 0.5),
    ]
    sizes = []

    def run(scores):
        sizes.append(len(scores))
        return [np.array([[0, score, 1, 2, 3, 4]], np.float32) for score in scores]

    found = [(key, rows.tolist()) for key, rows in detect_windows(run, windows, 4, Slicing())]
    assert sizes == [4, 2]
    assert found == [
        ("a", [[0, 0.5, 1, 2, 3, 4], [0, 0.25, 21, 32, 23, 34]]),
        ("b", [[0, 0.75, 6, 7, 8, 9]]),
        ("c", [[0, 1, 1, 2, 3, 4]]),
    ]


def test_the_only_window_keeps_its_detections_as_they_are():
    rows = np.array([[1, 0.5, 0, 0, 9, 9], [0, 0.9, 0, 0, 9, 9], [0, 0.8, 1, 1, 9, 9]], np.float32)
    ((_, found),) = WindowMerger(Slicing()).add([7], [np.zeros(4, int)], [0], [rows])
    np.testing.assert_array_equal(found, rows)
    ((_, empty),) = WindowMerger(Slicing()).add([7, 7], [np.zeros(4, int)] * 2, [1, 0], [rows[:0]] * 2)
    assert empty.shape == (0, 6)


def parse(*arguments):
    parser = argparse.ArgumentParser()
    add_slice_arguments(parser)
    return slicing_of(parser.parse_args(arguments))


def test_options():
    assert parse() is None
    assert parse("--slice_infer") == Slicing()
    given = "--slice_infer --slice_size 300 400 --overlap_ratio 0 0.5 --combine_method nmm --match_threshold 0.3"
    assert parse(*given.split(), "--match_metric", "iou") == Slicing((300, 400), (0.0, 0.5), "nmm", 0.3, "iou")
    parser = argparse.ArgumentParser()
    add_slice_arguments(parser)
    text = " ".join(parser.format_help().split())
    for default in ("640 640", "0.25 0.25", Slicing.combine, Slicing.match_threshold, Slicing.match_metric):
        assert f"(default: {default})" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--slice_size 640 640", "--slice_size has no effect without --slice_infer"),
        ("--match_metric iou", "--match_metric has no effect without --slice_infer"),
        ("--slice_infer --slice_size 0 640", r"--slice_size .* is \(0, 640\), expected two whole numbers"),
        ("--slice_infer --overlap_ratio 0.2 1", r"--overlap_ratio .* is \(0.2, 1.0\), expected two numbers from 0"),
        ("--slice_infer --overlap_ratio nan 0", "--overlap_ratio"),
        ("--slice_infer --combine_method wbf", "--combine_method .* is 'wbf', expected one of nms, nmm, concat"),
        ("--slice_infer --match_threshold 0", "--match_threshold .* above 0"),
        ("--slice_infer --match_threshold 1.5", "--match_threshold .* at most 1"),
        ("--slice_infer --match_metric giou", "--match_metric .* expected one of iou, ios"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(DeployError, match=message):
        parse(*arguments.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 640}, "--slice_size .* two numbers, for height and width"),
        ({"size": (640, 640, 3)}, "--slice_size .* two numbers"),
        ({"size": (640.5, 640)}, "--slice_size .* two whole numbers"),
        ({"overlap": ("0.2", 0)}, "--overlap_ratio .* two numbers"),
        ({"overlap": None}, "--overlap_ratio .* two numbers"),
        ({"match_threshold": None}, "--match_threshold .* a number"),
        ({"combine": ["nms"]}, "--combine_method .* one of nms"),
    ],
)
def test_values_of_other_types(options, message):
    with pytest.raises(DeployError, match=message):
        Slicing(**options)
