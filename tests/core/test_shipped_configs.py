"""The YAML files of configs/ and those that users bring from PaddleDetection."""

from pathlib import Path

import numpy as np
import pytest
from small_configs import narrower

from ppdet.core.workspace import load_config
from ppdet.engine.checkpoints.weights import fill
from ppdet.engine.input_levels import configured_levels
from ppdet.modeling.backbones import resnet

ROOT = Path(__file__).resolve().parents[2]
FCOS = ROOT / "configs" / "fcos"
RESIZE_800 = {"target_size": [800, 1333], "keep_ratio": True, "interp": 1}
SHORT_SIDES = (640, 672, 704, 736, 768, 800)

# The published recipes: deformable, variant, quality, epochs, milestones, warm-up (steps, start), padding.
RECIPES = {
    "fcos_r50_fpn_1x_coco": (False, "b", "centerness", 12, [8, 11], (500, 1 / 3), 128),
    "fcos_r50_fpn_iou_1x_coco": (False, "b", "iou", 12, [8, 11], (500, 1 / 3), 32),
    "fcos_dcn_r50_fpn_1x_coco": (True, "b", "centerness", 12, [8, 11], (500, 1 / 3), 128),
    "fcos_r50_fpn_multiscale_2x_coco": (False, "b", "centerness", 24, [16, 22], (500, 1 / 3), 128),
    "fcos_r50_fpn_iou_multiscale_2x_coco": (False, "b", "iou", 24, [16, 22], (1000, 0.001), 32),
    "fcos_r50vd_ssld_fpn_1x_coco": (False, "d", "centerness", 12, [8, 11], (500, 1 / 3), 128),
    "fcos_r50vd_ssld_fpn_iou_1x_coco": (False, "d", "iou", 12, [8, 11], (500, 1 / 3), 32),
    "fcos_r50vd_ssld_fpn_multiscale_2x_coco": (False, "d", "centerness", 24, [16, 22], (500, 1 / 3), 128),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipe(name):
    deformable, variant, quality, epochs, milestones, (steps, start), padding = RECIPES[name]
    config = load_config(FCOS / f"{name}.yml")
    resnet, head = config.component("ResNet"), config.component("FCOSHead")
    assert (config.name, config["architecture"], config["num_classes"]) == (name, "FCOS", 80)
    assert config["weights"] == f"output/{name}/model_final"
    weights = "ResNet50_vd_ssld_v2_pretrained" if variant == "d" else "ResNet50_cos_pretrained"
    assert config["pretrain_weights"] == f"https://paddledet.bj.bcebos.com/models/pretrained/{weights}.pdparams"
    assert (resnet["depth"], resnet["variant"], resnet["freeze_at"]) == (50, variant, 0)
    assert list(resnet["return_idx"]) == [1, 2, 3]
    if variant == "d":
        assert resnet["lr_mult_list"] == [0.05, 0.05, 0.1, 0.15]
    assert (list(resnet["dcn_v2_stages"]) == [1, 2, 3]) is deformable
    assert head["fcos_feat"]["use_dcn"] is deformable
    assert head["fcos_loss"].get("quality", "centerness") == quality
    assert (head["fcos_loss"]["iou_loss_type"], head["num_shift"], head["norm_reg_targets"]) == (
        "giou",
        0.5,
        True,
    )
    assert (head["nms"]["score_threshold"], head["nms"]["nms_threshold"]) == (0.025, 0.6)
    assert config["epoch"] == epochs
    rate = config.component("LearningRate")
    assert rate["base_lr"] == 0.01
    assert rate["schedulers"][0] == {"name": "PiecewiseDecay", "gamma": 0.1, "milestones": milestones}
    assert rate["schedulers"][1] == {
        "name": "LinearWarmup",
        "steps": steps,
        "start_factor": pytest.approx(start),
    }
    assert config.component("OptimizerBuilder")["regularizer"] == {"type": "L2", "factor": 1e-4}
    check_readers(config, epochs, padding)


def check_readers(config, epochs, padding):
    train, evaluation, test = (config.component(f"{mode}Reader") for mode in ("Train", "Eval", "Test"))
    assert train["batch_size"] == 2
    resize = train["sample_transforms"][1]
    if epochs == 24:
        sizes = [[short, 1333] for short in SHORT_SIDES]
        assert resize == {"RandomResize": {"target_size": sizes, "keep_ratio": True, "interp": 1}}
    else:
        assert resize == {"Resize": RESIZE_800}
    assert train["batch_transforms"][1] == {"PadBatch": {"pad_to_stride": padding}}
    assert train["batch_transforms"][2]["Gt2FCOSTarget"]["center_sampling_radius"] == 1.5
    for reader in (evaluation, test):
        assert reader["sample_transforms"][1] == {"Resize": RESIZE_800}
        assert reader["batch_transforms"] == [{"PadBatch": {"pad_to_stride": padding}}]
    assert test["fuse_normalize"] is True


def test_every_shipped_file_loads_and_survives_a_dump(tmp_path):
    files = [file for file in sorted((ROOT / "configs").rglob("*.yml")) if "_base_" not in file.parts]
    files.remove(ROOT / "configs" / "zoo.yml")
    assert len(files) >= len(RECIPES)
    for file in files:
        config = load_config(file)
        config.dump(tmp_path / file.name)
        assert load_config(tmp_path / file.name).to_dict() == config.to_dict()


def test_published_detectors_are_a_start_of_fine_tuning(monkeypatch):
    """With the override that the file names, all weights fit but those of the classes; a quarter of the channels."""
    channels, narrow = narrower(FCOS / "fcos_r50vd_ssld_finetune.yml")
    monkeypatch.setattr(resnet, "STAGE_CHANNELS", channels)
    ours = load_config("fcos_r50vd_ssld_finetune", ["ResNet.variant=b", "num_classes=3", *narrow]).create("FCOS")
    theirs = load_config("fcos_r50_fpn_1x_coco", narrow).create("FCOS").state_dict()
    arrays = {name: np.full(value.shape, 0.5, np.float32) for name, value in theirs.items()}
    report = fill(ours, arrays, strict=False, source="published")
    classes = ["fcos_head.fcos_head_cls.bias", "fcos_head.fcos_head_cls.weight"]
    assert not report.missing and not report.unexpected and sorted(report.mismatched) == classes
    weights = [(name, p) for name, p in ours.named_parameters() if name.startswith("backbone.")]
    frozen = {name.split(".")[1] for name, p in weights if p.stop_gradient and ".norm." not in name}
    assert frozen == {"conv1", "res2"} and all(p.stop_gradient for name, p in weights if ".norm." in name)


# What PaddleDetection's files hold beyond ours: tags with indented mappings, True/False, anchors that
# become globals of their own, devices that we do not have, every parameter restated.
FROM_PADDLEDETECTION = """
_BASE_: [
  '{fcos}/fcos_r50_fpn_iou_multiscale_2x_coco.yml',
]
use_xpu: false
use_mlu: False
use_npu: false
print_flops: false
print_params: false
find_unused_parameters: True
uniform_output_enabled: false
log_iter: 50
epochs: &epochs 240
use_warmup: &use_warmup True
epoch: *epochs
weights: output/another/model_final
TrainDataset:
  !COCODataSet
    image_dir: train2017
    anno_path: semi_annotations/instances_train2017.1@10.json
    dataset_dir: dataset/coco
    data_fields: ['image', 'gt_bbox', 'gt_class']
TestDataset:
  !ImageFolder
    anno_path: annotations/instances_val2017.json # also support txt
    dataset_dir: dataset/coco
FCOSHead:
  fcos_loss: FCOSLoss
  num_shift: 0. # default 0.5
  multiply_strides_reg_targets: False
  sqrt_score: False
  nms:
    name: MultiClassNMS
    nms_top_k: 1000
    keep_top_k: 100
    score_threshold: 0.05
    nms_threshold: 0.6
LearningRate:
  base_lr: 0.01
  schedulers:
  - !PiecewiseDecay
    gamma: 0.1
    milestones: [*epochs]
    use_warmup: *use_warmup
  - !LinearWarmup
    start_factor: 0.001
    epochs: 1
OptimizerBuilder:
  optimizer:
    momentum: 0.9
    type: Momentum
  regularizer:
    factor: 0.0001
    type: L2
  clip_grad_by_value: 1.0
"""


def test_files_written_for_paddledetection_load_as_they_are(tmp_path):
    file = tmp_path / "theirs.yml"
    file.write_text(FROM_PADDLEDETECTION.format(fcos=FCOS))
    overrides = [
        "TrainDataset.dataset_dir=/data",
        "TestDataset.dataset_dir=/data",
        "LearningRate.schedulers.0.gamma=0.2",
        "TrainReader.sample_transforms.1.RandomResize.target_size=[640,640]",
        "FCOSHead.fcos_loss.quality=iou",
    ]
    config = load_config(file, overrides)
    train = config.component("TrainDataset")
    assert (train["dataset_dir"], train["image_dir"]) == ("/data", "train2017")
    assert config.component("TestDataset")["dataset_dir"] == "/data"
    schedulers = config.component("LearningRate")["schedulers"]
    assert schedulers[0] == {"name": "PiecewiseDecay", "gamma": 0.2, "milestones": [240], "use_warmup": True}
    resize = config.component("TrainReader")["sample_transforms"][1]
    assert resize["target_size"] == [640, 640]
    assert config.component("FCOSHead")["fcos_loss"] == {"name": "FCOSLoss", "quality": "iou"}
    assert config.origin("FCOSHead.fcos_loss.loss_alpha") == "default"


@pytest.mark.parametrize(
    "base", ["fcos_r18vd_fpn_bccd", "fcos_r18vd_bccd_sup010", "denseteacher_fcos_r18vd_bccd_semi010"]
)
def test_a_base_adds_the_level_p2_to_an_experiment(tmp_path, base):
    """One line for the backbone, the head and the targets. A folder's own file of that name comes first."""
    path = tmp_path / "mine.yml"
    path.write_text(f"_BASE_: [{base}, _base_/p2.yml]\n")
    _, target = configured_levels(load_config(path))
    bounds = [-1, 32, 64, 128, 256, 512, float("inf")]
    assert target.locations.strides == (4, 8, 16, 32, 64, 128)
    assert [*target.low.tolist(), target.high[-1]] == bounds and target.radius == 1.5
    assert load_config(path).create("FCOS").locations == target.locations
    (tmp_path / "_base_").mkdir()
    (tmp_path / "_base_" / "p2.yml").write_text("epoch: 77\n")
    assert load_config(path)["epoch"] == 77
