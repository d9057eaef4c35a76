"""The limits of the checks: which figures pass and which fail."""

import math

import pytest

from ppdet.acceptance.check_registry import CHECKS, all_checks
from ppdet.acceptance.checks import cards_checks, engines_checks
from ppdet.acceptance.checks.speed_checks import GUARD_SHARE, judge_reader, judge_step
from ppdet.acceptance.context import Context
from ppdet.acceptance.device_facts import Facts
from ppdet.acceptance.outcomes import Failed, Skipped
from ppdet.acceptance.small_detector import judge_ap


def test_ap_within_a_tenth_of_a_percent():
    outcome = judge_ap(0.4312, 0.4308, 0.1, 5.0)
    assert outcome.detail == "AP 43.12, on the CPU 43.08: difference 0.04 (limit 0.1)"
    assert outcome.numbers == pytest.approx({"ap": 43.12, "ap_of_cpu": 43.08})


@pytest.mark.parametrize(
    ("ap", "reference", "points", "message"),
    [
        (0.4320, 0.4308, 0.1, "AP 43.20, on the CPU 43.08: difference 0.12"),
        (0.0, 0.4308, 1.0, "difference 43.08"),
        (math.nan, 0.4308, 1.0, "AP nan"),
        (0.04, 0.04, 0.1, "an AP below 5.0 on the CPU proves nothing"),
        (0.4, math.nan, 0.1, "proves nothing"),
    ],
)
def test_ap_that_is_another(ap, reference, points, message):
    with pytest.raises(Failed, match=message):
        judge_ap(ap, reference, points, 5.0)


def test_the_guards_share_of_a_step():
    numbers = {"images": "2 x 896x1408", "type": "float32", "images_per_second": 4.0, "peak_memory_mib": 9000}
    outcome = judge_step({"with": 0.52, "without": 0.5}, numbers, judged=True)
    assert outcome.detail == "2 x 896x1408 float32: 520.0 ms, 4.0 images/s, 9000 MiB, guard +4.0% (limit 5%)"
    assert outcome.numbers["guard_share"] == pytest.approx(0.04) and GUARD_SHARE == 0.05
    with pytest.raises(Failed, match=r"guard \+6\.0% \(limit 5%\)"):
        judge_step({"with": 0.53, "without": 0.5}, numbers, judged=True)
    assert judge_step({"with": 0.6, "without": 0.5}, numbers, judged=False).numbers["guard_share"] > GUARD_SHARE


def test_a_reader_that_keeps_up():
    numbers = {"workers": 2, "steps": 40, "seconds_waited_for_data": 0.2}
    assert "+10.0% (limit 10%); 0.20 s of waiting" in judge_reader(0.2, 0.22, numbers, judged=True).detail
    with pytest.raises(Failed, match=r"2 workers: 230\.0 ms per step, 200\.0 ms without reading: \+15\.0%"):
        judge_reader(0.2, 0.23, numbers, judged=True)
    judge_reader(0.2, 0.4, numbers, judged=False)


def test_losses_of_two_cards():
    one = [2.5, 2.4, 2.2]
    assert (
        "losses of 3 steps differ by at most 4.0e-04 (limit 1e-03)"
        in cards_checks.judge_rank_losses(one, [2.5, 2.4, 2.20088]).detail
    )
    for two in ([2.5, 2.4, 2.21], [2.5, 2.4, math.nan]):
        with pytest.raises(Failed, match=r"losses of 3 steps differ by at most (4\.5e-03|nan)"):
            cards_checks.judge_rank_losses(one, two)
    with pytest.raises(Failed, match="one process made 3 steps, two made 2"):
        cards_checks.judge_rank_losses(one, one[:2])


@pytest.mark.parametrize(
    ("visible", "during", "extra"),
    [
        (None, {"0": 3000, "1": 2400, "2": 10}, 100),
        (None, {"0": 3400, "1": 2400, "2": 10}, 500),
        ("2,1", {"0": 500, "1": 2400, "2": 2430}, 20),
        ("GPU-4b1,GPU-7e0", {"0": 3000, "1": 2400, "2": 10}, 100),
    ],
)
def test_memory_of_card_0(monkeypatch, visible, during, extra):
    """Before the run, the process of the kit used 500 MiB of card 0."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    before = {"0": 500, "1": 0, "2": 10}
    if extra > cards_checks.EXTRA_MIB:
        with pytest.raises(Failed, match=f"a difference of {extra} MiB"):
            cards_checks.judge_memory(before, during)
    else:
        assert f"a difference of {extra} MiB" in cards_checks.judge_memory(before, during).detail


def test_a_pair_is_two_cards_or_a_cpu():
    assert cards_checks.PAIR.missing(Facts("cpu")) is None
    assert cards_checks.PAIR.missing(Facts("gpu", cards=2)) is None
    assert cards_checks.PAIR.missing(Facts("gpu", cards=1)) == "needs 2 cards, 1 visible"


def test_every_engine_of_the_page_is_a_check(tmp_path):
    names = {check.name for check in all_checks() if check.group == "engines"}
    assert names >= {f"engines/paddle_{kind}" for kind in ("fp32", "fp16", "bf16", "tensorrt_fp32", "tensorrt_fp16")}
    assert names >= {"engines/onnxruntime_fp32", "engines/openvino_fp32"} and len(names) == len(engines_checks.ENGINES)
    for device in ("xpu", "cpu"):
        with pytest.raises(Skipped, match="TensorRT needs a GPU"):
            CHECKS["engines/paddle_tensorrt_fp16"].run(Context(Facts(device), quick=True, work=tmp_path))


@pytest.mark.parametrize(
    ("name", "device", "package"),
    [
        ("onnxruntime_fp32", "cpu", "onnx onnxruntime"),
        ("onnxruntime_fp16", "gpu", "onnx onnxruntime-gpu"),
        ("openvino_bf16", "gpu", "openvino"),
    ],
)
def test_an_engine_that_is_not_installed(monkeypatch, tmp_path, name, device, package):
    monkeypatch.setattr(engines_checks, "installed_formats", list)
    with pytest.raises(Skipped, match=f"^not installed: pip install {package}$"):
        CHECKS[f"engines/{name}"].run(Context(Facts(device), quick=True, work=tmp_path))
