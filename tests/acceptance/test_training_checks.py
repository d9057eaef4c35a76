"""Checks of training pass if both sides agree, and fail if the device computes something else."""

import paddle
import pytest
from broken import change, off_by_one_percent, on_device, run

from ppdet.acceptance.check_registry import CHECKS, all_checks
from ppdet.acceptance.checks import training_checks
from ppdet.acceptance.checks.training_checks import VARIANTS, judge_losses
from ppdet.acceptance.device_facts import Facts
from ppdet.acceptance.outcomes import Failed
from ppdet.modeling.losses import fcos_loss


def test_the_check_passes(short):
    result = run("training/float32_adamw", short)
    assert result.status == "pass", result
    assert len(result.numbers["losses"]) == 4 and result.numbers["losses"] != result.numbers["losses_of_cpu"]


def test_losses_that_are_one_percent_off_are_found(short, monkeypatch):
    off_by_one_percent(monkeypatch, fcos_loss, "rejection_terms")
    result = run("training/float32_adamw", short)
    assert result.status == "fail" and result.detail.startswith("the first loss differs by "), result


def test_updates_that_are_not_made_are_found(short, monkeypatch):
    change(monkeypatch, paddle.optimizer.AdamW, "step", lambda right: lambda self: None if on_device() else right(self))
    result = run("training/float32_adamw", short)
    assert result.status == "fail" and result.detail.startswith("the mean of"), result


def losses(*values):
    return [{"loss": value, "loss_cls": value / 2} for value in values]


FALLING = [2.4, 2.3, 2.2, 2.1, 2.0, 1.9, 1.8, 1.7, 1.6, 1.5]


def test_what_is_allowed():
    assert judge_losses(losses(*FALLING), losses(*FALLING)).detail.endswith("the mean of all 10: 0.00%")
    drifting = [value * (1 + 0.0015 * step) for step, value in enumerate(FALLING)]
    assert judge_losses(losses(*drifting), losses(*FALLING)).numbers["differences"]["the first loss"] == 0


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([2.4 * 1.002, *FALLING[1:]], "the first loss differs by 0.20% .limit 0.1%"),
        ([2.4, 2.36, *FALLING[2:]], "the mean of the first 2 differs by 1.28% .limit 1.0%"),
        ([2.4, 2.3, *(v * 0.98 for v in FALLING[2:])], "the mean of all 10 differs by 1.5"),
        ([float("nan")] * 10, "the first loss differs by nan"),
        ([2.4, 2.3, *[float("inf")] * 8], "the mean of all 10 differs by inf"),
        (FALLING[:9], "9 of 10 steps were made"),
    ],
)
def test_what_is_not_allowed(found, message):
    with pytest.raises(Failed, match=message):
        judge_losses(losses(*found), losses(*FALLING))


def test_losses_that_stay_prove_nothing():
    still = losses(*[2.0] * 10)
    with pytest.raises(Failed, match="too little"):
        judge_losses(still, still)


def test_every_precision_optimizer_and_method_is_there():
    names = {variant.name for variant in VARIANTS}
    wanted = {"float32_momentum", "float32_adamw", "float32_dense_teacher"}
    for level in ("o1", "o2"):
        for dtype in ("float16", "bfloat16"):
            wanted |= {f"{level}_{dtype}_{kind}" for kind in ("momentum", "adamw", "dense_teacher")}
    assert wanted == names
    all_checks()
    volta, ampere = (
        Facts("gpu", capability=c, amp=a) for c, a in (((7, 0), ("float16",)), ((8, 0), ("float16", "bfloat16")))
    )
    skipped = {name for name in names if CHECKS[f"training/{name}"].missing(volta)}
    assert skipped == {name for name in names if "bfloat16" in name}
    assert not any(CHECKS[f"training/{name}"].missing(ampere) for name in names)


@pytest.mark.parametrize("name", ["o2_float16_momentum", "o1_bfloat16_dense_teacher", "o2_float16_dense_teacher"])
def test_the_configurations_say_what_the_names_do(name, short):
    (variant,) = (one for one in VARIANTS if one.name == name)
    (short.work / "trained").mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_checks, "trained_run", lambda context: short.work / "trained" / "detector")
        cfg = training_checks.variant_config(short, variant, name, {"max_iters": 50})
    assert cfg["amp"] and (cfg["amp_level"], cfg["amp_dtype"]) == (variant.level, variant.dtype)
    assert cfg["max_iters"] == 50 and cfg["use_onednn"]
    assert cfg["ssod_method"] == ("DenseTeacher" if variant.dense_teacher else None)
    kinds = {"momentum": "Momentum", "adamw": "AdamW"}
    assert cfg.create("OptimizerBuilder").build_optimizer.__name__ == kinds[variant.optimizer]
