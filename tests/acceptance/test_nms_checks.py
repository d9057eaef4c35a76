"""Checks of NMS pass if it is right, and fail if it is not."""

import numpy as np
import paddle
import pytest
from broken import change, run

from ppdet.acceptance.checks.nms_checks import numpy_nms, random_scene
from ppdet.modeling.nms import MultiClassNMS


@pytest.mark.parametrize("count", [1, 5, 143])
def test_the_checks_pass(count, context):
    result = run(f"nms/boxes_{count}", context)
    assert result.status == "pass", result
    assert 2 <= result.numbers["rows"] <= 2 * 100
    assert count / 3 < result.numbers["rows_of_one_class"] <= 2 * count


def test_suppression_in_numpy_by_hand():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 7], [0, 0, 10, 5], [20, 0, 30, 10]], np.float32)
    scores = np.array([[0.5, 0.9, 0.4, 0.02], [0.1, 0.0, 0.0, 0.8]], np.float32)
    # IoU of the first two is 0.7, of the second and the third 5/7, of the first and the third 0.5.
    rows = numpy_nms(boxes, scores, top_k=4, keep=4)
    assert rows[:, :2].round(6).tolist() == [[0, 0.9], [1, 0.8], [1, 0.1]]
    rows = numpy_nms(boxes, scores, top_k=1, keep=1)
    assert rows.round(6).tolist() == [[0, 0.9, 0, 0, 10, 7]]


def test_the_scenes_have_what_suppression_is_about():
    boxes, scores = random_scene(0, 999)
    kept = sum(len(numpy_nms(boxes[0], scores[0, c : c + 1], top_k=1000, keep=10**6)) for c in range(4))
    entered = int((scores[0] > 0.025).sum())
    assert 0.3 * entered < kept < 0.9 * entered
    assert len(np.unique(scores[scores > 0])) == (scores > 0).sum()


@pytest.mark.parametrize(
    ("attribute", "factor", "count"),
    [("nms_threshold", 0.99, 143), ("score_threshold", 0.5, 143), ("nms_top_k", 0.9, 1001)],
)
def test_a_parameter_that_is_a_little_off_is_found(attribute, factor, count, context, monkeypatch):
    def wrap(right):
        def wrong(self, *arguments):
            setattr(self, attribute, type(getattr(self, attribute))(getattr(self, attribute) * factor))
            return right(self, *arguments)

        return wrong

    change(monkeypatch, MultiClassNMS, "__call__", wrap)
    result = run(f"nms/boxes_{count}", context)
    assert result.status == "fail" and "with NumPy" in result.detail, result


def test_boxes_that_are_a_little_off_are_found(context, monkeypatch):
    change(monkeypatch, MultiClassNMS, "__call__", lambda right: lambda self, b, *a: right(self, b * 1.0001, *a))
    assert "with NumPy" in run("nms/boxes_5", context).detail


def test_a_second_call_that_raises_is_found(context, monkeypatch):
    """CUDA raises the error of an empty launch at the next call."""
    found_nothing = []

    def wrap(right):
        def wrong(self, *arguments):
            if found_nothing:
                raise OSError("(External) CUDA error(9), invalid configuration argument.")
            rows, counts = right(self, *arguments)
            found_nothing.extend([] if rows.shape[0] else [True])
            return rows, counts

        return wrong

    change(monkeypatch, MultiClassNMS, "__call__", wrap)
    for name in ("nms/nothing", "nms/nothing_in_detector"):
        found_nothing.clear()
        result = run(name, context)
        assert result.status == "fail" and "CUDA error(9)" in result.detail, result


def test_rows_of_nothing_are_found(context, monkeypatch):
    """The kernel of XPUs returns one row without any candidate."""

    def wrap(right):
        def wrong(self, *arguments):
            rows, counts = right(self, *arguments)
            if not rows.shape[0]:
                return paddle.zeros([1, 6]), paddle.concat([counts[:-1], paddle.ones([1], "int32")])
            return rows, counts

        return wrong

    change(monkeypatch, MultiClassNMS, "__call__", wrap)
    assert "without a candidate gave 1 rows" in run("nms/nothing", context).detail
    assert "gave 1 rows" in run("nms/nothing_in_detector", context).detail


def test_nothing_passes_where_it_should(context):
    for name in ("nms/nothing", "nms/nothing_in_detector"):
        result = run(name, context)
        assert result.status == "pass", result
