"""Steps whose gradients are not finite change nothing: weights, statistics and optimizer state stay to the bit."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from ppdet.acceptance import made
from ppdet.acceptance.check_registry import check
from ppdet.acceptance.checks.training_checks import OPTIMIZERS, start_weights
from ppdet.acceptance.context import Context
from ppdet.acceptance.facts import amp
from ppdet.acceptance.outcomes import Failed, Outcome

STEPS, BAD = 8, (0, 4)  # steps, and those whose gradients are bad: before the optimizer has a state, and after
NOTHING: dict = {}
ADVICE = """A step whose gradients or statistics were infinite or not numbers was not taken back on this device, or not
written down: one broken image could spoil a run. The line says what changed, or what bad_steps.jsonl says otherwise.
Report it; until it is mended, look at the log for losses that are not numbers, and go on from an earlier checkpoint
(-r)."""


def nan_image(trainer: object) -> Callable[[], None]:
    """Make the step's second image one that has no numbers. Gives what ends the fault after it: nothing has to."""
    import paddle

    batch = trainer.batches[0]
    image = batch["image"].astype("float32")
    factor = paddle.ones([image.shape[0], 1, 1, 1])
    factor[1] = float("nan")
    batch["image"] = image * factor
    return lambda: None


def infinite_gradient(trainer: object) -> Callable[[], None]:
    """Have the gradient of one weight overflow, as float16's does; losses stay finite. Gives what ends the fault."""
    weight = next(p for p in trainer.model.parameters() if not p.stop_gradient)
    return weight.register_hook(lambda gradient: gradient * float("inf")).remove


FAULTS = {"nan_image": nan_image, "overflow": infinite_gradient}
TITLES = {
    "nan_image": "a NaN image",
    "overflow": "a gradient that overflows",
    "nan_image_frozen": "a NaN image before a frozen stage",
}


def add_check(name: str, fault: str, optimizer: str, more: Mapping = NOTHING) -> None:
    """A check of the guard. more: settings that its run has besides."""
    title = TITLES[name.removesuffix(f"_{optimizer}")]

    @check(
        f"guard/{name}",
        title=f"{title}, {optimizer}: nothing changes, and bad_steps.jsonl tells of it",
        advice=ADVICE,
        limit=90,
        seconds=4,
    )
    def nothing_changes(context: Context) -> Outcome:
        run, lines = train(context, name, fault, optimizer, more)
        if [line["iteration"] for line in lines] != list(BAD):
            raise Failed(f"bad_steps.jsonl has steps {[line['iteration'] for line in lines]}, not {list(BAD)}")
        for line, images in zip(lines, run.images):
            require_description(line, images, fault)
        return Outcome(f"{len(run.compared)} tensors stay as they were in steps {list(BAD)}, and change in all others")


for each in FAULTS:
    for of in OPTIMIZERS:
        add_check(f"{each}_{of}", each, of)
# Of a stage without gradients, whose ReLU makes 0 of what is not a number: its statistics alone show the image.
add_check("nan_image_frozen", "nan_image", "momentum", {"ResNet.freeze_at": 0, "ResNet.freeze_norm": False})


@check(
    "guard/float16_scale",
    title="an overflow in float16: nothing changes but the loss scale, which is halved",
    advice=ADVICE,
    needs=[amp("float16")],
    limit=90,
    seconds=4,
)
def float16_scale(context: Context) -> Outcome:
    more = {"amp": True, "amp_dtype": "float16", "amp_level": "O1"}
    run, lines = train(context, "float16_scale", "overflow", "adamw", more)
    scales = [run.scales[step + 1] / run.scales[step] for step in range(STEPS)]
    expected = [0.5 if step in BAD else 1.0 for step in range(STEPS)]
    if scales != expected:
        raise Failed(f"the loss scale changed by {scales}, not {expected}", scales=run.scales)
    written = [(line["iteration"], line.get("loss_scale")) for line in lines]
    if written != [(step, run.scales[step]) for step in BAD]:
        raise Failed(f"bad_steps.jsonl has steps and scales {written}", scales=run.scales)
    return Outcome(f"{len(run.compared)} tensors stay as they were, the scale is {run.scales[-1]:.0f}")


def train(
    context: Context, name: str, fault: str, optimizer: str, more: Mapping = NOTHING
) -> tuple[object, list[dict]]:
    """A short run with bad steps; what was seen of it, and the lines of its bad_steps.jsonl.

    Raises:
        Failed: a bad step changed something, or another one did not.
    """
    from ppdet.acceptance.watching import BadSteps
    from ppdet.engine.trainer import Trainer

    options = {
        **OPTIMIZERS[optimizer],
        "LearningRate.schedulers": [],
        "max_iters": STEPS,
        "epoch": None,
        "log_iter": 3,  # judged later than they are made
        "pretrain_weights": str(start_weights(context)),
        **more,
    }
    cfg = made.config(context, name, options)
    with context.on(context.device):
        run = BadSteps(BAD, FAULTS[fault])
        trainer = Trainer(cfg, overwrite=True, hooks=[run])
        trainer.train()
    return run, bad_steps(trainer.output)


def bad_steps(output: Path) -> list[dict]:
    path = output / "bad_steps.jsonl"
    if not path.exists():
        raise Failed("bad_steps.jsonl was not written")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def require_description(line: dict, images: list[int], fault: str) -> None:
    """Raise Failed unless a line of bad_steps.jsonl names the step's images, and has its losses.

    images: ids of those that the step was given.
    """
    rank = line["ranks"][0]
    named = [image["id"] for image in rank["images"]]
    missing = [image for image in rank["images"] if not Path(image["file"] or "").is_file()]
    if named != images or missing:
        raise Failed(f"step {line['iteration']} was given images {images}, bad_steps.jsonl names {rank['images']}")
    # What is no number may be 0 behind a ReLU, so a NaN image need not show in the losses.
    if fault == "overflow" and not isinstance(rank["losses"]["loss"], float):
        raise Failed(f"step {line['iteration']}: bad_steps.jsonl says the loss was {rank['losses']['loss']}")
