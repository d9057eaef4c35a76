"""The semi-supervised files of configs/ and those that users bring from PaddleDetection."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from tiny import write_tiny_coco

from ppdet.core.show import show
from ppdet.core.workspace import load_config
from ppdet.engine.build import build_model, build_train_reader, check_targets
from ppdet.utils.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
FCOS = ROOT / "configs" / "fcos"
SEMI = ROOT / "configs" / "semi_det"

SHORT_SIDES = {"target_size": [[short, 1333] for short in (640, 672, 704, 736, 768, 800)]}
JITTER = {"target_size": [[400, 1333], [1200, 1333]], "random_range": True}
PARTS = "semi_annotations/instances_train2017.1@"
PERCENT_5 = (f"{PARTS}5.json", "train2017", f"{PARTS}5-unlabeled.json")
PERCENT_10 = (f"{PARTS}10.json", "train2017", f"{PARTS}10-unlabeled.json")
FULL = ("annotations/instances_train2017.json", "unlabeled2017", "annotations/instances_unlabeled2017.json")

# The published experiments: labels, images without labels and their file, epochs, snapshot_epoch, log_iter, num_shift,
# distill_loss_cls, sizes.
DENSE_TEACHER = {
    "semi005": (PERCENT_5, 240, 5, 20, 0.5, 4.0, SHORT_SIDES),
    "semi010": (PERCENT_10, 240, 5, 50, 0.0, 4.0, SHORT_SIDES),
    "semi010_lsj": (PERCENT_10, 240, 5, 50, 0.0, 4.0, JITTER),
    "full": (FULL, 24, 2, 100, 0.5, 2.0, SHORT_SIDES),
}
BASELINES = {"sup005": PERCENT_5, "sup010": PERCENT_10}


def dense_teacher_file(name):
    return SEMI / "denseteacher" / f"denseteacher_fcos_r50_fpn_coco_{name}.yml"


def check_detector(config, name):
    head = config.component("FCOSHead")
    assert (config.name, config["architecture"], config["num_classes"]) == (name, "FCOS", 80)
    assert config["weights"] == f"output/{name}/model_final"
    assert config["pretrain_weights"].endswith("/models/pretrained/ResNet50_cos_pretrained.pdparams")
    assert (head["fcos_loss"]["quality"], head["fcos_loss"]["iou_loss_type"]) == ("iou", "giou")
    assert (head["nms"]["score_threshold"], head["nms"]["nms_threshold"]) == (0.025, 0.6)
    for reader in ("EvalReader", "TestReader"):
        reader = config.component(reader)
        assert reader["sample_transforms"][1]["Resize"]["target_size"] == [800, 1333]
        assert reader["batch_transforms"] == [{"PadBatch": {"pad_to_stride": 32}}]
    assert config.component("EvalDataset")["anno_path"] == "annotations/instances_val2017.json"
    assert config.component("LearningRate")["base_lr"] == 0.01
    assert config.component("OptimizerBuilder")["optimizer"] == {"type": "Momentum", "momentum": 0.9}
    return head


@pytest.mark.parametrize("name", DENSE_TEACHER)
def test_dense_teacher(name):
    (labels, folder, unlabeled), epochs, snapshot, log_iter, num_shift, classes, sizes = DENSE_TEACHER[name]
    config = load_config(dense_teacher_file(name))
    head = check_detector(config, f"denseteacher_fcos_r50_fpn_coco_{name}")
    assert config["TrainDataset"] == {
        "name": "SemiCOCODataSet",
        "dataset_dir": "dataset/coco",
        "image_dir": "train2017",
        "anno_path": labels,
        "data_fields": ["image", "gt_bbox", "gt_class", "is_crowd"],
    }
    assert config["UnsupTrainDataset"] == {
        "name": "SemiCOCODataSet",
        "dataset_dir": "dataset/coco",
        "image_dir": folder,
        "anno_path": unlabeled,
        "data_fields": ["image"],
        "supervised": False,
    }
    assert (config["epoch"], config["snapshot_epoch"], config["log_iter"]) == (epochs, snapshot, log_iter)
    assert (config["semi_start_iters"], config["ema_start_iters"]) == (5000, 3000)
    assert (config["use_simple_ema"], config["ema_decay"], config["ssod_method"]) == (True, 0.9996, "DenseTeacher")
    assert config["DenseTeacher"] == {
        "train_cfg": {
            "sup_weight": 1.0,
            "unsup_weight": 1.0,
            "loss_weight": {"distill_loss_cls": classes, "distill_loss_box": 1.0, "distill_loss_quality": 1.0},
            "concat_sup_data": True,
            "norm_statistics": "shared",
            "cutmix_prob": 0.0,
            "suppress": "linear",
            "ratio": 0.01,
            "gamma": 2.0,
        },
        "test_cfg": {"inference_on": "teacher"},
    }
    assert config.component("LearningRate")["schedulers"] == [
        {"name": "PiecewiseDecay", "gamma": 0.1, "milestones": [epochs]},
        {"name": "LinearWarmup", "start_factor": 0.001, "steps": 1000},
    ]
    assert config.component("OptimizerBuilder")["clip_grad_by_value"] == 1.0
    reader = config.component("SemiTrainReader")
    resize = {"RandomResize": {**sizes, "keep_ratio": True, "interp": 1}}
    assert reader["sample_transforms"] == [{"Decode": {}}, resize, {"RandomFlip": {}}]
    strong, normalize = reader["strong_aug"]
    assert reader["weak_aug"] == [normalize]
    assert normalize["NormalizeImage"]["mean"] == [0.485, 0.456, 0.406]
    assert strong["StrongAugImage"]["transforms"] == [
        {"RandomColorJitter": {"prob": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}},
        {"RandomErasingCrop": {}},
        {"RandomGaussianBlur": {"prob": 0.5, "sigma": [0.1, 2.0]}},
        {"RandomGrayscale": {"prob": 0.2}},
    ]
    permute, pad, targets = reader["sup_batch_transforms"]
    assert reader["unsup_batch_transforms"] == [permute, pad] == [{"Permute": {}}, {"PadBatch": {"pad_to_stride": 32}}]
    assert head["num_shift"] == targets["Gt2FCOSTarget"].get("num_shift", 0.5) == num_shift
    assert targets["Gt2FCOSTarget"]["center_sampling_radius"] == 1.5
    assert (reader["sup_batch_size"], reader["unsup_batch_size"]) == (2, 2)
    assert (reader["shuffle"], reader["drop_last"]) == (True, True)


@pytest.mark.parametrize("name", BASELINES)
def test_baseline(name):
    config = load_config(SEMI / "baseline" / f"fcos_r50_fpn_2x_coco_{name}.yml")
    head = check_detector(config, f"fcos_r50_fpn_2x_coco_{name}")
    assert head["num_shift"] == 0.5
    assert config["ssod_method"] is None
    assert config["TrainDataset"] == {
        "name": "COCODataSet",
        "dataset_dir": "dataset/coco",
        "image_dir": "train2017",
        "anno_path": BASELINES[name][0],
        "data_fields": ["image", "gt_bbox", "gt_class"],
    }
    assert (config["epoch"], config["snapshot_epoch"], config["log_iter"]) == (24, 2, 50)
    assert config.component("LearningRate")["schedulers"] == [
        {"name": "PiecewiseDecay", "gamma": 0.1, "milestones": [16, 22]},
        {"name": "LinearWarmup", "start_factor": 0.001, "epochs": 1},
    ]
    resize = config.component("TrainReader")["sample_transforms"][1]["RandomResize"]
    assert resize == {**SHORT_SIDES, "keep_ratio": True, "interp": 1}


@pytest.mark.parametrize("name", DENSE_TEACHER)
def test_what_the_reader_makes_is_what_the_head_takes(name, tmp_path):
    files = {"dataset_dir": write_tiny_coco(tmp_path), "image_dir": "images", "anno_path": "train.json"}
    slots = ("TrainDataset", "UnsupTrainDataset")
    overrides = [f"{slot}.{key}={value}" for slot in slots for key, value in files.items()]
    config = load_config(dense_teacher_file(name), [*overrides, "num_classes=2", "ResNet.depth=18", "worker_num=0"])
    model, reader = build_model(config), build_train_reader(config)
    check_targets(model, reader)
    makers = [transform for transform in reader.batch_transforms if hasattr(transform, "distances_in_strides")]
    assert makers and makers[-1].locations == model.locations and model.locations.strides == (8, 16, 32, 64, 128)
    makers[-1].locations = dataclasses.replace(makers[-1].locations, shift=makers[-1].locations.shift + 0.5)
    with pytest.raises(ConfigError, match=r"num_shift is .* in FCOS"):
        check_targets(model, reader)


# PaddleDetection's data files and experiments: tags with indented mappings, True/False, anchors that become globals of
# their own, braces over several lines, everything restated. Ours have the same values by inheritance.
DATA = """
metric: COCO
num_classes: 80
TrainDataset:
  !SemiCOCODataSet
    image_dir: train2017
    anno_path: {labels}
    dataset_dir: dataset/coco
    data_fields: ['image', 'gt_bbox', 'gt_class', 'is_crowd']
UnsupTrainDataset:
  !SemiCOCODataSet
    image_dir: {folder}
    anno_path: {unlabeled}
    dataset_dir: dataset/coco
    data_fields: ['image']
    supervised: False
EvalDataset:
  !COCODataSet
    {{image_dir: val2017, anno_path: annotations/instances_val2017.json, dataset_dir: dataset/coco, allow_empty: true}}
TestDataset:
  !ImageFolder
    anno_path: annotations/instances_val2017.json # also support txt
    dataset_dir: dataset/coco
"""
READER = """
SemiTrainReader:
  sample_transforms: [Decode: {{}}, RandomResize: {sizes}, RandomFlip: {{}}]
  weak_aug:
    - NormalizeImage: &normal {{mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], is_scale: true}}
  strong_aug:
    - StrongAugImage: {{transforms: [
        RandomColorJitter: {{prob: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1}},
        RandomErasingCrop: {{}},
        RandomGaussianBlur: {{prob: 0.5, sigma: [0.1, 2.0]}},
        RandomGrayscale: {{prob: 0.2}},
      ]}}
    - NormalizeImage: *normal
  sup_batch_transforms:
    - Permute: {{}}
    - PadBatch: {{pad_to_stride: 32}}
    - Gt2FCOSTarget:
        object_sizes_boundary: [64, 128, 256, 512]
        center_sampling_radius: 1.5
        downsample_ratios: [8, 16, 32, 64, 128]
        num_shift: {shift}
        multiply_strides_reg_targets: False
        norm_reg_targets: True
  unsup_batch_transforms: [Permute: {{}}, PadBatch: {{pad_to_stride: 32}}]
  sup_batch_size: 2
  unsup_batch_size: 2
  shuffle: True
  drop_last: True
"""
EXPERIMENT = """
_BASE_: [
  '{base}',
  'data.yml',
]
epochs: &epochs {epochs}
use_warmup: &use_warmup True
log_iter: {log_iter}
snapshot_epoch: {snapshot}
weights: output/denseteacher_fcos_r50_fpn_coco_{name}/model_final
pretrain_weights: https://paddledet.bj.bcebos.com/models/pretrained/ResNet50_cos_pretrained.pdparams
semi_start_iters: 5000
ema_start_iters: 3000
use_simple_ema: True
ema_decay: 0.9996
ssod_method: DenseTeacher
DenseTeacher:
  train_cfg:
    concat_sup_data: True
    suppress: linear
    sup_weight: 1.0
    unsup_weight: 1.0
    loss_weight: {{distill_loss_cls: {classes}, distill_loss_box: 1.0, distill_loss_quality: 1.0}}
    ratio: 0.01
    gamma: 2.0
  test_cfg:
    inference_on: teacher
worker_num: 2
FCOSHead:
  fcos_feat: {{name: FCOSFeat, feat_in: 256, feat_out: 256, num_convs: 4, norm_type: "gn", use_dcn: False}}
  num_shift: {shift}
  multiply_strides_reg_targets: False
  sqrt_score: False
  fcos_loss:
    name: FCOSLoss
    quality: "iou"
    iou_loss_type: "giou"
    loss_alpha: 0.25
    loss_gamma: 2.0
    reg_weights: 1.0
  nms: {{name: MultiClassNMS, nms_top_k: 1000, keep_top_k: 100, score_threshold: 0.025, nms_threshold: 0.6}}
epoch: *epochs
LearningRate:
  base_lr: 0.01
  schedulers:
  - !PiecewiseDecay
    gamma: 0.1
    milestones: [*epochs]
    use_warmup: *use_warmup
  - !LinearWarmup
    start_factor: 0.001
    steps: 1000
OptimizerBuilder:
  optimizer: {{momentum: 0.9, type: Momentum}}
  regularizer: {{factor: 0.0001, type: L2}}
  clip_grad_by_value: 1.0
"""


def effective(config):
    """All values of a configuration, those that are defaults too."""
    values = yaml.safe_load(show(config))
    return {key: value for key, value in values.items() if key not in ("epochs", "use_warmup")}


@pytest.mark.parametrize("name", DENSE_TEACHER)
def test_files_written_for_paddledetection_load_as_they_are(name, tmp_path):
    (labels, folder, unlabeled), epochs, snapshot, log_iter, shift, classes, sizes = DENSE_TEACHER[name]
    data = DATA.format(labels=labels, folder=folder, unlabeled=unlabeled)
    (tmp_path / "data.yml").write_text(data)
    base = FCOS / "fcos_r50_fpn_iou_multiscale_2x_coco.yml"
    text = EXPERIMENT.format(
        base=base, name=name, epochs=epochs, snapshot=snapshot, log_iter=log_iter, shift=shift, classes=classes
    )
    text += READER.format(sizes={**sizes, "keep_ratio": True, "interp": 1}, shift=shift)
    file = tmp_path / dense_teacher_file(name).name
    file.write_text(text)
    theirs, ours = (effective(load_config(path)) for path in (file, dense_teacher_file(name)))
    # They set base_lr themselves, on a layer above our auto_lr: it is not scaled.
    assert theirs["auto_lr"].pop("literal") == ["base_lr"] and ours["auto_lr"].pop("literal") is None
    assert theirs == ours
