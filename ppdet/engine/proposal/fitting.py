"""The size of the detector and the length of the run that fit into the time given, by the speed of a training step."""

import contextlib
import logging
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ppdet.core.config import Config
from ppdet.core.workspace import load_config
from ppdet.engine.build import build_model
from ppdet.engine.model_info import measure
from ppdet.engine.proposal.found_data import FoundData
from ppdet.engine.proposal.machine import Machine
from ppdet.engine.proposal.recipe import (
    EVALUATIONS,
    Length,
    Recipe,
    choices,
    detectors,
    evaluation_interval,
    make_recipe,
)
from ppdet.engine.proposal.yaml_text import render
from ppdet.engine.trainer import Trainer
from ppdet.engine.training.dry_run import keep_largest_sizes, prepare_step, timed_step
from ppdet.utils import device
from ppdet.utils.logger import get_logger
from ppdet.utils.printable import counted

MARGIN = 0.8  # share of the time given that is planned: reading images and writing checkpoints need some, too
EVALUATION_SHARE = 0.25  # of the planned time
TIMED_STEPS, TIMED_SECONDS = 4, 20  # of a detector, whichever are fewer
SLACK = 2  # the factor by which an estimate may be too slow; a detector that could not fit even then is not timed
START_SECONDS = 20  # of Python, Paddle and the annotations
# Training of an image, in seconds for 10**9 multiply-adds of a forward pass: on one core (docs/RESULTS.md: two cores
# train 1.31 images of 320x448 pixels in a second, 2.5 in bfloat16), and on a GPU (10 images of 800x1344 in a second).
CPU_SECONDS, CPU_BFLOAT16_SECONDS, GPU_SECONDS = 0.07, 0.037, 0.0005


class Speed(NamedTuple):
    """The speed of training.

    step: seconds of a step. steps_per_epoch: its number. is_measured: whether a step was run, or only estimated.
    """

    step: float
    steps_per_epoch: int
    is_measured: bool


class Proposal(NamedTuple):
    """A configuration and what to expect of it.

    Attributes:
        text: the YAML file.
        recipe: what a step computes.
        length: the length of the run.
        speed: the speed of training.
        seconds: expected duration of the run, evaluations included.
        is_enough: whether the run sees as many images as it should.
    """

    text: str
    recipe: Recipe
    length: Length
    speed: Speed
    seconds: float
    is_enough: bool


def propose(
    data: FoundData,
    machine: Machine,
    *,
    name: str,
    weights: str | None,
    why_weights: str,
    minutes: float | None,
    measured: bool,
    tell: Callable[[str], None] = lambda text: None,
) -> Proposal:
    """Choose a configuration.

    The detector shrinks until the run fits, see `detectors`; if even the smallest one is too slow, the run sees fewer
    images than it should. Steps are timed only of detectors that might fit and of the smallest one, since a step of a
    large detector may take a minute: what one of them took corrects the estimates of the next ones.

    Args:
        name: of the configuration and its run.
        weights: URL of the backbone's weights, or None.
        why_weights: why these, or why none.
        minutes: time that the run may take; None: any.
        measured: run some training steps; false: estimate their time.
        tell: is given a line of text before the steps of a detector are timed.
    """
    candidates, pace = detectors(data, machine, has_weights=weights is not None), 1.0
    for size, has_p2 in candidates:
        recipe = make_recipe(data, machine, size, weights, why_weights, has_p2=has_p2)

        def is_hopeless(step: float, recipe: Recipe = recipe, is_last: bool = (size, has_p2) == candidates[-1]) -> bool:
            assumed = Speed(step / SLACK, steps_per_epoch(data, recipe), False)
            return not (is_last or choose_length(data, machine, recipe, assumed, minutes)[1])

        with _loaded(_text(data, machine, recipe, Length(1, None, None, ""), name), name) as cfg:
            speed = estimated_speed(cfg, data, machine, recipe)
            if measured:
                estimate = speed.step
                if is_hopeless(estimate * pace):
                    continue
                tell(f"timing training steps: {_detector_text(data, recipe)} …")
                speed = measured_speed(cfg, is_hopeless)
                pace = speed.step / estimate
        length, is_enough, seconds = choose_length(data, machine, recipe, speed, minutes)
        if is_enough:
            break
    return Proposal(_text(data, machine, recipe, length, name), recipe, length, speed, seconds, is_enough)


def _text(data: FoundData, machine: Machine, recipe: Recipe, length: Length, name: str) -> str:
    val = counted(data.val.images, "validation image") if data.val else "no validation images"
    head = (
        f"Proposed by ppdet init for {data.folder} ({data.train.images} training and {val}, "
        f"{counted(len(data.classes), 'class')}) and for a machine with {machine.text()}."
    )
    return render(choices(data, machine, recipe, length, name), head)


def _detector_text(data: FoundData, recipe: Recipe) -> str:
    width = f"{recipe.size.convolutions} convolutions of {recipe.size.channels} channels"
    levels = ", level P2" if recipe.has_p2 else ""
    return f"{counted(recipe.batch, 'image')} of {data.pixels(*recipe.input_size)}, {width}{levels}"


@contextlib.contextmanager
def _loaded(text: str, name: str) -> Iterator[Config]:
    """The configuration of a YAML text, whose run would go to a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.yml"
        path.write_text(text, encoding="utf-8")
        yield load_config(path, {"save_dir": folder, "worker_num": 0})


def measured_speed(cfg: Config, is_hopeless: Callable[[float], bool]) -> Speed:
    """Build the trainer of a configuration, and time a step: the quickest of several, as other programs may run.

    Where images have random sizes, it is a step with the largest ones.

    Args:
        is_hopeless: whether a detector whose first step took so many seconds needs no further ones. It is asked on a
            CPU alone: the first step on another device takes much longer than the others.
    """
    logger = get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # training itself will say all this
    try:
        trainer = Trainer(cfg)
        keep_largest_sizes(trainer)
        prepare_step(trainer)
        seconds = [timed_step(trainer)]
        if not (device.is_cpu() and is_hopeless(seconds[0])):
            while len(seconds) < 2 or (len(seconds) < TIMED_STEPS and sum(seconds) < TIMED_SECONDS):
                seconds.append(timed_step(trainer))
    finally:
        logger.setLevel(level)
    return Speed(min(seconds), trainer.steps_per_epoch, True)


def estimated_speed(cfg: Config, data: FoundData, machine: Machine, recipe: Recipe) -> Speed:
    """Estimate the time of a step by the multiply-adds of the network."""
    model = build_model(cfg)
    # Of a fully convolutional network, in proportion to the area.
    shares = math.prod(recipe.input_size) / 128**2
    billions = shares * measure(model, 128, 128, depth=0)[0].multiplications / 1e9
    if machine.is_cpu:
        seconds = (CPU_BFLOAT16_SECONDS if machine.halves else CPU_SECONDS) / machine.cores
    else:
        seconds = GPU_SECONDS
    return Speed(billions * seconds * recipe.batch, steps_per_epoch(data, recipe), False)


def steps_per_epoch(data: FoundData, recipe: Recipe) -> int:
    """The number of steps in an epoch, in which images without boxes are a fifth of the images at most."""
    images = data.train.images - data.train.empty
    images += min(data.train.empty, images // 4)
    return max(1, images // recipe.batch)


def wanted_epochs(recipe: Recipe, speed: Speed) -> int:
    """How many epochs training should have if it may take any time."""
    return max(recipe.epochs, math.ceil(recipe.least_images / (speed.steps_per_epoch * recipe.batch)))


def choose_length(
    data: FoundData, machine: Machine, recipe: Recipe, speed: Speed, minutes: float | None
) -> tuple[Length, bool, float]:
    """Choose the length of a run.

    Returns:
        The length, whether the run sees as many images as wanted, and the seconds it will take.
    """
    image = speed.step / recipe.batch
    evaluated = image * (2 / 3 if machine.halves and machine.is_cpu else 1 / 3)  # without a backward pass, in float32
    count, val_images = (data.val or data.train).images, None
    affordable: float = math.inf
    if minutes is not None:
        planned = max(minutes * 60 * MARGIN - START_SECONDS, 1.0)
        most = int(EVALUATION_SHARE * planned / EVALUATIONS / evaluated)
        if count > most:
            count = val_images = max(most, 1)
        affordable = max(1.0, (planned - EVALUATIONS * count * evaluated) / speed.step)
    per_epoch, max_iters, why = speed.steps_per_epoch, None, recipe.why_wanted
    wanted = epochs = wanted_epochs(recipe, speed)
    is_enough = epochs * per_epoch <= affordable
    if not is_enough:
        epochs = max(1, int(affordable / per_epoch))
        max_iters = int(affordable) if epochs * per_epoch > affordable else None
        why = f"what fits into {minutes:g} minute{'s' * (minutes != 1)}; {wanted} would be better: {recipe.why_wanted}"
    run = min(epochs * per_epoch, max_iters or math.inf)
    evaluations = math.ceil(epochs / evaluation_interval(epochs))
    seconds = (run * speed.step + evaluations * count * evaluated) / MARGIN**0.5 + START_SECONDS
    return Length(epochs, max_iters, val_images, why), is_enough, seconds
