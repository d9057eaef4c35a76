"""Helpers that run a check of the acceptance kit in this process, and break what it checks on one side."""

import json
from collections.abc import Callable
from pathlib import Path

import paddle
import pytest

from ppdet.acceptance import small_detector
from ppdet.acceptance.check_process import run_check
from ppdet.acceptance.check_registry import CHECKS, all_checks
from ppdet.acceptance.checks import guard_checks, training_checks
from ppdet.acceptance.context import Context
from ppdet.acceptance.device_facts import Facts
from ppdet.acceptance.outcomes import Result
from ppdet.modeling import cpu

SMALL = {"TrainReader.batch_size": 2, "auto_lr": None, "LearningRate.schedulers": []}


def short_context(patch: pytest.MonkeyPatch, facts: Facts, work: Path) -> Context:
    """Return a context whose runs are short and have a few small images."""
    settings = small_detector.run_settings
    patch.setattr(small_detector, "TRAIN_IMAGES", 24)
    patch.setattr(small_detector, "VAL_IMAGES", 4)
    patch.setattr(small_detector, "SIDE", 96)
    patch.setattr(small_detector, "run_settings", lambda *arguments: {**settings(*arguments), **SMALL})
    patch.setattr(training_checks, "QUICK_STEPS", 4)
    patch.setattr(guard_checks, "STEPS", 3)
    patch.setattr(guard_checks, "BAD", (0, 2))
    return Context(facts, quick=True, work=work)


def detecting_context(patch: pytest.MonkeyPatch, facts: Facts, work: Path) -> Context:
    """Return a context with a detector that learned little, and images annotated with its own detections on the CPU.

    So its AP is high without long training, and every change of its detections changes the AP.
    """
    from ppdet.engine.predictor import Predictor

    context = short_context(patch, facts, work)
    patch.setitem(SMALL, "FCOSHead.nms.score_threshold", 0.002)
    patch.setattr(small_detector, "QUICK_STEPS", 3)
    patch.setattr(small_detector, "installed_formats", list)  # Paddle's alone
    small_detector.trained_run(context)
    path = small_detector.shapes_dataset(context) / "annotations" / "val.json"
    content = json.loads(path.read_text())
    files = [str(path.parents[1] / "images" / "val" / image["file_name"]) for image in content["images"]]
    with context.on_reference():
        predictor = Predictor(small_detector.command_config(context, "TestReader", "use_onednn=false"))
        found = [(content["images"][i]["id"], row) for i, rows in predictor.detect(files) for row in rows[:3].tolist()]
    ids = [category["id"] for category in content["categories"]]
    content["annotations"] = [
        {"id": n, "image_id": image, "category_id": ids[int(kind)], "bbox": [x1, y1, x2 - x1, y2 - y1]}
        | {"area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
        for n, (image, (kind, _, x1, y1, x2, y2)) in enumerate(found, start=1)
    ]
    path.write_text(json.dumps(content))
    return context


def run(name: str, context: Context) -> Result:
    all_checks()
    return run_check(CHECKS[name], context)[0]


def on_device() -> bool:
    """Whether the device computes now, and not the reference on the CPU (`Context.on_reference`)."""
    return cpu._enabled


def off_by_one_percent(patch: pytest.MonkeyPatch, owner: object, name: str) -> None:
    """Make the tensors that a function returns on the device 1 % too large."""
    right = getattr(owner, name)

    def wrong(*arguments: object, **options: object) -> object:
        result = right(*arguments, **options)
        return larger(result) if on_device() else result

    patch.setattr(owner, name, wrong)


def larger(value: object) -> object:
    if isinstance(value, tuple):
        return tuple(map(larger, value))
    return value * 1.01 if isinstance(value, (paddle.Tensor, float)) else value


def change(patch: pytest.MonkeyPatch, owner: object, name: str, wrap: Callable) -> None:
    """Replace the function `name` of `owner` by wrap(function)."""
    patch.setattr(owner, name, wrap(getattr(owner, name)))
