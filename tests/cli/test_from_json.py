"""`ppdet from-json`: options of a train.json are in the configuration, and those without a counterpart are named."""

import json

import pytest
from commands import call, execute

from ppdet.cli.from_json import convert
from ppdet.core.workspace import load_config

OPTIONS = {
    "root_train": "/data",
    "load": False,
    "pretrain": False,
    "freeze_bn": False,
    "freeze_stages": 2,
    "epoches": 24,
    "nbatch_train": 12,
    "nbatch_eval": 8,
    "device": [1, 2],
    "num_workers": 6,
    "lr_base": 0.02,
    "lr_gamma": 0.2,
    "lr_schedule": [120000, 160000],
    "momentum": 0.8,
    "weight_decay": 0.001,
    "boxarea_th": 16,
    "grad_clip": 5,
    "img_scale_min": 0.6,
    "other": 1,
}


def run(tmp_path, content, *options):
    (tmp_path / "train.json").write_text(content)
    return execute("tools/from_json.py", tmp_path / "train.json", "--to", tmp_path / "mine.yml", *options)


def test_everything_is_carried_over_or_named(tmp_path):
    result = run(tmp_path, json.dumps(OPTIONS), "--view_size", "641", "--classes", "20")
    assert result.returncode == 0 and result.stderr == ""
    named = [line.split(": ")[1] for line in result.stdout.splitlines() if line.startswith("not carried over")]
    assert named == ["root_train", "load", "device", "other"]

    cfg = load_config(str(tmp_path / "mine.yml"))
    assert (cfg["epoch"], cfg["num_classes"], cfg["worker_num"], cfg["pretrain_weights"]) == (24, 20, 3, None)
    assert cfg["auto_lr"]["base_batch_size"] == 12 and cfg["weights"] == "output/mine/model_final"
    backbone = cfg.component("ResNet")
    assert (backbone["freeze_norm"], backbone["freeze_at"], backbone["depth"]) == (False, 1, 50)
    rate, steps = cfg.create("LearningRate"), 7500
    by_step = [rate.rate(step, steps) for step in (1000, 119999, 120000, 160000)]
    assert by_step == pytest.approx([0.02, 0.02, 0.004, 0.0008])
    optimizer = cfg.component("OptimizerBuilder")
    assert optimizer["optimizer"] == {"type": "Momentum", "momentum": 0.8}
    assert optimizer["regularizer"]["factor"] == 0.001 and optimizer["clip_grad_by_norm"] == 5
    train = cfg.component("TrainReader")
    samples = {kind: values for one in train["sample_transforms"] for kind, values in one.items()}
    batches = {kind: values for one in train["batch_transforms"] for kind, values in one.items()}
    assert samples["RandomResize"]["scale_range"] == [0.6, 1] and samples["RandomResize"]["target_size"] == 641
    assert batches["PadBatch"]["pad_to_size"] == 641 and batches["Gt2FCOSTarget"]["min_box_area"] == 16
    assert train["batch_size"] == 6 and cfg.component("EvalReader")["batch_size"] == 4
    assert cfg.component("TestReader")["batch_transforms"] == [{"PadBatch": {"pad_to_size": 641, "pad_to_stride": 32}}]


def test_an_empty_file_gives_the_recipe_itself(tmp_path):
    (tmp_path / "train.json").write_text("{}")
    call("tools/from_json.py", tmp_path / "train.json", "--to", tmp_path / "mine.yml")
    ours, recipe = load_config(str(tmp_path / "mine.yml")), load_config("configs/fcos/fcos_r50_view1025_12e_coco.yml")
    for component in ("ResNet", "FCOSHead", "OptimizerBuilder", "TrainReader", "EvalReader", "TestReader"):
        assert dict(ours.component(component)) == dict(recipe.component(component))
    for step in (0, 499, 500, 60000, 80000):
        assert ours.create("LearningRate").rate(step, 7500) == recipe.create("LearningRate").rate(step, 7500)


@pytest.mark.parametrize(("device", "workers"), [([0, 1], 8), ("cuda", 2), (None, 2)])
def test_the_devices_divide_the_workers_and_evaluation_has_one_image_on_each(device, workers):
    cfg = convert({"device": device})
    assert cfg["worker_num"] == workers and cfg["EvalReader"]["batch_size"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "expected an object of options"),
        ('{"lr_base": "fast"}', "lr_base is 'fast', expected float"),
        ('{"lr_schedule": [1, "b"]}', "lr_schedule is [1, 'b'], expected numbers"),
        ('{"epoches": -3}', "epoches is -3, expected a number of at least 0"),
        ('{"lr_base": NaN}', "lr_base is nan"),
        ('{"freeze_stages": 99}', "ResNet.freeze_at"),
        ('{"img_scale_min": 5}', "scale_range"),
    ],
)
def test_mistakes_are_one_line(tmp_path, content, message):
    result = run(tmp_path, content)
    assert result.returncode == 2 and message in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "mine.yml").exists()


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "mine.yml").write_text("mine")
    result = run(tmp_path, "{}")
    assert result.returncode == 2 and "exists already" in result.stderr
    assert (tmp_path / "mine.yml").read_text() == "mine"


def test_other_totals_are_told(tmp_path):
    result = run(tmp_path, '{"nbatch_train": 16, "device": [0, 1, 2]}')
    assert "not carried over: 16 images on 3 devices: 5 on each" in result.stdout
