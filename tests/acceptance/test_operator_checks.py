"""Checks of operators pass on the CPU, and fail if one side is off by 1 %."""

import functools

import numpy as np
import paddle
import pytest
from broken import change, off_by_one_percent, on_device, run

from ppdet.acceptance.check_registry import all_checks
from ppdet.acceptance.cpu_comparison import relative_difference
from ppdet.modeling import layers
from ppdet.modeling.losses import dense_teacher_loss, fcos_loss
from ppdet.modeling.losses import fcos_loss as fcos
from ppdet.optimizer import ModelEMA
from ppdet.optimizer.joined import Joined
from ppdet.utils import device

NAMES = [one.name.partition("/")[2] for one in all_checks() if one.group == "operators"]
# Where each is broken: by 1 %, on the device's side alone.
FAULTS = {
    "tf32": (paddle, "matmul"),
    "focal_loss": (fcos_loss, "rejection_terms"),
    "fcos_loss_centerness": (fcos, "iou_and_giou"),
    "fcos_loss_iou": (fcos, "iou_and_giou"),
    "fcos_loss_log": (fcos, "iou_loss"),
    "dense_teacher_loss": (dense_teacher_loss, "imitation_terms"),
    "batch_norm_trained": (layers, "normalize"),
    "batch_norm_frozen": (layers.Conv2D, "affine"),
    "batch_norm_statistics": (layers, "normalize"),
    "group_norm": (layers, "normalize"),
    "convolution_1x1": (layers.Conv2D, "affine"),
    "convolution_groups": (layers.Conv2D, "affine"),
    "deformable": (layers, "normalize"),
    "pooling": (layers, "avg_pool_2x2"),
    "network": (fcos_loss, "rejection_terms"),
    "optimizers": (ModelEMA, "current_decay"),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_checks_pass_and_notice_one_percent(name, context):
    result = run(f"operators/{name}", context)
    assert result.status == "pass", result
    with pytest.MonkeyPatch.context() as patch:
        off_by_one_percent(patch, *FAULTS[name])
        result = run(f"operators/{name}", context)
    assert result.status == "fail" and "limit" in result.detail and result.traceback is None, result


def test_a_wrong_average_is_found_where_all_are_written_together(context, monkeypatch):
    monkeypatch.setattr(device, "runs_behind_host", on_device)
    assert run("operators/optimizers", context).status == "pass"
    change(monkeypatch, Joined, "write", lambda right: lambda self, values: right(self, values * 0.9))
    result = run("operators/optimizers", context)
    assert result.status == "fail" and "average" in result.detail, result


def test_a_wrong_gradient_of_a_right_result_is_found(context, monkeypatch):
    def wrap(right):
        def wrong(*arguments):
            loss, gradient = right(*arguments)
            return loss, gradient * 1.01 if on_device() else gradient

        return wrong

    change(monkeypatch, fcos_loss, "rejection_terms", wrap)
    assert run("operators/focal_loss", context).detail.startswith("gradient of logits")


def test_a_wrong_running_statistic_is_found(context, monkeypatch):
    def wrap(right):
        def wrong(norm, x, **options):
            y = right(norm, x, **options)
            if on_device():
                norm._variance.set_value(norm._variance * 1.001)
            return y

        return wrong

    change(monkeypatch, layers, "normalize", wrap)
    assert run("operators/batch_norm_trained", context).detail.startswith("norm._variance differs by ")


def test_a_running_variance_as_cudnn_counts_it_is_none_that_is_wrong(context, monkeypatch):
    """cuDNN divides by n - 1 and not by n, which here differs by more than the tolerance."""

    def wrap(right):
        def as_cudnn(norm, x, **options):
            kept = norm._variance * norm._momentum
            y = right(norm, x, **options)
            if on_device():
                count = x.size / x.shape[1]
                norm._variance.set_value(kept + (norm._variance - kept) * count / (count - 1))
            return y

        return as_cudnn

    right = run("operators/batch_norm_trained", context).numbers["differences"]["norm._variance"]
    change(monkeypatch, layers, "normalize", wrap)
    result = run("operators/batch_norm_trained", context)
    assert result.status == "pass" and result.numbers["differences"]["norm._variance"] < 1e-6 > right, result


@pytest.mark.parametrize("name", ["Momentum", "AdamW"])
def test_an_optimizer_that_is_one_percent_off_is_found(name, context, monkeypatch):
    def wrap(right):
        @functools.wraps(right)  # OptimizerBuilder looks at its parameters
        def wrong(self, learning_rate, **options):
            return right(self, learning_rate * 1.01 if on_device() else learning_rate, **options)

        return wrong

    change(monkeypatch, getattr(paddle.optimizer, name), "__init__", wrap)
    assert run("operators/optimizers", context).detail.startswith(f"{name}: ")


def test_a_difference_is_relative_to_the_largest_number():
    assert relative_difference(np.array([100.0, 1.0]), np.array([100.0, 2.0])) == 0.01
    assert relative_difference(np.array([0.0, 0.0]), np.array([0.0, 0.0])) == 0.0
    assert relative_difference(np.array([3e-5]), np.array([0.0])) == 3e-5
    assert relative_difference(np.zeros(2), np.zeros(3)) == float("inf")
    assert not relative_difference(np.array([np.nan]), np.array([1.0])) <= 1e-4
