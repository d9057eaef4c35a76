"""Defaults of components, as published configurations rely on them: a file that leaves a value out means this one."""

import numpy as np
import pytest

from ppdet.core.registry import get_schema
from ppdet.core.schema import REQUIRED
from ppdet.core.workspace import import_components
from ppdet.modeling.losses.dense_teacher_loss import LOSS_WEIGHT, SSODFCOSLoss

# From PaddleDetection's classes of the same names and the papers; what is ours alone changes nothing by default.
COLOR = {"saturation": [0.5, 1.5, 0.5], "contrast": [0.5, 1.5, 0.5], "brightness": [0.5, 1.5, 0.5]}
READER = {
    "batch_size": 1,
    "use_shared_memory": True,
    "shuffle": None,  # true in training alone, as drop_last
    "drop_last": None,
}
# PaddleDetection's are -1, with which a Mosaic that a file lists does nothing.
JOINING = dict.fromkeys(("mosaic_epoch", "mixup_epoch", "cutmix_epoch"), "85%")
COCO = {
    "data_fields": ["image"],
    "sample_num": -1,
    "load_crowd": False,
    "allow_empty": False,
    "empty_ratio": 1.0,
    "for_evaluation": None,
}
RESIZE = {"keep_ratio": True, "interp": 1}
DEFAULTS = {
    "ResNet": {
        "depth": 50, "variant": "b", "lr_mult_list": [1.0, 1.0, 1.0, 1.0], "groups": 1, "base_width": 64,
        "width_mult": 1.0, "norm_type": "bn", "norm_decay": 0.0, "freeze_norm": True, "freeze_at": 0,
        "return_idx": [1, 2, 3], "dcn_v2_stages": [-1], "num_stages": 4, "std_senet": False,
    },
    "FPN": {
        "spatial_scales": [0.125, 0.0625, 0.03125], "out_channel": 256, "extra_stage": 2, "has_extra_convs": True,
        "use_c5": False, "relu_before_extra_convs": True, "norm_type": None, "freeze_norm": False,
    },
    "FCOS": {"backbone": "ResNet", "neck": "FPN", "fcos_head": "FCOSHead"},
    "FCOSFeat": {
        "feat_in": 256, "feat_out": 256, "num_convs": 4, "norm_type": "gn", "use_dcn": False, "conv_bias": True,
    },
    "FCOSHead": {
        "num_classes": 80, "fcos_feat": "FCOSFeat", "fpn_stride": [8, 16, 32, 64, 128], "prior_prob": 0.01,
        "norm_reg_targets": True, "multiply_strides_reg_targets": False, "centerness_on_reg": True, "num_shift": 0.5,
        "even_locations": False, "sqrt_score": False, "class_threshold": None, "level_top_k": None,
        "clip_boxes": False, "last_pixel": False, "fcos_loss": "FCOSLoss", "nms": "MultiClassNMS",
    },
    "FCOSLoss": {
        "loss_alpha": 0.25, "loss_gamma": 2.0, "iou_loss_type": "giou", "reg_weights": 1.0, "quality": "centerness",
        "iou_smoothing": 1.0, "count_images": False, "label_smoothing": 0.0,
        "average_over_ranks": True,
    },
    "SoftNMS": {
        "method": "gaussian", "sigma": 0.5, "nms_threshold": 0.3, "score_threshold": 0.001, "nms_top_k": 1000,
        "keep_top_k": 100,
    },
    "MultiClassNMS": {"score_threshold": 0.025, "nms_top_k": 1000, "keep_top_k": 100, "nms_threshold": 0.6},
    "COCODataSet": {**COCO, "repeat": 1, "supervised": True},
    "SemiCOCODataSet": {**COCO, "repeat": 1, "supervised": True},
    "ImageFolder": {"dataset_dir": None, "image_dir": None, "anno_path": None, "sample_num": -1},
    "TrainReader": {**READER, **JOINING},
    "EvalReader": {**READER},
    "TestReader": {**READER, "fuse_normalize": False, "inputs_def": None},
    "SemiTrainReader": {
        **JOINING,
        "sup_batch_size": 1, "unsup_batch_size": 1, "shuffle": True, "drop_last": True, "use_shared_memory": True,
    },
    "Gt2FCOSTarget": {
        "object_sizes_boundary": [64, 128, 256, 512], "center_sampling_radius": 1.5,
        "downsample_ratios": [8, 16, 32, 64, 128], "num_shift": 0.5, "multiply_strides_reg_targets": False,
        "norm_reg_targets": True, "inclusive_bounds": False, "min_box_area": 0.0, "even_locations": False,
        "last_pixel": False,
    },
    "NormalizeImage": {
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "is_scale": True, "norm_type": "mean_std",
        "channel_order": "rgb",
    },
    "PadBatch": {"pad_to_stride": 0, "pad_to_size": None},
    "Resize": RESIZE,
    "RandomResize": {**RESIZE, "random_range": False, "random_size": True, "scale_range": None},
    "RandomFlip": {"prob": 0.5},
    "RandomVerticalFlip": {"prob": 0.5},
    "RandomRotate90": {"prob": 0.5},
    "RandomSelect": {"p": 0.5},
    "RandomShortSideResize": {"max_size": None, "interp": 1, "random_interp": False},
    "RandomSizeCrop": {"keep_empty": True},
    "RandomResizeCrop": {
        "prob": 0.5, "mode": "short", **RESIZE, "num_attempts": 3, "cover_all_box": False, "allow_no_crop": False,
        "thresholds": [0.3, 0.5, 0.7], "is_mask_crop": False, "ioumode": "iou",
    },
    "RandomPerspective": {
        "degree": 10, "translate": 0.1, "scale": 0.1, "shear": 10, "perspective": 0.0, "border": [0, 0],
        "fill_value": [114, 114, 114], "area_thr": 0.25,
    },
    "RandomAffine": {
        "degrees": [-10, 10], "translate": [-0.1, 0.1], "scale": [0.5, 1.5], "shear": [-2, 2],
        "fill_value": [114, 114, 114], "area_thr": 0.25,
    },
    "BatchRandomResize": {**RESIZE, "random_size": True, "random_interp": False},
    "RandomCrop": {
        "aspect_ratio": [0.5, 2.0], "thresholds": [0.0, 0.1, 0.3, 0.5, 0.7, 0.9], "scaling": [0.3, 1.0],
        "num_attempts": 50, "allow_no_crop": True, "cover_all_box": False, "prob": 1.0,
    },
    "RandomExpand": {"ratio": 4.0, "prob": 0.5, "fill_value": [127.5, 127.5, 127.5]},
    "RandomDistort": {
        "hue": [-18, 18, 0.5], **COLOR, "random_apply": True, "count": 4, "random_channel": False, "prob": 1.0,
    },
    "RandomColorJitter": {"prob": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
    "RandomErasingCrop": {
        "prob": [0.7, 0.5, 0.3], "area": [(0.05, 0.2), (0.05, 0.2), (0.05, 0.2)],
        "aspect": [(0.3, 3.3), (0.1, 6.0), (0.05, 8.0)],
    },
    "RandomGaussianBlur": {"prob": 0.5, "sigma": [0.1, 2.0]},
    "RandomGrayscale": {"prob": 0.2},
    "Mosaic": {
        "prob": 1.0, "input_dim": None, "degrees": [-10, 10], "translate": [-0.1, 0.1], "scale": [0.1, 2],
        "shear": [-2, 2], "enable_mixup": True, "mixup_prob": 1.0, "mixup_scale": [0.5, 1.5],
    },
    "Mixup": {"alpha": 1.5, "beta": 1.5},
    "Cutmix": {"alpha": 1.5, "beta": 1.5},
    "LearningRate": {"base_lr": 0.01, "schedulers": []},
    "PiecewiseDecay": {"gamma": 0.1, "milestones": [8, 11], "unit": "epoch", "use_warmup": True},
    "CosineDecay": {"min_lr_ratio": 0.0, "use_warmup": True},
    "LinearWarmup": {"steps": 500, "start_factor": 1 / 3, "epochs": None},
    "ConstantWarmup": {"steps": 500, "start_factor": 1 / 3, "epochs": None},
    "ExpWarmup": {"steps": 1000, "epochs": None, "power": 2},
    "OptimizerBuilder": {
        "optimizer": {"type": "Momentum", "momentum": 0.9}, "regularizer": {"type": "L2", "factor": 1e-4},
        "clip_grad_by_norm": None, "clip_grad_by_value": None, "param_groups": None,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults(name):
    import_components()
    parameters = get_schema(name).parameters
    for key, expected in DEFAULTS[name].items():
        found = parameters[key].default
        assert (list(found) if isinstance(found, tuple) else found) == expected, key


def test_the_table_is_whole():
    """Every number, switch and word that a component falls back on is in it, but for what a run gives."""
    import_components()
    given = {
        "num_classes",
        "worker_num",
        "worker_start",
        "seed",
        "rank",
        "world_size",
        "accumulate_steps",
        "level_top_k_of",
    }
    for name, table in DEFAULTS.items():
        for key, parameter in get_schema(name).parameters.items():
            has_value = parameter.default not in (None, REQUIRED) and not parameter.injected
            assert not has_value or np.size(parameter.default) == 0 or key in table or key in given, f"{name}.{key}"


def test_losses_of_unlabeled_images():
    loss = SSODFCOSLoss()
    assert (loss.ratio, loss.gamma) == (0.01, 2.0)
    assert LOSS_WEIGHT == {"distill_loss_cls": 4.0, "distill_loss_box": 1.0, "distill_loss_quality": 1.0}
