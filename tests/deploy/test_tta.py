"""Merging the detections in views of an image: against formulas, plain loops, and another implementation."""

import argparse

import numpy as np
import paddle
import pytest

from ppdet.data.loading.views import View
from ppdet.deploy.engine_options import add_slice_arguments, add_tta_arguments
from ppdet.deploy.tta import TTA, Suppression, ViewMerger, tta_of, unflip
from ppdet.modeling.nms import MultiClassNMS
from ppdet.modeling.soft_nms import SoftNMS
from ppdet.utils.errors import DeployError

FLIPPED = TTA((1.0,), merge="nms")
ALL = Suppression(0.0, 0.5, -1)
# Rows of three views, and what weighted_boxes_fusion and nms of ensemble-boxes 1.0.9, the paper's code, make of them.
FOUND = [
    [
        *([1, 0.94, 6.5, 49.3, 26.2, 78.8], [0, 0.88, 9.2, 9.3, 38.6, 41.0], [0, 0.83, 28.5, 18.1, 63.5, 61.1]),
        *([1, 0.59, 69.9, 10.1, 92.0, 28.6], [1, 0.18, 3.6, 37.3, 51.5, 73.4]),
    ],
    [
        *([1, 0.87, 18.0, 52.3, 26.4, 78.2], [1, 0.85, 70.2, 12.1, 91.4, 32.6], [0, 0.46, 10.4, 9.1, 37.6, 47.2]),
        *([0, 0.3, 32.7, 18.2, 61.7, 60.3], [1, 0.29, 15.0, 30.4, 32.3, 65.3]),
    ],
    [
        *([1, 0.87, 68.6, 7.7, 99.8, 32.1], [0, 0.69, 10.6, 10.6, 40.4, 40.4], [0, 0.56, 32.7, 23.4, 58.0, 57.6]),
        [0, 0.1, 14.5, 15.4, 57.0, 74.2],
    ],
]
FUSED = [
    [0, 0.67667, 9.948, 9.697, 38.985, 42.201],
    [0, 0.56333, 30.637, 19.874, 61.358, 59.798],
    [0, 0.03333, 14.5, 15.4, 57.0, 74.2],
    [1, 0.48, 70.077, 11.281, 91.646, 30.961],
    [1, 0.31333, 6.5, 49.3, 26.2, 78.8],
    [1, 0.29, 18.0, 52.3, 26.4, 78.2],
    [1, 0.29, 68.6, 7.7, 99.8, 32.1],
    [1, 0.09667, 15.0, 30.4, 32.3, 65.3],
    [1, 0.06, 3.6, 37.3, 51.5, 73.4],
]
FUSED_AT_0_4 = [*FUSED[:3], [1, 0.77, 69.521, 9.932, 94.717, 31.39], FUSED[4], FUSED[5], *FUSED[7:]]
HIGHEST = [0.88, 0.83, 0.1, 0.85, 0.94, 0.87, 0.87, 0.29, 0.18]  # score of the boxes that each was fused from
HIGHEST_AT_0_4 = [0.88, 0.83, 0.1, 0.87, 0.94, 0.87, 0.29, 0.18]
SUPPRESSED = [
    *([0, 0.88, 9.2, 9.3, 38.6, 41.0], [0, 0.83, 28.5, 18.1, 63.5, 61.1], [0, 0.1, 14.5, 15.4, 57.0, 74.2]),
    *([1, 0.94, 6.5, 49.3, 26.2, 78.8], [1, 0.87, 18.0, 52.3, 26.4, 78.2], [1, 0.87, 68.6, 7.7, 99.8, 32.1]),
    *([1, 0.29, 15.0, 30.4, 32.3, 65.3], [1, 0.18, 3.6, 37.3, 51.5, 73.4]),
]


def found():
    return [np.array(rows, np.float32) for rows in FOUND]


@pytest.mark.parametrize(
    ("tta", "expected", "highest"),
    [
        (TTA(merge="weighted", iou=0.55), FUSED, HIGHEST),
        (TTA(merge="weighted", iou=0.4), FUSED_AT_0_4, HIGHEST_AT_0_4),
        (TTA(merge="nms"), SUPPRESSED, None),
    ],
)
def test_as_the_code_of_the_paper(tta, expected, highest):
    """But for the score of a fused box, which is the geometric mean of the paper's and the highest."""
    expected = np.array(expected)
    if highest:
        expected[:, 1] = np.sqrt(expected[:, 1] * highest)
    merged = tta.merge_views(found(), ALL)
    assert merged.dtype == np.float32
    np.testing.assert_allclose(merged, expected, atol=6e-4)
    np.testing.assert_array_equal(tta.merge_views(found()[::-1], ALL), merged)  # views have no order


def test_fusion_by_hand():
    """The boxes share 8 of 12 columns: IoU 8/12. A third view has nothing, and the fourth box is of another class."""
    parts = [
        np.array([[0, 0.9, 0, 0, 10, 10], [1, 0.6, 0, 0, 10, 10]]),
        np.array([[0, 0.3, 2, 0, 12, 10]]),
        np.zeros((0, 6)),
    ]
    x1, x2 = (0.9 * 0 + 0.3 * 2) / 1.2, (0.9 * 10 + 0.3 * 12) / 1.2
    papers = (0.9 + 0.3) / 2 * 2 / 3
    expected = [[0, (0.9 * papers) ** 0.5, x1, 0, x2, 10], [1, 0.6 * (1 / 3) ** 0.5, 0, 0, 10, 10]]
    np.testing.assert_allclose(TTA(merge="weighted").merge_views(parts, ALL), expected)
    np.testing.assert_allclose(
        TTA(merge="weighted", iou=0.7).merge_views(parts, ALL),
        np.array([[0, 0.9, 0, 0, 10, 10], [0, 0.3, 2, 0, 12, 10], [1, 0.6, 0, 0, 10, 10]]) * [1, 3**-0.5, 1, 1, 1, 1],
    )


def test_more_boxes_than_views_do_not_make_it_more_certain():
    """min(T, N) / N is 1 where one view has two boxes of the same object."""
    parts = [np.array([[0, 0.9, 0, 0, 10, 10], [0, 0.3, 0, 0, 10, 10]]), np.array([[0, 0.6, 0, 0, 10, 10]])]
    np.testing.assert_allclose(TTA(merge="weighted").merge_views(parts, ALL), [[0, (0.9 * 0.6) ** 0.5, 0, 0, 10, 10]])


@pytest.mark.parametrize("views", [1, 2, 6, 12])
def test_a_score_on_which_all_views_agree_stays(views):
    """And no score leaves the range from what one view alone is worth to the highest of all."""
    rng = np.random.default_rng(views)
    agreed = [np.array([[0, 0.7, 1, 2, 30, 40]], np.float32)] * views
    np.testing.assert_allclose(TTA().merge_views(agreed, ALL), agreed[0], rtol=1e-6)
    scores = rng.uniform(0.05, 1, views)
    ((_, score, *_),) = TTA().merge_views([np.array([[0, one, 1, 2, 30, 40]]) for one in scores], ALL)
    assert scores.max() / views**0.5 <= score <= scores.max() + 1e-9


def test_limits_of_the_model_hold_after_merging():
    """A score that falls to the threshold is dropped, and the best boxes of all classes are kept."""
    parts = [np.array([[1, 0.8, 0, 0, 9, 9], [0, 0.6, 20, 0, 29, 9], [0, 0.5, 40, 0, 49, 9]]), np.zeros((0, 6))]
    fused = TTA(merge="weighted")
    first, second = [0, 0.6 * 0.5**0.5], [1, 0.8 * 0.5**0.5]  # each in one view of two
    for nms, expected in (
        (Suppression(0.36, 0.5, -1), [first, second]),
        (Suppression(0.0, 0.5, 2), [first, second]),
        (Suppression(0.0, 0.5, 1), [second]),
    ):
        np.testing.assert_allclose(fused.merge_views(parts, nms)[:, :2], expected)
    assert FLIPPED.merge_views(parts, Suppression(0.55, 0.5, 5))[:, :2].tolist() == [[0, 0.6], [1, 0.8]]


@pytest.mark.parametrize("merge", ["nms", "weighted"])
def test_no_detections_and_no_numbers(merge):
    empty = np.zeros((0, 6), np.float32)
    assert TTA(merge=merge).merge_views([empty, empty], ALL).shape == (0, 6)
    rows = np.array([[0, 0.9, np.nan, 0, 9, 9], [0, 0.8, 0, 0, np.inf, 9], [0, 0.7, 0, 0, 9, 9]], np.float32)
    with np.errstate(all="raise"):
        assert len(TTA(merge=merge).merge_views([rows, empty], ALL)) == 3


def plain_nms(rows, threshold):
    """NMS by its definition, one pair of boxes after the other."""
    kept = []
    for label, score, *box in sorted(rows, key=lambda row: (row[0], -row[1], *row[2:])):
        for other, _, *better in kept:
            width, height = (
                min(box[2], better[2]) - max(box[0], better[0]),
                min(box[3], better[3]) - max(box[1], better[1]),
            )
            common = max(width, 0) * max(height, 0)
            whole = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (box, better)) - common
            if label == other and whole > 0 and common / whole > threshold:
                break
        else:
            kept.append([label, score, *box])
    return kept


@pytest.mark.parametrize("threshold", [0.25, 0.5, 0.6])
def test_nms_over_all_views_is_that_of_plain_loops(threshold):
    """Whole numbers make many boxes equal, without area, or exactly at the threshold."""
    rng = np.random.default_rng(int(100 * threshold))
    for count in range(40):
        corner = rng.integers(0, 12, (count, 2))
        boxes = [corner, corner + rng.integers(0, 8, (count, 2))]
        rows = np.column_stack([rng.integers(0, 3, count), rng.integers(1, 5, count) / 8, *boxes]).astype(float)
        expected = np.array(plain_nms(rows.tolist(), threshold), float).reshape(-1, 6)
        parts = np.split(rows, [count // 3])
        np.testing.assert_array_equal(FLIPPED.merge_views(parts, Suppression(0, threshold, -1)), expected)
        np.testing.assert_array_equal(TTA(merge="nms", iou=threshold).merge_views(parts, ALL), expected)


@pytest.mark.parametrize("method", ["gaussian", "linear"])
def test_a_model_with_soft_nms_is_merged_by_it(method):
    """IoU 0.5 and 0.2 with the best box; the other implementation is that of the detector."""
    nms = SoftNMS(method=method, sigma=0.4, nms_threshold=0.3, score_threshold=0.0)
    own = Suppression.of(nms)
    assert own == Suppression(0.0, 0.3, 100, method, 0.4) == Suppression.of_export({"nms": own.described()})
    one, other = np.array([[0, 0.9, 0, 0, 12, 10]]), np.array([[0, 0.8, 4, 0, 16, 10], [0, 0.6, 8, 0, 20, 10]])
    factors = [np.exp(-(0.5**2) / 0.4), np.exp(-(0.2**2) / 0.4)] if method == "gaussian" else [0.5, 1.0]
    # The third box is taken before the second one, which overlaps it as much as it overlaps the first.
    expected = [[0, 0.9, 0], [0, 0.6 * factors[1], 8], [0, 0.8 * factors[0] * factors[0], 4]]
    merged = TTA(merge="nms").merge_views([one, other], own)
    np.testing.assert_allclose(merged[:, :3], expected)
    assert len(TTA(merge="nms", iou=0.4).merge_views([one, other], own)) == 2  # plain NMS drops the second box
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 30, (25, 2))
    boxes = np.column_stack([corner, corner + rng.uniform(5, 20, (25, 2))]).astype(np.float32)
    scores = rng.uniform(0.1, 1, 25).astype(np.float32)
    rows, _ = nms(paddle.to_tensor(boxes[None]), paddle.to_tensor(scores[None, None]))
    found = np.column_stack([np.zeros(25), scores, boxes]).astype(np.float32)
    np.testing.assert_allclose(TTA(merge="nms").merge_views(np.split(found, [9]), own), rows.numpy(), rtol=1e-4)


def test_another_kind_of_nms_may_have_a_method():
    class Own(MultiClassNMS):
        method = "matrix"

    assert Suppression.of(Own(nms_threshold=0.7)) == Suppression(0.025, 0.7, 100)


def test_boxes_that_soft_nms_left_on_one_object_do_not_make_it_less_certain():
    """In each view, a second box has an IoU of 8/12 with the first one, and a third box one of 5/15."""
    view = np.array([[0, 0.9, 0, 0, 10, 10], [0, 0.3, 2, 0, 12, 10], [0, 0.2, 5, 0, 15, 10], [1, 0.1, 0, 0, 9, 9]])
    parts = [view, view[::-1], np.zeros((0, 6))]
    soft = Suppression(0.0, 0.3, -1, "gaussian", 0.5)
    share = (2 / 3) ** 0.5  # of the views
    expected = [[0, 0.9 * share, 0, 0, 10, 10], [0, 0.2 * share, 5, 0, 15, 10], [1, 0.1 * share, 0, 0, 9, 9]]
    np.testing.assert_allclose(TTA(merge="weighted").merge_views(parts, soft), expected)
    assert len(TTA(merge="weighted", iou=0.7).merge_views(parts, soft)) == 4


def test_boxes_are_flipped_back():
    box = np.array([[3, 0.5, 10, 20, 15, 40]], np.float32)
    size = (100, 60)  # height and width
    assert unflip(box, View(2.0), size).tolist() == box.tolist()
    assert unflip(box, View(1.0, True, False), size).tolist() == [[3, 0.5, 45, 20, 50, 40]]
    assert unflip(box, View(1.0, False, True), size).tolist() == [[3, 0.5, 10, 60, 15, 80]]
    assert unflip(box, View(1.0, True, True), size).tolist() == [[3, 0.5, 45, 60, 50, 80]]


def test_views():
    assert FLIPPED.views == [(1, False, False), (1, True, False)]
    assert TTA(scales=(1, 2), flip="none").views == [(1, False, False), (2, False, False)]
    assert TTA((1,), "vertical").views == [(1, False, False), (1, False, True)]
    assert TTA((1,), "both").views == [(1, False, False), (1, False, True), (1, True, False), (1, True, True)]
    assert str(TTA(scales=[0.8, 1], merge="weighted")) == "4 views, scales 0.8 1, flip horizontal, merged by weighted"
    assert str(TTA((1,), iou=0.55)) == "2 views, scales 1, flip horizontal, merged by weighted from IoU 0.55"


def test_views_of_several_images_are_put_together():
    """Images a and b of different width, first their views as they are, then the flipped ones; then c alone."""
    merger = ViewMerger(FLIPPED, Suppression(0, 0.5, 10))
    box = np.array([[0, 0.5, 0, 0, 10, 10]])
    sizes = {"a": (50, 100), "b": (50, 200), "c": (50, 60)}
    assert merger.add(["a", "b"], [1, 1], sizes, [box, box]) == []
    found = merger.add(["a", "b", "c"], [0, 0, 1], sizes, [box, box, box])
    assert [(key, rows[:, [2, 4]].tolist()) for key, rows in found] == [
        ("a", [[0, 10], [90, 100]]),
        ("b", [[0, 10], [190, 200]]),
    ]
    ((key, rows),) = merger.add(["c"], [0], sizes, [box - [0, 0.25, 0, 0, 0, 0]])
    assert key == "c" and rows.tolist() == [[0, 0.5, 0, 0, 10, 10], [0, 0.25, 50, 0, 60, 10]]


def parse(*arguments):
    parser = argparse.ArgumentParser()
    add_slice_arguments(parser)
    add_tta_arguments(parser)
    return tta_of(parser.parse_args(arguments))


def test_options():
    assert parse() is None
    assert parse("--tta") == TTA()
    given = "--tta --tta_scales 0.8 1 1.25 --tta_flip both --tta_merge weighted --tta_iou 0.6"
    assert parse(*given.split()) == TTA((0.8, 1.0, 1.25), "both", "weighted", 0.6)
    parser = argparse.ArgumentParser()
    add_tta_arguments(parser)
    text = " ".join(parser.format_help().split())
    for default in (" ".join(f"{scale:g}" for scale in TTA.scales), TTA.flip, TTA.merge):
        assert f"(default: {default})" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--tta_scales 1", "--tta_scales has no effect without --tta"),
        ("--tta_iou 0.5", "--tta_iou has no effect without --tta"),
        ("--tta --slice_infer", "leave --slice_infer out"),
        ("--tta --tta_scales 0", r"--tta_scales .* is \[0.0\], expected numbers from 0.1 to 10"),
        ("--tta --tta_scales 1 nan", "--tta_scales .* expected numbers from 0.1 to 10"),
        ("--tta --tta_scales 1 1", "--tta_scales .* expected 1 to 20 different numbers"),
        ("--tta --tta_flip left", "--tta_flip .* is 'left', expected one of none, horizontal, vertical, both"),
        ("--tta --tta_merge wbf", "--tta_merge .* is 'wbf', expected one of weighted, nms"),
        ("--tta --tta_iou 1", "--tta_iou .* above 0 and below 1"),
        ("--tta --tta_iou nan", "--tta_iou .* above 0 and below 1"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(DeployError, match=message):
        parse(*arguments.split())


@pytest.mark.parametrize("scales", [1.0, "1", (), ("1",), (True,), (None,)])
def test_scales_of_other_types(scales):
    with pytest.raises(DeployError, match="--tta_scales"):
        TTA(scales=scales)


@pytest.mark.parametrize(
    ("nms", "message"),
    [
        ({"nms_threshold": 2}, "nms_threshold 2"),
        ({"keep_top_k": 1.5}, "keep_top_k 1.5"),
        ({"score_threshold": "0.1"}, "score_threshold '0.1'"),
        ({"sigma": 0}, "sigma 0"),
        ({"method": "hard"}, "method 'hard'"),
        ({"speed": 1}, "speed 1"),
        ([1], r"nms \[1\]"),
    ],
)
def test_settings_of_an_export(nms, message):
    assert Suppression.of_export({}) == Suppression() == Suppression.of_export({"nms": None})
    assert Suppression.of_export({"nms": {"nms_threshold": 0.7, "keep_top_k": -1}}) == Suppression(0.0, 0.7, -1)
    with pytest.raises(DeployError, match=f"infer_cfg.yml: nms has {message}"):
        Suppression.of_export({"nms": nms})
