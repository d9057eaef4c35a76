"""Checks of the guard pass if it works, and fail if it makes a bad update or describes it wrongly."""

import numpy as np
import paddle
import pytest
from broken import change, run

from ppdet.acceptance.training_hooks import is_identical
from ppdet.engine.training import bad_steps, guard
from ppdet.engine.training.loss_scale import START, LossScale
from ppdet.engine.training.precision import Precision


def test_a_check_passes(short):
    """Other tests run the check of an overflow, with AdamW and a loss scale."""
    result = run("guard/nan_image_momentum", short)
    assert result.status == "pass", result


def test_statistics_of_a_frozen_stage_that_nobody_looks_at_are_found(short, monkeypatch):
    result = run("guard/nan_image_frozen", short)
    assert result.status == "pass", result
    change(monkeypatch, Precision, "unscale", lambda right: lambda self, values: right(self, values[:-1]))
    detail = run("guard/nan_image_frozen", short).detail
    assert detail.startswith("the spoiled step 0 changed ") and "_mean" in detail, detail


@pytest.mark.parametrize("name", ["nan_image_adamw", "overflow_momentum"])
def test_an_update_that_is_made_is_found(name, short, monkeypatch):
    change(monkeypatch, guard.StepGuard, "update", lambda right: lambda self, *_: self.optimizer.step())
    result = run(f"guard/{name}", short)
    assert result.status == "fail" and result.detail.startswith("the spoiled step 0 changed "), result


def test_statistics_that_stay_changed_are_found(short, monkeypatch):
    monkeypatch.setattr(guard.StepGuard, "before_forward", lambda self: None)
    detail = run("guard/overflow_adamw", short).detail
    assert detail.startswith("the spoiled step 0 changed ") and "_mean" in detail, detail


def test_a_good_step_that_is_not_made_is_found(short, monkeypatch):
    monkeypatch.setattr(paddle.optimizer.Momentum, "step", lambda self: None)
    detail = run("guard/overflow_momentum", short).detail
    assert detail.startswith("step 1 was not spoiled, but changed only "), detail


def test_a_step_that_is_not_written_down_is_found(short, monkeypatch):
    monkeypatch.setattr(guard, "append_bad_step", lambda path, step: None)
    assert run("guard/overflow_momentum", short).detail == "bad_steps.jsonl was not written"


def test_images_that_are_named_wrongly_are_found(short, monkeypatch):
    def wrap(right):
        return lambda ids, files: [{**image, "id": image["id"] + 1} for image in right(ids, files)]

    change(monkeypatch, bad_steps, "_images", wrap)
    detail = run("guard/overflow_momentum", short).detail
    assert detail.startswith("step 0 had the images ") and "bad_steps.jsonl names" in detail, detail


@pytest.fixture
def scaled(monkeypatch):
    """Train with a loss scale in float32, because CPUs have no float16."""

    def wrap(right):
        def with_scale(self, *arguments, **options):
            right(self, *arguments, **options)
            self.loss_scale = LossScale()

        return with_scale

    change(monkeypatch, Precision, "__init__", wrap)


def test_the_scale_is_halved_by_an_overflow_alone(short, scaled):
    result = run("guard/float16_scale", short)
    assert result.status == "pass" and result.detail.endswith(f"the loss scale is {START / 4:.0f} at the end"), result


def test_a_scale_that_stays_is_found(short, scaled, monkeypatch):
    monkeypatch.setattr(LossScale, "adjust", lambda self, finite: None)
    detail = run("guard/float16_scale", short).detail
    assert detail == "the loss scale changed by the factors [1.0, 1.0, 1.0], expected [0.5, 1.0, 0.5]", detail


def test_an_overflow_that_is_taken_for_a_bad_step_is_found(short, scaled, monkeypatch):
    monkeypatch.setattr(guard, "is_overflow", lambda *arguments: False)
    detail = run("guard/float16_scale", short).detail
    assert detail == "bad_steps.jsonl has these steps and loss scales: [(0, None), (2, None)]"


def test_same_is_to_the_bit():
    numbers = np.array([0.1, np.nan], np.float32)
    assert is_identical(numbers, numbers.copy())
    assert not is_identical(numbers, np.nextafter(numbers, np.float32(1)))
    assert not is_identical(np.array([0.0]), np.array([-0.0]))
    assert not is_identical(None, numbers) and not is_identical(numbers, numbers.astype(np.float64))
