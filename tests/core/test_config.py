"""Loading files and bases, asking a configuration, writing it."""

import logging
import os
from pathlib import Path

import pytest

from ppdet.core.config import merge_config, read_config
from ppdet.core.settings import SETTINGS, SLOTS
from ppdet.utils.errors import ConfigError


def test_later_bases_win_and_the_file_wins_over_all(write):
    write("epoch: 1\nlog_iter: 1\nsave_dir: a\nToyBackbone: {depth: 18}\n", "a.yml")
    write("epoch: 2\nlog_iter: 2\nToyBackbone: {return_idx: [3]}\n", "sub/b.yml")
    write("_BASE_: ../a.yml\nsave_dir: c\n", "sub/c.yml")
    config = read_config(write("_BASE_: [a.yml, sub/b.yml]\nepoch: 3\n"))
    assert (config["epoch"], config["log_iter"], config["save_dir"]) == (3, 2, "a")
    assert config.to_dict()["ToyBackbone"] == {"depth": 18, "return_idx": [3]}
    assert config.origin("epoch") == "x.yml:2"
    assert config.origin("log_iter") == "sub/b.yml:2"
    assert config.origin("ToyBackbone.depth") == "a.yml:4"
    assert read_config("sub/c.yml")["save_dir"] == "c"


def test_a_base_may_be_included_twice_but_not_by_itself(write):
    write("epoch: 1\n", "a.yml")
    write("_BASE_: a.yml\n", "b.yml")
    assert read_config(write("_BASE_: [a.yml, b.yml]\n"))["epoch"] == 1
    write("_BASE_: q.yml\n", "p.yml")
    write("# first\n_BASE_: [p.yml]\n", "q.yml")
    with pytest.raises(ConfigError) as error:
        read_config("p.yml")
    assert str(error.value) == "q.yml:2: _BASE_: the files include each other: p.yml -> q.yml -> p.yml"


def test_home_folder_expands_in_bases(write, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write("epoch: 7\n", "home/base.yml")
    assert read_config(write("_BASE_: ~/base.yml\n"))["epoch"] == 7
    assert read_config("~/base.yml")["epoch"] == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("_BASE_: bse.yml\n", "x.yml:1: _BASE_: no such file 'bse.yml'; did you mean 'base.yml'?"),
        (
            "a: 1\n_BASE_: [base.yml, 3]\n",
            "x.yml:2: _BASE_: expected the path of a YAML file, or a list of them",
        ),
        ("_BASE_: .\n", "x.yml:1: _BASE_: cannot read file"),
        ("_BASE_: latin.yml\n", "x.yml:1: _BASE_: file 'latin.yml' is not UTF-8 text"),
        ("- a\n- b\n", "x.yml:1: expected a mapping of sections and settings"),
        ("just words\n", "x.yml:1: expected a mapping of sections and settings"),
    ],
)
def test_files_that_cannot_be_read(write, text, message):
    write("epoch: 1\n", "base.yml")
    Path("latin.yml").write_bytes(b"save_dir: caf\xe9\n")
    with pytest.raises(ConfigError) as error:
        read_config(write(text))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_missing_file_proposes_the_nearest(write):
    write("epoch: 1\n", "fcos_r50_fpn_1x_coco.yml")
    with pytest.raises(ConfigError) as error:
        read_config("fcos_r50_fpn_1x_cco.yml")
    assert str(error.value) == "fcos_r50_fpn_1x_cco.yml: no such file; did you mean 'fcos_r50_fpn_1x_coco.yml'?"


def test_empty_file_gives_the_defaults(load):
    config = load("")
    assert (config["log_iter"], config["epoch"], config["weights"]) == (20, 12, None)
    assert config.name == "x"
    assert config.path == "x.yml"
    assert config.to_dict() == {}
    assert config.origin("log_iter") == "default"
    assert not config.is_set("log_iter")
    assert set(config) == {*SETTINGS, *SLOTS}


def test_global_settings(load):
    config = load("export: {nms: false}\nx_mine: [1, 2]\n", "log_iter=5")
    assert config["export"] == {"post_process": True, "nms": False, "benchmark": False, "fuse_conv_bn": False}
    assert config["x_mine"] == [1, 2]
    assert config.origin("log_iter") == "-o"
    assert config.origin("export.nms") == "x.yml:1"
    assert config["TrainDataset"] is None
    with pytest.raises(KeyError, match="no global setting 'log_itr'; did you mean 'log_iter'"):
        config["log_itr"]
    with pytest.raises(KeyError):
        config["x_other"]
    assert config.get("x_other", 3) == 3


def test_nested_settings_are_filled_with_defaults_at_every_depth(write):
    write("DenseTeacher: {train_cfg: {ratio: 0.02, loss_weight: {distill_loss_box: 3}}}\n", "a.yml")
    text = "_BASE_: a.yml\nDenseTeacher:\n  train_cfg:\n    loss_weight: {distill_loss_cls: 2.0}\n"
    config = read_config(write(text), ["DenseTeacher.train_cfg.gamma=1.5"])
    weights = {"distill_loss_cls": 2.0, "distill_loss_box": 3, "distill_loss_quality": 1.0}
    assert config["DenseTeacher"] == {
        "train_cfg": {
            "sup_weight": 1.0,
            "unsup_weight": 1.0,
            "loss_weight": weights,
            "concat_sup_data": True,
            "norm_statistics": "shared",
            "cutmix_prob": 0.0,
            "suppress": "linear",
            "ratio": 0.02,
            "gamma": 1.5,
        },
        "test_cfg": {"inference_on": "teacher"},
    }
    origins = {
        "train_cfg": "x.yml:3",
        "train_cfg.gamma": "-o",
        "train_cfg.ratio": "a.yml:1",
        "train_cfg.suppress": "default",
        "train_cfg.loss_weight.distill_loss_cls": "x.yml:4",
        "train_cfg.loss_weight.distill_loss_quality": "default",
        "test_cfg.inference_on": "default",
    }
    assert {key: config.origin(f"DenseTeacher.{key}") for key in origins} == origins
    assert not config.is_set("export.nms")
    with pytest.raises(KeyError, match=r"DenseTeacher\.train_cfg has no 'rato'; did you mean 'ratio'"):
        config.origin("DenseTeacher.train_cfg.rato")


def test_a_nested_setting_that_is_off_stays_off(load):
    assert load("")["auto_lr"] is None
    assert load("auto_lr: {}")["auto_lr"] == {"base_batch_size": 16, "literal": None}
    assert load("DenseTeacher: {train_cfg: {suppress: null}}")["DenseTeacher"]["train_cfg"]["suppress"] is None


def test_changing_a_value_that_was_asked_for_changes_nothing(load):
    config = load("x_mine: [1]\nToyBackbone: {return_idx: [1]}\n")
    config["x_mine"].append(2)
    config["export"]["nms"] = None
    config["DenseTeacher"]["train_cfg"]["loss_weight"]["distill_loss_cls"] = None
    config.component("ToyBackbone")["return_idx"].append(2)
    config.create("ToyBackbone").return_idx.append(3)
    assert config["x_mine"] == [1]
    assert config["export"]["nms"] is True
    assert config["DenseTeacher"]["train_cfg"]["loss_weight"]["distill_loss_cls"] == 4.0
    assert config.create("ToyBackbone").return_idx == [1]


def test_an_empty_section_takes_nothing_away(write):
    write("ToyBackbone: {depth: 18}\nTrainDataset: !ToyFolder {}\n", "a.yml")
    config = read_config(write("_BASE_: a.yml\nToyBackbone:\nTrainDataset:\n"))
    assert config.component("ToyBackbone")["depth"] == 18
    assert config["TrainDataset"] is None


@pytest.mark.parametrize(
    ("key", "origin"),
    [
        ("ToyHead", "x.yml:2"),
        ("ToyHead.loss.alpha", "x.yml:3"),
        ("ToyHead.loss.name", "x.yml:3"),
        ("ToyHead.loss.quality", "x.yml:6"),
        ("ToyHead.loss.weights", "default"),
        ("ToyHead.num_classes", "x.yml:1"),
        ("ToyHead.stride", "default"),
        ("ToyHead.nms.prob", "-o"),
        ("ToyReader.transforms.0.target_size", "x.yml:9"),
        ("ToyReader.transforms.0.ToyResize.interp", "default"),
        ("ToyReader.transforms.1.prob", "default"),
        ("TrainDataset.anno_path", "x.yml:11"),
        ("TrainDataset.fields.0", "default"),
        ("ToyDetector.head", "default"),
        ("ToyDetector.head.num_classes", "x.yml:1"),
        ("weights", "default"),
    ],
)
def test_origin(load, key, origin):
    text = """num_classes: 3
ToyHead:
  loss: {name: ToyLoss, alpha: 1}
  nms: ToyFlip
ToyLoss:
  quality: iou
ToyReader:
  transforms:
  - ToyResize: {target_size: [1, 2]}
  - ToyFlip
TrainDataset: !ToyDataSet {anno_path: a}
"""
    config = load(text, "ToyHead.nms.prob=1")
    assert config.origin(key) == origin
    assert config.is_set(key) == (origin != "default")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("ToyHed.loss", "ToyHed.loss: neither a component nor a global setting; did you mean 'ToyHead'?"),
        ("ToyHead.los", "ToyHead.los: ToyHead has no parameter 'los'; did you mean 'loss'?"),
        ("ToyHead.loss.alhpa", "ToyHead.loss.alhpa: ToyLoss has no parameter 'alhpa'; did you mean 'alpha'?"),
        ("ToyHead.stride.7", "ToyHead.stride.7: ToyHead.stride has no '7'"),
    ],
)
def test_origin_of_what_does_not_exist(load, key, message):
    with pytest.raises(KeyError) as error:
        load("").origin(key)
    assert str(error.value) == message


def test_merge_config_makes_another_one(load):
    config = load("epoch: 1\n")
    other = merge_config(config, {"epoch": 2, "ToyHead.loss.alpha": 0.5}, source="--epochs")
    assert (config["epoch"], other["epoch"]) == (1, 2)
    assert other.origin("epoch") == "--epochs"
    assert other.create("ToyHead", input_shape=[1]).loss.alpha == 0.5
    assert other.name == "x"
    with pytest.raises(ConfigError, match=r"^merge_config: epoch: expected int or null, got 'a' \(text\); meaning: "):
        merge_config(config, {"epoch": "a"})


def test_dump_loads_to_the_same(load):
    text = """
_BASE_: []
save_dir: "1e-4"
weights: ~
x_any: {a: [1.5, yes, "yes", 2024-01-31], 7: [[]]}
ToyReader:
  transforms: [!ToyFlip {prob: 1e-3}, ToyResize: {target_size: [1, 2]}, ToyFlip, name: ToyFlip]
ToyHead: {loss: !ToyLoss {quality: iou}, options: {type: Momentum, "null": "null"}}
TrainDataset: !ToyDataSet {anno_path: "ä: #b"}
"""
    config = load(text, "ToyHead.loss.alpha=2e-5")
    config.dump("dumped.yml")
    again = read_config("dumped.yml")
    assert again.to_dict() == config.to_dict()
    assert again.create("TrainDataset").anno_path == "ä: #b"
    assert again.create("ToyHead", input_shape=[1]).loss.alpha == 2e-5


def test_a_line_break_in_the_name_of_a_file_stays_in_the_comment_of_a_dump(write):
    read_config(write("epoch: 3\n", "a\nepoch: 99\n.yml")).dump("dumped.yml")
    assert read_config("dumped.yml")["epoch"] == 3


def test_settings_without_effect_say_so_once(load, caplog):
    logger = logging.getLogger("ppdet")
    logger.addHandler(caplog.handler)
    try:
        load("filename: x\nprint_flops: false\nuse_gpu: false\nepochs: &e 240\nepoch: *e\n")
    finally:
        logger.removeHandler(caplog.handler)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert messages[0].startswith("x.yml:1: filename changes nothing here: ")
    assert messages[1].startswith("x.yml:4: epochs changes nothing here: ")


def test_two_configurations_live_side_by_side(write):
    a = read_config(write("ToyBackbone: {depth: 18}\nnum_classes: 3\n", "a.yml"))
    b = read_config(write("ToyBackbone: {return_idx: [1]}\n", "b.yml"))
    assert a.create("ToyBackbone").depth == 18
    assert b.create("ToyBackbone").depth == 50
    assert b.create("ToyHead", input_shape=[1]).num_classes == 80
    assert a.create("ToyHead", input_shape=[1]).num_classes == 3


def test_origin_shows_paths_below_the_current_folder_as_relative(write, tmp_path, monkeypatch):
    write("epoch: 1\n", "sub/a.yml")
    assert read_config(str(tmp_path / "sub" / "a.yml")).origin("epoch") == f"sub{os.sep}a.yml:1"
    monkeypatch.chdir(tmp_path / "sub")
    write("", "other/b.yml")
    monkeypatch.chdir(tmp_path / "other")
    assert read_config("../sub/a.yml").origin("epoch") == f"{tmp_path}/sub/a.yml:1"


def test_a_configuration_without_settings(write):
    """Nothing sets them, on no layer; all else is as it was."""
    write("epoch: 5\nlog_iter: 7\n", "a.yml")
    whole = read_config(write("_BASE_: a.yml\nsave_dir: c\nepoch: 6\n"), ["epoch=8"])
    rest = whole.without(["epoch", "device"])
    assert whole["epoch"] == 8 and rest["epoch"] == SETTINGS["epoch"].default and not rest.is_set("epoch")
    assert all(rest.up_to_layer("epoch", layer) == SETTINGS["epoch"].default for layer in range(4))
    assert rest.to_dict() == {"log_iter": 7, "save_dir": "c"}
    for key in ("log_iter", "save_dir"):
        assert (rest.origin(key), rest.layer(key)) == (whole.origin(key), whole.layer(key))
    assert (rest.files, rest.path) == (whole.files, whole.path)
