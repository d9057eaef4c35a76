"""Checks that steps with infinite gradients change no bit of weights, statistics and optimizer state."""

import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppdet.acceptance.check_registry import check
from ppdet.acceptance.checks.training_checks import OPTIMIZERS, start_weights
from ppdet.acceptance.context import Context
from ppdet.acceptance.device_facts import amp
from ppdet.acceptance.outcomes import Failed, Outcome
from ppdet.acceptance.small_detector import run_config

if TYPE_CHECKING:
    from ppdet.acceptance.training_hooks import BadSteps
    from ppdet.engine.trainer import Trainer

STEPS = 8
BAD = (0, 4)  # numbers of the spoiled steps: one before the optimizer has a state, one after
ADVICE = """On this device, a step with infinite gradients or statistics was not rolled back, or bad_steps.jsonl does
not describe it. One broken image could spoil a run. The result names what changed or what bad_steps.jsonl has instead.
Please send the report. Until this is fixed, look for losses in the log that are not numbers, and continue from an
earlier checkpoint (-r)."""


def nan_image(trainer: "Trainer") -> Callable[[], None]:
    """Fill the second image of the batch with NaN. Returns a function that does nothing: the fault ends by itself."""
    import paddle

    batch = trainer.batches[0]
    image = batch["image"].astype("float32")
    factor = paddle.ones([image.shape[0], 1, 1, 1])
    factor[1] = float("nan")
    batch["image"] = image * factor
    return lambda: None


def infinite_gradient(trainer: "Trainer") -> Callable[[], None]:
    """Make the gradient of one weight infinite, as an overflow does; losses stay finite. Returns what ends this."""
    weight = next(p for p in trainer.model.parameters() if not p.stop_gradient)
    return weight.register_hook(lambda gradient: gradient * float("inf")).remove


FAULTS = {"nan_image": nan_image, "overflow": infinite_gradient}


def add_check(name: str, title: str, fault: str, optimizer: str, overrides: Mapping[str, Any] = {}) -> None:
    """Register a check that two spoiled steps change nothing and are described in bad_steps.jsonl.

    Args:
        title: the fault in words.
        fault: name in FAULTS.
        optimizer: name in OPTIMIZERS.
        overrides: further settings of the run, by dotted key.
    """

    @check(
        f"guard/{name}",
        title=f"{title}, {optimizer}: the step changes nothing, and bad_steps.jsonl describes it",
        advice=ADVICE,
        seconds=4,
    )
    def nothing_changes(context: Context) -> Outcome:
        run, lines = train(context, name, fault, optimizer, overrides)
        steps = [line["iteration"] for line in lines]
        if steps != list(BAD):
            raise Failed(f"bad_steps.jsonl has the steps {steps}, expected {list(BAD)}")
        for line, images in zip(lines, run.images):
            require_description(line, images, fault)
        return Outcome(f"steps {list(BAD)} changed none of {len(run.compared)} tensors, all other steps did")


for _optimizer in OPTIMIZERS:
    add_check(f"nan_image_{_optimizer}", "An image of NaN", "nan_image", _optimizer)
for _optimizer in OPTIMIZERS:
    add_check(f"overflow_{_optimizer}", "A gradient that overflows", "overflow", _optimizer)
# The frozen stage has no gradients, and its ReLU turns NaN into 0. Only its running statistics show the fault.
add_check(
    "nan_image_frozen",
    "An image of NaN and a frozen stage",
    "nan_image",
    "momentum",
    {"ResNet.freeze_at": 0, "ResNet.freeze_norm": False},
)


@check("guard/float16_scale", advice=ADVICE, needs=[amp("float16")], seconds=4)
def float16_scale(context: Context) -> Outcome:
    """A gradient that overflows in float16: the step only halves the loss scale"""
    overrides = {"amp": True, "amp_dtype": "float16", "amp_level": "O1"}
    run, lines = train(context, "float16_scale", "overflow", "adamw", overrides)
    scales = [scale for scale in run.scales if scale is not None]
    factors = [after / before for before, after in itertools.pairwise(scales)]
    expected = [0.5 if step in BAD else 1.0 for step in range(STEPS)]
    if factors != expected:
        raise Failed(f"the loss scale changed by the factors {factors}, expected {expected}", scales=run.scales)
    written = [(line["iteration"], line.get("loss_scale")) for line in lines]
    if written != [(step, scales[step]) for step in BAD]:
        raise Failed(f"bad_steps.jsonl has these steps and loss scales: {written}", scales=run.scales)
    return Outcome(f"none of {len(run.compared)} tensors changed, the loss scale is {scales[-1]:.0f} at the end")


def train(
    context: Context, name: str, fault: str, optimizer: str, overrides: Mapping[str, Any]
) -> "tuple[BadSteps, list[dict[str, Any]]]":
    """Train for a few steps, two of them spoiled; the arguments are those of `add_check`.

    Returns:
        The hook that observed the run, and the lines of bad_steps.jsonl.

    Raises:
        Failed: a spoiled step changed something, another step did not, or bad_steps.jsonl was not written.
    """
    from ppdet.acceptance.training_hooks import BadSteps
    from ppdet.engine.trainer import Trainer

    settings = {
        **OPTIMIZERS[optimizer],
        "LearningRate.schedulers": [],
        "max_iters": STEPS,
        "epoch": None,
        "log_iter": 3,  # so that some bad steps are judged later than they are made
        "pretrain_weights": str(start_weights(context)),
        **overrides,
    }
    cfg = run_config(context, name, settings)
    with context.on(context.device):
        run = BadSteps(BAD, FAULTS[fault])
        trainer = Trainer(cfg, overwrite=True, hooks=[run])
        trainer.train()
    path = trainer.output / "bad_steps.jsonl"
    if not path.exists():
        raise Failed("bad_steps.jsonl was not written")
    return run, [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def require_description(line: dict[str, Any], images: list[int], fault: str) -> None:
    """Check that a line of bad_steps.jsonl names the images of the step and its losses.

    Args:
        images: ids of the step's images.
        fault: name in FAULTS.

    Raises:
        Failed: an image, its file or the loss is not the right one.
    """
    rank = line["ranks"][0]
    named = [image["id"] for image in rank["images"]]
    missing = [image for image in rank["images"] if not Path(image["file"] or "").is_file()]
    if named != images or missing:
        raise Failed(f"step {line['iteration']} had the images {images}, bad_steps.jsonl names {rank['images']}")
    # A ReLU may turn NaN into 0, so only the losses of an overflow are known to be finite.
    if fault == "overflow" and not isinstance(rank["losses"]["loss"], float):
        raise Failed(f"step {line['iteration']}: the loss in bad_steps.jsonl is {rank['losses']['loss']}")
