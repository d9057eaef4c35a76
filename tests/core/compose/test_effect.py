"""Settings of this run that have no effect are reported, with the setting that is used instead."""

from pathlib import Path

import pytest

from ppdet.core.show import show
from ppdet.core.workspace import load_config, merge_config
from ppdet.data.sources import ImageFolder
from ppdet.utils.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
COCO = ROOT / "configs/fcos/fcos_r50_fpn_1x_coco.yml"
SEMI = ROOT / "configs/semi_det/denseteacher/denseteacher_fcos_r50_fpn_coco_semi010.yml"


def warnings(log):
    return [r.getMessage() for r in log.records if r.levelname == "WARNING"]


@pytest.mark.parametrize(
    ("option", "advice"),
    [
        ("TrainReader.worker_num=5", "set the global setting worker_num instead"),
        ("EvalReader.seed=7", "set the global setting seed instead"),
        ("TestReader.rank=1", "it follows from the devices"),
        ("SemiTrainReader.accumulate_steps=2", "set the global setting accumulate_steps instead"),
        ("TrainReader.dataset=x", "set TrainDataset, EvalDataset or TestDataset instead"),
        ("FPN.in_channels=[1, 2, 3]", "it follows from the backbone's maps"),
        ("EvalReader.fuse_normalize=true", "set it in TestReader"),
        ("TrainReader.collate_batch=false", "always padded"),
    ],
)
def test_what_the_program_supplies_is_neither_set_nor_shown(log, tmp_path, option, advice):
    key, value = option.split("=")
    with pytest.raises(ConfigError, match=f"^-o: {key}: changes nothing here: .*{advice}[^\n]*$"):
        load_config(COCO, [option])
    # A file of another project that sets it still loads, and the log tells it once.
    component, name = key.split(".")
    path = tmp_path / "own.yml"
    path.write_text(f"_BASE_: [{COCO}]\n{component}: {{{name}: {value}}}\n")
    config = load_config(path)
    told = [line for line in warnings(log) if f"{key} changes nothing here" in line]
    assert len(told) == (0 if value == "false" else 1)
    assert name not in config.component(component) and name not in shown_section(config, component)


def shown_section(config, component):
    """The names of the parameters that `ppdet config` shows for a component."""
    text = show(config)
    section = text[text.index(f"\n{component}:") + 1 :].split("\n\n")[0]
    return [line.strip().split(":")[0] for line in section.splitlines() if line.startswith("  ")]


def test_a_parameter_of_the_program_gets_its_value_from_the_caller(tmp_path):
    (tmp_path / "image.jpg").write_bytes(b"")
    reader = load_config(COCO).create("EvalReader", dataset=ImageFolder(dataset_dir=str(tmp_path)), worker_num=3)
    assert reader.worker_num == 3


@pytest.mark.parametrize(
    ("path", "option", "expected"),
    [
        (COCO, "FCOSLoss.loss_alpha=0.5", "FCOSLoss.loss_alpha changes nothing: FCOSHead.fcos_loss.loss_alpha, 0.25 ("),
        (COCO, "MultiClassNMS.keep_top_k=9", "changes nothing: FCOSHead.nms.keep_top_k, 100 ("),
        (COCO, "CosineDecay.max_epochs=9", "CosineDecay.max_epochs changes nothing: nothing uses CosineDecay"),
        (COCO, "SemiTrainReader.sup_batch_size=9", "changes nothing: nothing uses SemiTrainReader"),
        (
            SEMI,
            "TrainReader.batch_size=9",
            "TrainReader.batch_size changes nothing: with ssod_method SemiTrainReader tr",
        ),
        (COCO, "semi_start_iters=9", "semi_start_iters changes nothing without ssod_method"),
        (COCO, "DenseTeacher.train_cfg.ratio=0.1", "DenseTeacher changes nothing without ssod_method"),
        (COCO, "ema_decay=0.9", "ema_decay changes nothing without use_ema or use_simple_ema"),
        (COCO, "amp_level=O2", "amp_level changes nothing without amp"),
        (COCO, "vdl_log_dir=x", "vdl_log_dir changes nothing without use_vdl"),
    ],
)
def test_told_once_with_what_counts(log, path, option, expected):
    load_config(path, [option])
    (line,) = warnings(log)
    assert line.startswith("-o: ") and expected in line
    log.clear()
    key, _, value = option.partition("=")
    values = {key: value if value in ("x", "O2") else float(value) if "." in value else int(value)}
    merged = merge_config(load_config(path), values)
    assert warnings(log)[0].startswith("merge_config: ") and expected in warnings(log)[0]
    log.clear()
    merge_config(merged, {"epoch": 3})
    assert not warnings(log)


@pytest.mark.parametrize(
    "options",
    [
        ["FCOSHead.fcos_loss.loss_alpha=0.5", "ResNet.depth=18", "FPN.out_channel=9", "EvalReader.batch_size=9"],
        ["LearningRate.schedulers.0.gamma=0.2", "OptimizerBuilder.clip_grad_by_norm=9", "TrainReader.batch_size=9"],
        ["LearningRate.schedulers=[CosineDecay]", "CosineDecay.max_epochs=12"],
        ["FCOSLoss.iou_smoothing=0.5"],  # what the loss's place leaves open comes from its section
        ["NormalizeImage.norm_type=none"],
        ["amp=true", "amp_level=O2", "use_ema=true", "ema_decay=0.9", "use_vdl=true", "vdl_log_dir=x"],
        ["TrainDataset.dataset_dir=x", "TestReader.sample_transforms.1.Resize.interp=2", "num_classes=3"],
    ],
)
def test_what_counts_is_not_told(log, options):
    load_config(COCO, options)
    assert not warnings(log)


def test_files_may_say_what_other_runs_use(log):
    """One file serves many runs; only what is set for this one is looked at."""
    assert load_config(SEMI)["ssod_method"] == "DenseTeacher"
    assert not warnings(log)


def test_parameters_of_paddledetection_that_change_nothing(load, log):
    text = "ToyReader: {transforms: [ToyFlip: {prob: 1, trt: true}, ToyFlip: {trt: false}]}"
    flips = load(text).create("ToyReader", dataset=1).transforms
    assert [flip.prob for flip in flips] == [1, 0.5]
    key = "ToyReader.transforms.0.trt"
    assert warnings(log) == [f"x.yml:1: {key} changes nothing here: flips need no TensorRT"]
    with pytest.raises(ConfigError, match=r"^-o: ToyFlip\.trt: changes nothing here: flips need no TensorRT$"):
        load("", "ToyFlip.trt=true")


@pytest.mark.parametrize(("scales", "warnings"), [("[0.125, 0.0625, 0.03125]", 0), ("[0.25, 0.0625, 0.03125]", 1)])
def test_paddledetections_files_set_scales_that_follow_from_the_backbone(log, tmp_path, scales, warnings):
    """Its own FCOS files list FPN's default, of which nothing has to be said."""
    (tmp_path / "a.yml").write_text(f"_BASE_: fcos_r18_fpn_shapes\nFPN: {{spatial_scales: {scales}}}\n")
    load_config(tmp_path / "a.yml")
    assert log.text.count("FPN.spatial_scales changes nothing here") == warnings


def test_levels_of_a_transform_win_over_the_global_ones(tmp_path, log):
    """A warning names the place of the value that wins; a value of -o that changes nothing is an error."""
    (tmp_path / "a.yml").write_text("_BASE_: [fcos_r50_fpn_1x_coco, _base_/p2.yml]\n")
    with pytest.raises(ConfigError, match=r"-o: object_sizes_boundary: changes nothing here: .*fcos_reader.yml:14"):
        load_config(tmp_path / "a.yml", ["object_sizes_boundary=[32,64]"])
    log.clear()
    load_config(tmp_path / "a.yml")
    assert log.text.count("changes nothing here: TrainReader.batch_transforms.2.") == 2
    log.clear()
    same = ["downsample_ratios=[4,8,16,32,64,128]", "object_sizes_boundary=[32,64,128,256,512]"]
    load_config(tmp_path / "a.yml", [f"TrainReader.batch_transforms.2.{option}" for option in same])
    assert "changes nothing" not in log.text
