"""Checks of a trained detector and of engines pass, and fail if the device detects something else.

The detector hardly learned anything, and its truth is what it finds on the CPU: see `broken.detecting_context`.
"""

import paddle
import pytest
from broken import change, detecting_context, on_device, run

from ppdet.acceptance import small_detector
from ppdet.acceptance.check_registry import CHECKS, SHARED
from ppdet.acceptance.context import Context
from ppdet.acceptance.device_facts import Facts
from ppdet.acceptance.outcomes import Failed
from ppdet.deploy.detector import Detector
from ppdet.engine.predictor import Predictor
from ppdet.modeling.heads.fcos_head import FCOSHead


@pytest.fixture(scope="module")
def detecting(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield detecting_context(patch, Facts("cpu"), tmp_path_factory.mktemp("detecting"))


def scaled(maps, wrong):
    """Return the maps, with distances that are 15 % too small if `wrong`."""
    return maps._replace(distances=[0.85 * d for d in maps.distances]) if wrong else maps


def smaller_boxes(right):
    """Make boxes on the device 15 % too small."""
    return lambda self, maps: scaled(right(self, maps), on_device())


def test_the_checks_pass(detecting, monkeypatch):
    """The checks list all objects that they share, so that the first of them gets more time."""
    asked = set()

    def noted(right):
        return lambda self, name, make: (asked.add(name), right(self, name, make))[1]

    for method in ("shared_folder", "shared_value"):
        change(monkeypatch, Context, method, noted)
    for name in ("detect/eval", "detect/infer", "detect/export", "engines/paddle_fp32"):
        asked.clear()
        result = run(name, detecting)
        assert result.status == "pass", result
        assert asked & set(SHARED) == set(CHECKS[name].uses) and asked
    assert result.detail.endswith("difference 0.00 (limit 0.1)") and result.numbers["ap_of_cpu"] > 60


@pytest.mark.parametrize("name", ["detect/eval", "detect/infer"])
def test_another_detector_on_the_device_is_found(detecting, monkeypatch, name):
    """The CPU is computed after the fault was made, and is right nevertheless."""
    (detecting.work / "reference_ap.json").unlink(missing_ok=True)
    change(monkeypatch, FCOSHead, "in_pixels", smaller_boxes)
    result = run(name, detecting)
    assert result.status == "fail" and result.traceback is None, result
    if name == "detect/eval":
        assert result.numbers["ap_of_cpu"] > 60 and 1 < result.numbers["ap"] < result.numbers["ap_of_cpu"] - 1, result


def test_a_second_run_that_finds_something_else_is_found(detecting, monkeypatch):
    """Only the second run on the device loses a detection in each image."""
    seen = []

    def wrap(right):
        def detect(self, paths):
            seen.append(on_device())
            wrong = seen.count(True) > 1
            yield from ((i, rows[1:] if wrong else rows) for i, rows in right(self, paths))

        return detect

    change(monkeypatch, Predictor, "detect", wrap)
    result = run("detect/infer", detecting)
    assert result.status == "fail" and result.detail.startswith("second time: 5 of 5 images"), result
    assert seen == [False, True, True]


def test_an_engine_that_finds_something_else_is_found(detecting, monkeypatch):
    def wrap(right):
        def detect(self, images, **options):
            for i, rows in right(self, images, **options):
                rows[:, 2:] *= 1.1
                yield i, rows

        return detect

    change(monkeypatch, Detector, "detect", wrap)
    result = run("engines/paddle_fp32", detecting)
    assert result.status == "fail" and result.detail.endswith(" (limit 0.1)"), result
    assert 1 < result.numbers["ap"] < result.numbers["ap_of_cpu"] - 1


def test_an_export_that_is_another_detector_is_found(detecting, monkeypatch):
    """The export compares its graph with the model, and the graph is wrong here."""

    def wrap(right):
        return lambda self, maps: scaled(right(self, maps), not paddle.in_dynamic_mode())

    (detecting.work / "exported.json").unlink(missing_ok=True)
    change(monkeypatch, FCOSHead, "in_pixels", wrap)
    result = run("detect/export", detecting)
    assert result.status == "fail" and "paddle, fp32" in result.detail, result


@pytest.mark.parametrize(
    ("amp", "limit"),
    [(("float16",), "limit 0.1"), (("bfloat16",), "limit 0.5"), (("float16", "bfloat16"), "limit 0.5")],
)
def test_what_mixed_precision_may_change(tmp_path, monkeypatch, amp, limit):
    """The limit is 0.1 points for float16, which has the precision of TF32, and 0.5 points for bfloat16."""
    from ppdet.acceptance.checks import detect_checks

    context = Context(Facts("gpu", amp=amp), quick=False, work=tmp_path)
    context.shared_value("reference_ap", lambda: 0.5)
    asked = []
    monkeypatch.setattr(detect_checks, "evaluate_trained", lambda context, *options: asked.append(options) or 0.5)
    assert run("detect/eval_amp", context).detail.endswith(f"({limit})") and asked == [("eval_amp=true",)]


def test_a_detector_that_learned_little_shows_nothing(tmp_path):
    """On a CPU, the detector of a full run has AP 56, that of a quick run AP 17."""
    for quick, low, high in ((False, 0.29, 0.31), (True, 0.04, 0.06)):
        context = Context(Facts("gpu"), quick=quick, work=tmp_path / str(quick))
        context.work.mkdir()
        context.shared_value("reference_ap", lambda low=low: low)
        with pytest.raises(Failed, match="proves nothing"):
            small_detector.compare_ap(context, low, "fp32")
        assert small_detector.judge_ap(high, high, 0.1, context.pick(30.0, 5.0))


def test_limits_by_precision(tmp_path):
    context = Context(Facts("gpu"), quick=False, work=tmp_path)
    context.shared_value("reference_ap", lambda: 0.5)
    for precision, points in (("fp32", 0.1), ("fp16", 0.1), ("bf16", 0.5)):
        small_detector.compare_ap(context, 0.5 + 0.009 * points, precision)
        with pytest.raises(Failed, match=f"limit {points}"):
            small_detector.compare_ap(context, 0.5 - 0.011 * points, precision)
