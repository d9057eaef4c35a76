"""What is chosen for a data set and a machine, and how it is written."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from ppdet.core.workspace import load_config
from ppdet.engine.proposal import fitting
from ppdet.engine.proposal.fitting import Speed, choose_length, estimated_speed, measured_speed, propose
from ppdet.engine.proposal.found_data import FoundData, Part
from ppdet.engine.proposal.level_choice import choose_bounds
from ppdet.engine.proposal.machine import Machine
from ppdet.engine.proposal.recipe import (
    BASE,
    FINETUNE,
    MEASURED,
    PRETRAINED_RATES,
    RATE_IMAGES,
    RATES,
    SIZES,
    WIDE,
    choose_batch,
    choose_input,
    detectors,
    make_recipe,
)
from ppdet.engine.proposal.yaml_text import Choice, render
from ppdet.engine.training.auto_lr import learning_rate
from ppdet.utils import device

TWO_CORES = Machine("cpu", 1, None, 2, 16.0, True)
OLD_LAPTOP = Machine("cpu", 1, None, 1, 3.0, False)
CARD = Machine("gpu", 1, 24.0, 16, 64.0, True)


def data_of(images=205, *, side=42.0, size=(480, 640), val=87, empty=0, **changes):
    """A data set whose boxes all have one size."""
    facts = {
        "name": "cells",
        "folder": "my_data",
        "train": Part("train.json", "images", images, empty),
        "val": Part("val.json", "images", val, 0) if val else None,
        "classes": ["a", "b"],
        "short": float(min(size)),
        "long": float(max(size)),
        "longest_shape": max(size) / min(size),
        "sides": np.full(10, side),
        "most_boxes": 20,
    }
    return FoundData(**{**facts, **changes})


@pytest.mark.parametrize(
    ("machine", "side", "size", "expected"),
    [
        (TWO_CORES, 42.0, (480, 640), (320, 448)),  # 480 * 24 / 42 = 274 is below the least short side
        (TWO_CORES, 20.0, (480, 640), (576, 768)),  # 480 * 24 / 20 = 576
        (TWO_CORES, 6.0, (1080, 1920), (640, 1152)),  # no larger than the machine can do
        (TWO_CORES, 40.0, (96, 128), (96, 128)),  # small images stay as they are
        (TWO_CORES, 5.0, (96, 128), (192, 256)),  # or become twice as large
        (TWO_CORES, 24.0, (120, 1440), (128, 1536)),  # strips keep their boxes, too
        (TWO_CORES, 6.0, (480, 5760), (320, 3840)),  # 320 * 3840 is no more than 640 * 1920
        (CARD, 42.0, (480, 640), (480, 640)),
        (CARD, 20.0, (2000, 3000), (800, 1216)),
    ],
)
def test_the_input_keeps_small_boxes_visible(machine, side, size, expected):
    assert choose_input(data_of(side=side, size=size), machine, 1.0)[0] == expected


def test_the_rates_are_those_of_the_recipes():
    for base, size in ((BASE, MEASURED), (FINETUNE, WIDE)):
        cfg = load_config(base)
        feature = cfg.component("FCOSHead")["fcos_feat"]
        assert cfg.component("LearningRate")["base_lr"] == RATES[base]
        assert cfg["auto_lr"]["base_batch_size"] == RATE_IMAGES
        assert (feature["feat_out"], feature["num_convs"], cfg.component("FPN")["out_channel"]) == (*size[:2], size[0])
    assert cfg.component("ResNet")["lr_mult_list"] == PRETRAINED_RATES


@pytest.mark.parametrize(
    ("machine", "weights", "base", "depth", "size", "batch", "rate"),
    [
        (TWO_CORES, None, BASE, 18, SIZES[0], 4, 0.0007),
        (TWO_CORES, "there.pdparams", BASE, 18, SIZES[0], 4, 0.0007),
        (OLD_LAPTOP, None, BASE, 18, None, 2, 0.000495),  # 0.0007 / sqrt(2)
        (CARD, None, BASE, 18, MEASURED, 8, 0.00099),  # 0.0007 * sqrt(2)
        (CARD, "there.pdparams", FINETUNE, 50, WIDE, 8, 0.000566),
        (CARD._replace(devices=2), "there.pdparams", FINETUNE, 50, WIDE, 16, 0.0008),  # 0.0004 * 2
        (CARD._replace(devices=2, kind="npu"), "there.pdparams", FINETUNE, 50, WIDE, 8, 0.000566),  # started on one
    ],
)
def test_a_machine_and_weights_have_their_recipe(
    monkeypatch, tmp_path, machine, weights, base, depth, size, batch, rate
):
    """What the file says and what its base says are one network; the rate follows the root of the images."""
    monkeypatch.setattr(fitting, "measure", lambda *args, **kwargs: [SimpleNamespace(multiplications=1e8)])
    monkeypatch.setattr(fitting, "build_model", lambda cfg: None)
    proposal = propose(data_of(), machine, name="cells", weights=weights, why_weights="", minutes=None, measured=False)
    (tmp_path / "cells.yml").write_text(proposal.text, encoding="utf-8")
    cfg = load_config(tmp_path / "cells.yml")
    assert f"_BASE_: [{base}]" in proposal.text and size in (None, proposal.recipe.size)
    resnet, feature = cfg.component("ResNet"), cfg.component("FCOSHead")["fcos_feat"]
    assert (resnet["depth"], feature["feat_out"], feature["num_convs"]) == (depth, *proposal.recipe.size[:2])
    assert cfg.component("FPN")["out_channel"] == feature["feat_out"]
    frozen = (resnet["freeze_at"], resnet["freeze_norm"], list(resnet["lr_mult_list"]))
    assert frozen == ((0, True, PRETRAINED_RATES) if weights else (-1, False, [1.0] * 4))
    assert cfg["pretrain_weights"] == weights and cfg["use_ema"] is True
    assert learning_rate(cfg, batch).base_lr == pytest.approx(rate)
    assert cfg.component("OptimizerBuilder")["optimizer"]["type"] == "AdamW"
    assert cfg.component("LearningRate")["schedulers"][0]["max_epochs"] == "100%"


def test_batches_fit_the_machine_and_the_data():
    four_gib = Machine("gpu", 1, 4.0, 8, 16.0, True)
    batches = [choose_batch(*case) for case in ((TWO_CORES, 205), (TWO_CORES, 3), (OLD_LAPTOP, 205), (CARD, 205))]
    assert batches == [4, 3, 2, 8]
    assert (choose_batch(CARD, 50_000), choose_batch(four_gib, 50_000)) == (16, 2)


@pytest.mark.parametrize(
    ("images", "step", "minutes", "expected"),
    [
        (205, 1.6, 60, (16, None, None, True)),  # BCCD's recipe on two cores with bfloat16
        (205, 4.0, 60, (12, None, None, False)),  # a processor less than half as fast
        (20, 0.1, 60, (160, None, None, True)),  # 20 images need 160 epochs of 5 steps to be seen 3,200 times in all
        (1000, 0.8, 60, (7, None, None, True)),  # 6,400 images in all, not 16 epochs with a smaller detector
        (118_000, 0.5, 60, (1, ..., None, False)),
        (118_000, 0.5, None, (4, None, None, True)),
    ],
)
def test_a_run_ends_in_its_time(images, step, minutes, expected):
    data = data_of(images)
    recipe = make_recipe(data, TWO_CORES, SIZES[0], None, "")
    speed = Speed(step, images // 4, True)
    length, is_enough, seconds = choose_length(data, TWO_CORES, recipe, speed, minutes)
    run = min(length.epochs * speed.steps_per_epoch, length.max_iters or 10**9)
    assert seconds > run * step and (minutes is None or seconds < minutes * 60)
    if expected[1] is ...:  # within the first epoch
        assert 4000 < length.max_iters < 2880 / step
        expected = (1, length.max_iters, None, False)
    assert (length.epochs, length.max_iters, length.val_images, is_enough) == expected


def test_an_evaluation_does_not_take_the_whole_hour():
    """10,000 validation images at 0.4 s for training one would take 45 minutes each time."""
    data = data_of(205, val=10_000)
    recipe = make_recipe(data, TWO_CORES, SIZES[0], None, "")
    length, _, seconds = choose_length(data, TWO_CORES, recipe, Speed(1.6, 51, True), 60)
    assert 500 < length.val_images < 1000 and seconds < 3600


def test_a_slow_machine_gets_a_smaller_detector():
    """Its steps are estimated by the network's multiply-adds; the proposal is a configuration that loads."""
    arguments = {"name": "cells", "weights": None, "why_weights": "none", "minutes": 30, "measured": False}
    usual, slow = (propose(data_of(), machine, **arguments) for machine in (TWO_CORES, OLD_LAPTOP))
    assert (usual.recipe.size, usual.recipe.input_size, usual.length.epochs) == (SIZES[0], (320, 448), 16)
    assert slow.recipe.size != SIZES[0] and slow.is_enough and max(slow.seconds, usual.seconds) < 1800
    # Two cores trained 2.5 images of 320x427 in a second (docs/RESULTS.md), with the network of this file.
    recipe = make_recipe(data_of(), TWO_CORES, MEASURED, None, "")
    speed = estimated_speed(load_config("fcos_r18vd_fpn_bccd.yml"), data_of(), TWO_CORES, recipe)
    assert recipe.input_size == (320, 448) and 4 / speed.step == pytest.approx(2.5, rel=0.05)


def sample_of(sides, size):
    """Images with 10 square boxes each, of sides drawn evenly between two numbers of pixels, apart from each other."""
    rng, images = np.random.default_rng(0), []
    for _ in range(20):
        corners = rng.permutation(16)[:10]
        corners = np.stack([corners % 4 * size[1] / 4, corners // 4 * size[0] / 4], axis=1) + rng.uniform(0, 8, (10, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(*sides, (10, 1))], axis=1)
        images.append((boxes.astype(np.float32), np.zeros((10, 1), int), size))
    return images


@pytest.mark.parametrize(
    ("sides", "size", "input_size", "expected"),
    [
        # The largest distance from the center of a square is half its side: 10 to 40 pixels, below the bound of 64.
        ((20, 80), (640, 640), (640, 640), [32, 64, 128, 256]),
        ((800, 3200), (30_000, 40_000), (768, 1024), [32, 64, 128, 256]),  # the same of giant images
        ((60, 300), (1280, 1280), (1280, 1280), None),  # they are on two levels
        ((60, 62), (640, 640), (640, 640), None),  # one size belongs on one level
        ((4, 12), (640, 640), (640, 640), None),  # no bounds help where all boxes are tiny
    ],
)
def test_bounds_follow_from_the_sizes_of_the_boxes(sides, size, input_size, expected):
    data = data_of(sample=sample_of(sides, size))
    bounds, why = choose_bounds(data, input_size, has_p2=False)
    assert bounds == expected and ("one level would have" in why) == (expected is not None)
    assert choose_bounds(data_of(sample=data.sample[:4]), input_size, has_p2=False)[0] is None  # 40 boxes say little
    assert choose_bounds(data_of(), input_size, has_p2=False) == (None, "")


def test_bounds_stay_where_lower_ones_would_miss_boxes():
    """Wide boxes would go to stride 16, where more of the flat ones lie between two rows of locations."""
    bounds = []
    for height in (7, 20):
        sample = [*sample_of((20, 30), (640, 640)), *sample_of((70, 86), (640, 640))]
        for boxes, _, _ in sample:
            boxes[:, 3] = boxes[:, 1] + height
        bounds.append(choose_bounds(data_of(sample=sample), (640, 640), has_p2=False)[0])
    assert bounds == [None, [32, 64, 128, 256]]


def test_tiny_objects_get_the_level_p2(monkeypatch):
    """From 1920x1080 pixels, boxes of 20 become 12: too few for stride 8, and the machine can take no larger input."""
    data = data_of(side=20.0, size=(1080, 1920))
    assert detectors(data, TWO_CORES, has_weights=False) == [(MEASURED, True), *((size, False) for size in SIZES)]
    assert detectors(data_of(), TWO_CORES, has_weights=False) == [(size, False) for size in SIZES]
    assert detectors(data, CARD, has_weights=True) == [(WIDE, True), (WIDE, False)]
    # A step with P2 takes 60 seconds here: it fits where any time will do, and is not even timed where it cannot fit.
    estimates = {True: Speed(60.0, 25, False), False: Speed(0.5, 51, False)}
    monkeypatch.setattr(fitting, "estimated_speed", lambda cfg, data, machine, recipe: estimates[recipe.has_p2])
    timed = []

    def measured(cfg, is_hopeless):
        timed.append(cfg.component("FCOSHead")["fpn_stride"][0])
        return Speed(0.5, 51, True)

    monkeypatch.setattr(fitting, "measured_speed", measured)
    arguments = {"name": "cells", "weights": None, "why_weights": "none"}
    proposal = propose(data, CARD, **arguments, minutes=None, measured=False)
    assert proposal.recipe.has_p2 and (proposal.recipe.batch, choose_batch(CARD, 205)) == (8, 8)
    assert "_BASE_: [fcos_r18vd_small.yml, _base_/p2.yml]" in proposal.text
    text = re.sub(r"\s+(# )?", " ", proposal.text)
    assert "P2 is a level of stride 4, for boxes below 16 pixels of the input" in text
    slow = propose(data, TWO_CORES, **arguments, minutes=60, measured=False)
    assert not slow.recipe.has_p2 and slow.is_enough and "p2.yml" not in slow.text
    assert not propose(data, TWO_CORES, **arguments, minutes=60, measured=True).recipe.has_p2
    assert propose(data, TWO_CORES, **arguments, minutes=None, measured=True).recipe.has_p2
    assert timed == [8, 4]
    machines = (TWO_CORES, OLD_LAPTOP, CARD._replace(device_memory=8.0))
    assert [choose_batch(machine, 205, has_p2=True) for machine in machines] == [4, 2, 2]


def test_steps_are_timed_of_detectors_that_might_fit(monkeypatch):
    """1,750 steps have some 1.5 seconds each. The machine is four times as slow as estimated."""
    estimates = dict(zip(SIZES, (2.5, 1.6, 0.25, 0.1), strict=True))
    wrong = Speed(0.0, 250, False)
    monkeypatch.setattr(
        fitting, "estimated_speed", lambda *args: wrong._replace(step=estimates[args[-1].size], steps_per_epoch=250)
    )
    timed, said = [], []

    def measured(cfg, is_hopeless):
        step = 4 * (2.5, 0.25)[len(timed)]
        timed.append((step, is_hopeless(step)))
        return Speed(step, 250, True)

    monkeypatch.setattr(fitting, "measured_speed", measured)
    arguments = {"name": "cells", "weights": None, "why_weights": "none", "minutes": 60, "measured": True}
    proposal = propose(data_of(1000), TWO_CORES, **arguments, tell=said.append)
    # Half of 1.6 s would fit, but not after 10 s in place of 2.5 were timed.
    assert timed == [(10.0, True), (1.0, False)] and proposal.recipe.size == SIZES[2]
    assert [text.split(",")[1] for text in said] == [
        " 2 convolutions of 128 channels …",
        " 2 convolutions of 64 channels …",
    ]
    assert said[0].startswith("timing training steps: 4 images of 448x320")


@pytest.mark.parametrize(
    ("seconds", "kind", "limit", "expected"),
    [
        ([3, 2, 1, 5, 0], "cpu", 9, (1, 4)),  # the quickest of four
        ([12, 2, 1, 5, 0], "cpu", 9, (12, 1)),  # the first one is enough
        ([12, 2, 1, 5, 0], "gpu", 9, (1, 4)),  # elsewhere the first one says nothing
        ([30, 31, 1, 5, 0], "cpu", 99, (30, 2)),
    ],
)
def test_few_slow_steps_are_timed(monkeypatch, seconds, kind, limit, expected):
    left, calls = iter(seconds), []
    monkeypatch.setattr(fitting, "Trainer", lambda cfg: SimpleNamespace(steps_per_epoch=7))
    monkeypatch.setattr(fitting, "keep_largest_sizes", lambda trainer: calls.append("largest"))
    monkeypatch.setattr(fitting, "prepare_step", lambda trainer: calls.append("read"))
    monkeypatch.setattr(fitting, "timed_step", lambda trainer: next(left))
    monkeypatch.setattr(device, "device_type", lambda: kind)
    step, count = expected
    assert measured_speed(None, lambda first: first > limit) == Speed(step, 7, True)
    assert len(seconds) - len(list(left)) == count
    assert calls == ["largest", "read"]  # a step with the largest of random sizes, so that no run takes longer


def test_the_time_of_a_step_follows_the_levels(tmp_path):
    """P2 adds, at each of its locations, a lateral convolution, five 3x3 ones of 128 channels, and 8 outputs."""
    data = data_of(side=20.0, size=(1080, 1920))
    recipe = make_recipe(data, CARD, MEASURED, None, "")
    steps = []
    for bases in ("[fcos_r18vd_small]", "[fcos_r18vd_small, _base_/p2.yml]"):
        (tmp_path / "a.yml").write_text(f"_BASE_: {bases}\n")
        steps.append(estimated_speed(load_config(tmp_path / "a.yml"), data, CARD, recipe).step)
    short, long = recipe.input_size
    more = short * long / 4**2 * (64 * 128 + 5 * 9 * 128 * 128 + 8 * 9 * 128)
    assert steps[1] - steps[0] == pytest.approx(more / 1e9 * 0.0005 * recipe.batch, rel=0.02)


def test_what_the_data_needs_is_written():
    crowded = data_of(empty=20, val=None, most_boxes=130, sample=sample_of((14, 80), (480, 640)))
    arguments = {"name": "cells", "weights": None, "why_weights": "none", "minutes": 60, "measured": False}
    text = propose(crowded, TWO_CORES, **arguments).text
    found = yaml.load(re.sub(r"!\w+", "", text), yaml.BaseLoader)
    assert found["FCOSHead"]["nms"] == {"keep_top_k": "200"}
    assert (found["TrainDataset"]["allow_empty"], found["TrainDataset"]["empty_ratio"]) == ("true", "0.2")
    assert found["EvalDataset"]["anno_path"] == "train.json"
    assert found["object_sizes_boundary"] == ["32", "64", "128", "256"]
    assert "THE TRAINING IMAGES: AP on them says nothing about other images" in text


def test_names_from_files_are_values_and_comments_only(tmp_path):
    """Line breaks, comment signs, tags and colors of a terminal in a class's or a folder's name change nothing else."""
    name = "x: {y} # 'z'\n!!python/object\u202e\x1b[31m"
    text = render({"num_classes": Choice(2, name), "save_dir": Choice(name, name)}, f"head {name}")
    (tmp_path / "a.yml").write_text(text, encoding="utf-8")
    cfg = load_config(tmp_path / "a.yml")
    assert cfg["save_dir"] == name and cfg["num_classes"] == 2
    assert "\x1b" not in text and "\u202e" not in text
