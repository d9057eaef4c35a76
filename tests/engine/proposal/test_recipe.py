"""What is chosen for a data set and a machine, and how it is written."""

import re

import numpy as np
import pytest
import yaml

from ppdet.core.workspace import load_config
from ppdet.engine.proposal.fitting import Speed, choose_length, propose
from ppdet.engine.proposal.found_data import FoundData, Part
from ppdet.engine.proposal.machine import Machine
from ppdet.engine.proposal.recipe import SIZES, choose_batch, choose_input, make_recipe
from ppdet.engine.proposal.yaml_text import Choice, render

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
        (CARD, 42.0, (480, 640), (480, 640)),
        (CARD, 20.0, (2000, 3000), (800, 1216)),
    ],
)
def test_the_input_keeps_small_boxes_visible(machine, side, size, expected):
    assert choose_input(data_of(side=side, size=size), machine, 1.0)[0] == expected


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
    arguments = {"name": "cells", "weights": None, "why_weights": "none", "minutes": 60, "measured": False}
    usual, slow = (propose(data_of(), machine, **arguments) for machine in (TWO_CORES, OLD_LAPTOP))
    assert (usual.recipe.size, usual.recipe.input_size, usual.length.epochs) == (SIZES[0], (320, 448), 16)
    assert slow.recipe.size != SIZES[0] and slow.is_enough and max(slow.seconds, usual.seconds) < 3600
    # Two cores trained 2.5 images of 320x427 in a second (docs/RESULTS.md).
    assert 4 / usual.speed.step == pytest.approx(2.5, rel=0.05)


def test_what_the_data_needs_is_written():
    crowded = data_of(empty=20, val=None, most_boxes=130)
    arguments = {"name": "cells", "weights": None, "why_weights": "none", "minutes": 60, "measured": False}
    text = propose(crowded, TWO_CORES, **arguments).text
    found = yaml.load(re.sub(r"!\w+", "", text), yaml.BaseLoader)
    assert found["FCOSHead"]["nms"] == {"keep_top_k": "200"}
    assert (found["TrainDataset"]["allow_empty"], found["TrainDataset"]["empty_ratio"]) == ("true", "0.2")
    assert found["EvalDataset"]["anno_path"] == "train.json"
    assert "THE TRAINING IMAGES: AP on them says nothing about other images" in text


def test_names_from_files_are_values_and_comments_only(tmp_path):
    """Line breaks, comment signs, tags and colors of a terminal in a class's or a folder's name change nothing else."""
    name = "x: {y} # 'z'\n!!python/object\u202e\x1b[31m"
    text = render({"num_classes": Choice(2, name), "save_dir": Choice(name, name)}, f"head {name}")
    (tmp_path / "a.yml").write_text(text, encoding="utf-8")
    cfg = load_config(tmp_path / "a.yml")
    assert cfg["save_dir"] == name and cfg["num_classes"] == 2
    assert "\x1b" not in text and "\u202e" not in text
