"""The choices for a data set and a machine, each with its reason.

The figures that reasons quote were measured with configs/fcos/fcos_r18vd_small.yml (docs/RESULTS.md). Choices that were
not measured say that they are rules of thumb.
"""

import math
from typing import NamedTuple

import numpy as np

from ppdet.engine.proposal.found_data import FoundData, Part
from ppdet.engine.proposal.level_choice import P2_BASE, TINY, choose_bounds, smallest_side
from ppdet.engine.proposal.machine import Machine
from ppdet.engine.proposal.yaml_text import Choice, Section
from ppdet.utils.printable import counted

BASE, FINETUNE = "fcos_r18vd_small.yml", "fcos_r50vd_ssld_finetune.yml"
RATES = {BASE: 0.0007, FINETUNE: 0.0004}  # the base_lr of these files
RATE_IMAGES = 4  # images of a step for which these rates are
PRETRAINED_RATES = [0.05, 0.05, 0.1, 0.15]  # factors of the rate for res2 to res5, as in FINETUNE
WEIGHTS = "https://paddledet.bj.bcebos.com/models/pretrained/"
WEIGHTS_OF_DEPTH = {
    18: f"{WEIGHTS}ResNet18_vd_pretrained.pdparams",
    50: f"{WEIGHTS}ResNet50_vd_ssld_v2_pretrained.pdparams",
}
GPU_SHARE_P2, CPU_GIB_P2 = 0.5, 16  # of the images that fit into a GPU without P2; memory for 4 images on a CPU
LEAST_SIDE = 24  # pixels that the smallest twentieth of the boxes should keep: three locations of the finest level
LONGEST = 3.0  # long / short of the input
CPU_SHORT, GPU_SHORT = (320, 640), (640, 800)  # limits of the short side in pixels
GPU_GIB_PER_IMAGE = 1.5  # of FCOS R50 at 800x1333, with room to spare
EVALUATIONS = 4  # in a run
MAX_OBJECTS = 100  # detections of an image that the base keeps


class Size(NamedTuple):
    """A size of the detector.

    channels: of the neck and the head. convolutions: in each tower of the head. scale: factor of the input's sides.
    """

    channels: int
    convolutions: int
    scale: float


# From the measured recipe down to what a slow processor can train within an hour. On BCCD with images of one size, AP
# was 53.8 with an input of 240x320, 57.0 with 320x427, and 56.2 with 480x640; it was 54.6 with 320x427 and twice the
# channels and convolutions.
SIZES = (Size(128, 2, 1.0), Size(128, 2, 0.75), Size(64, 2, 0.75), Size(64, 2, 0.5))
MEASURED = SIZES[0]
WIDE = Size(256, 4, 1.0)  # of FINETUNE


class Recipe(NamedTuple):
    """What training computes in a step. What depends on its speed, the length of the run, is not in it.

    Attributes:
        depth: of the ResNet.
        weights: URL of the backbone's initial weights; None: from scratch.
        why_weights: the reason.
        size: of the detector.
        has_p2: whether it has a level of stride 4.
        bounds: `object_sizes_boundary`; None: those of the base.
        why_bounds: the reason.
        input_size: short and long side in pixels.
        why_input: the reason.
        batch: images of a step.
        epochs: how often training should see each image.
        least_images: how many images it should see at least, repeated ones counted.
        why_wanted: the reason of both.
        images: of an update, on all devices together.
    """

    depth: int
    weights: str | None
    why_weights: str
    size: Size
    has_p2: bool
    bounds: list[int] | None
    why_bounds: str
    input_size: tuple[int, int]
    why_input: str
    batch: int
    epochs: int
    least_images: int
    why_wanted: str
    images: int

    @property
    def base(self) -> str:
        """The recipe that the configuration changes."""
        return FINETUNE if self.depth == 50 else BASE


def depth_for(machine: Machine, *, has_weights: bool) -> int:
    """The depth of the backbone: 50 on a GPU with weights to start from, else 18."""
    return 50 if has_weights and not machine.is_cpu else 18


def detectors(data: FoundData, machine: Machine, *, has_weights: bool) -> list[tuple[Size, bool]]:
    """The detectors to try until a run fits into its time: sizes, and whether they have the level P2.

    P2 comes first where even the whole input leaves the smallest twentieth of the boxes below TINY pixels. It needs
    that input: at a smaller one, a level of stride 8 has as many locations as P2 would cost.
    """
    on_gpu = WIDE if depth_for(machine, has_weights=has_weights) == 50 else MEASURED
    sizes = SIZES if machine.is_cpu else (on_gpu,)
    is_tiny = smallest_side(data, choose_input(data, machine, 1.0)[0]) < TINY
    return [(size, True) for size in sizes if is_tiny and size.scale == 1] + [(size, False) for size in sizes]


def make_recipe(
    data: FoundData, machine: Machine, size: Size, weights: str | None, why_weights: str, *, has_p2: bool = False
) -> Recipe:
    """Choose everything that does not depend on the speed of training."""
    trainable = data.train.images - data.train.empty
    input_size, why_input = choose_input(data, machine, size.scale)
    bounds, why_bounds = choose_bounds(data, input_size, has_p2=has_p2)
    batch = choose_batch(machine, trainable, has_p2=has_p2)
    if machine.is_cpu:
        epochs = max(4, min(16, math.ceil(6400 / trainable)))
        wanted, why = (
            (epochs, 3200),
            "on BCCD, AP was 59 after 3,300 images, repeated ones counted; with more data, fewer epochs",
        )
    elif weights:
        wanted, why = (12, 16_000), "12 epochs, as published for COCO, and 16,000 images (a rule of thumb)"
    else:
        wanted, why = (36, 24_000), "36 epochs and 24,000 images, to train from scratch (a rule of thumb)"
    depth = depth_for(machine, has_weights=weights is not None)
    levels = (has_p2, bounds, why_bounds)
    images = batch * machine.launched
    return Recipe(depth, weights, why_weights, size, *levels, input_size, why_input, batch, *wanted, why, images)


def choose_input(data: FoundData, machine: Machine, scale: float) -> tuple[tuple[int, int], str]:
    """The short and the long side of the input in pixels, and why.

    The short side is such that the smallest twentieth of the boxes keeps LEAST_SIDE pixels, between the limits of the
    machine, and at most twice that of the images. Both sides are multiples of 32. The long side is at most LONGEST
    times the short one, or more where most images are longer; the limit of the short side is then lower, so that the
    area is no larger.
    """
    small = float(np.quantile(data.sides, 0.05))
    least, most = CPU_SHORT if machine.is_cpu else GPU_SHORT
    longest = max(LONGEST, data.long / data.short)
    wanted = data.short * LEAST_SIDE / max(small, 1.0)
    short = _times_32(
        min(max(wanted, min(least, data.short)), most * math.sqrt(LONGEST / longest), 2 * data.short) * scale
    )
    long = _times_32(short * min(data.longest_shape, longest))
    kept = smallest_side(data, (short, long))
    why = (
        f"short and long side; images have {data.pixels(data.short, data.long)} pixels, 95% of the boxes are above "
        f"{small:.0f}: here {kept:.0f}"
    )
    if kept < TINY:
        why += ", which is small: a larger size needs more time, and large images can be cut up (docs/SLICING.md)"
    return (short, long), why


def _times_32(side: float) -> int:
    return max(64, math.ceil(side / 32 - 1e-9) * 32)


def choose_batch(machine: Machine, images: int, *, has_p2: bool = False) -> int:
    """Images of a step on one device. P2 makes the maps of neck and head four times as large."""
    if machine.is_cpu:
        batch = 4 if (machine.memory or 8) >= (CPU_GIB_P2 if has_p2 else 4) else 2
    else:
        fitting = int((machine.device_memory or 8) / GPU_GIB_PER_IMAGE * (GPU_SHARE_P2 if has_p2 else 1))
        batch = max(2, min(8 if images < 2000 else 16, fitting))
    return max(1, min(batch, images))


def evaluation_interval(epochs: int) -> int:
    """Epochs between two evaluations of a run."""
    return math.ceil(epochs / EVALUATIONS)


class Length(NamedTuple):
    """The length of a run.

    epochs: of steps_per_epoch steps. max_iters: where the run has to end within an epoch, or None. val_images: how many
    images each evaluation uses, or None for all. why: the reason.
    """

    epochs: int
    max_iters: int | None
    val_images: int | None
    why: str


def choices(data: FoundData, machine: Machine, recipe: Recipe, length: Length, name: str) -> Section:
    """All values of the configuration with their reasons, in the order of the file."""
    width = f"{recipe.size.convolutions} convolutions with {recipe.size.channels} channels"
    values: Section = {
        "_BASE_": _bases(recipe),
        "weights": Choice(f"output/{name}/model_final", "what ppdet eval and export take if this file is all they get"),
        "pretrain_weights": Choice(recipe.weights, recipe.why_weights),
        "num_classes": Choice(len(data.classes), _shortened(data.classes)),
        "input_size": Choice(list(recipe.input_size), recipe.why_input),
        "epoch": Choice(length.epochs, length.why),
    }
    if recipe.bounds:
        values["object_sizes_boundary"] = Choice(recipe.bounds, recipe.why_bounds)
    if length.max_iters:
        values["max_iters"] = Choice(length.max_iters, "steps; an epoch takes longer than the time given")
    interval = evaluation_interval(length.epochs)
    values["snapshot_epoch"] = Choice(interval, f"{EVALUATIONS} checkpoints at most, each evaluated with --eval")
    workers = max(1, min(4, machine.cores - 1))
    values["worker_num"] = Choice(workers, f"processes that read images, on {machine.cores} cores")
    values["amp"] = Choice(machine.halves, _why_amp(machine))
    is_frozen = recipe.weights is not None
    why_frozen = (
        "the first layers of pretrained weights fit all images" if is_frozen else "random weights have to learn"
    )
    backbone: Section = {
        "depth": Choice(recipe.depth, "a GPU can train it" if recipe.depth == 50 else "the smallest, for quick steps"),
        "freeze_at": Choice(0 if is_frozen else -1, why_frozen),
        "freeze_norm": Choice(is_frozen, "the images of a step are few for statistics" if is_frozen else why_frozen),
    }
    if is_frozen:
        why = "factors of the learning rate for res2 to res5, whose weights are good already (a rule of thumb)"
        backbone["lr_mult_list"] = Choice(PRETRAINED_RATES, why)
    values["ResNet"] = backbone
    if recipe.size.channels < MEASURED.channels:
        feature = {"feat_in": recipe.size.channels, "feat_out": recipe.size.channels}
        values["FPN"] = {
            "out_channel": Choice(recipe.size.channels, f"narrow: {MEASURED.channels} would take too long here")
        }
        feature["num_convs"] = recipe.size.convolutions
        values["FCOSHead"] = {"fcos_feat": Choice(feature, f"{width}, as the neck")}
    if data.most_boxes > MAX_OBJECTS:
        most = math.ceil(1.5 * data.most_boxes / 100) * 100
        head = values.setdefault("FCOSHead", {})
        assert isinstance(head, dict)
        head["nms"] = Choice({"keep_top_k": most}, f"an image has up to {data.most_boxes} objects; the base keeps 100")
    why = "images of an update, on all devices: with other numbers, base_lr changes in proportion"
    values["auto_lr"] = Choice({"base_batch_size": recipe.images}, why)
    values["LearningRate"] = {"base_lr": choose_rate(recipe)}
    values |= _data_sections(data, length)
    values["TrainReader"] = {"batch_size": Choice(recipe.batch, _why_batch(machine, data, recipe))}
    return values


def choose_rate(recipe: Recipe) -> Choice:
    """The learning rate: in proportion to the square root of the images of an update, as is usual for AdamW.

    Source: "On the SDEs and Scaling Rules for Adaptive Gradient Algorithms" (Malladi et al., arXiv:2205.10287).
    """
    known = f"{RATES[recipe.base]:g} for {RATE_IMAGES} images " + (
        "was measured from scratch" if recipe.base == BASE else "is a rule of thumb"
    )
    follows = "" if recipe.images == RATE_IMAGES else "; for other numbers by their square root, the rule for AdamW"
    return Choice(round(RATES[recipe.base] * math.sqrt(recipe.images / RATE_IMAGES), 6), known + follows)


def _bases(recipe: Recipe) -> Choice:
    is_small = recipe.base == BASE
    why = "a recipe that was measured on 205 images" if is_small else "a recipe for fine-tuning"
    flips = "flips to the sides" + (" and upside down (TrainReader.sample_transforms)" if is_small else "")
    why = f"{why}: AdamW, a cosine, averaged weights, random sizes, {flips}. This file holds what differs from it"
    if not recipe.has_p2:
        return Choice([recipe.base], why)
    return Choice(
        [recipe.base, P2_BASE], f"{why}. P2 is a level of stride 4, for boxes below {TINY} pixels of the input"
    )


def _data_sections(data: FoundData, length: Length) -> Section:
    train = _paths(data.folder, data.train, f"{counted(data.train.images, 'image')}, {counted(len(data.sides), 'box')}")
    if data.train.empty:
        why = f"{data.train.empty} images have no box: as background, they are a fifth of the images at most"
        train |= {"allow_empty": Choice(True, why), "empty_ratio": Choice(0.2, why)}
    part = data.val or data.train
    why = (
        counted(part.images, "image") if data.val else "THE TRAINING IMAGES: AP on them says nothing about other images"
    )
    val = _paths(data.folder, part, why)
    if length.val_images:
        val["sample_num"] = Choice(length.val_images, "the first ones, since an evaluation of all would take too long")
    test = _paths(data.folder, data.train, "names the classes for infer and export")
    del test["image_dir"]
    return {"TrainDataset": train, "EvalDataset": val, "TestDataset": test}


def _paths(folder: str, part: Part, why: str) -> Section:
    return {
        "dataset_dir": Choice(folder, "relative to the working directory, or absolute"),
        "image_dir": Choice(part.image_dir, "where the images are that the file names"),
        "anno_path": Choice(part.anno_path, why),
    }


def _why_amp(machine: Machine) -> str:
    if machine.is_cpu:
        return "bfloat16, for which this processor has instructions" if machine.halves else "no bfloat16 here"
    return "16-bit numbers, half the memory"


def _why_batch(machine: Machine, data: FoundData, recipe: Recipe) -> str:
    if recipe.batch == data.train.images - data.train.empty:
        return "all images that have boxes"
    if machine.is_cpu:
        return "as measured" if recipe.batch == 4 else f"for {machine.memory or 0:.0f} GiB of memory"
    return f"images on each device, for {machine.device_memory or 8:.0f} GiB"


def _shortened(names: list[str]) -> str:
    text = ", ".join(names[:8])
    return f"{text[:90]}{' …' if len(names) > 8 or len(text) > 90 else ''}"
