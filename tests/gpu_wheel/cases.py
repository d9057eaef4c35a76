"""The recorded cases: every configuration, and options beyond them."""

from record import EXPORT
from small_configs import CONFIGS

SMALL = "fcos_r18_fpn_shapes"
LOSS = "FCOSHead.fcos_loss"
# Configurations whose exported graph is run, too: plain, deformable, group norm, IoU, PaddleDetection's variants.
EXPORTED = (
    "denseteacher_fcos_r18vd_bccd_semi010",
    "fcos_dcn_r50_fpn_1x_coco",
    "fcos_r18_fpn_shapes",
    "fcos_r50_caffe_fpn_gn_tricks_dcn_1x_coco",
    "fcos_r50_fpn_iou_1x_coco",
    "fcosplus_r50_fpn_1x_coco",
)
BUILDER = "OptimizerBuilder"
# By name: the configuration, and options.
VARIANTS = {
    "SGD with L1, clipped by value": (
        SMALL,
        [
            f"{BUILDER}.optimizer={{type: SGD, weight_decay: null}}",
            f"{BUILDER}.regularizer={{type: L1, factor: 0.001}}",
            f"{BUILDER}.clip_grad_by_norm=null",
            f"{BUILDER}.clip_grad_by_value=0.1",
        ],
    ),
    "Adam, clipped by norm": (
        SMALL,
        [f"{BUILDER}.optimizer={{type: Adam, weight_decay: null}}", f"{BUILDER}.clip_grad_by_norm=5.0"],
    ),
    "AdamW": (SMALL, [f"{BUILDER}.optimizer={{type: AdamW, weight_decay: 0.05}}"]),
    "Nesterov": (
        SMALL,
        [f"{BUILDER}.optimizer={{type: Momentum, momentum: 0.9, use_nesterov: true, weight_decay: null}}"],
    ),
    "two batches a step": (SMALL, ["accumulate_steps=2", "TrainReader.batch_size=1"]),
    "IoU loss": (SMALL, [f"{LOSS}.iou_loss_type=iou"]),
    "linear IoU loss, IoU as quality": (SMALL, [f"{LOSS}.iou_loss_type=linear_iou", f"{LOSS}.quality=iou"]),
    "trained batch norms": (SMALL, ["ResNet.freeze_norm=false", "ResNet.freeze_at=-1"]),
    "statistics alone frozen": (SMALL, ["ResNet.freeze_norm=statistics", "ResNet.freeze_at=-1"]),
    "group norm in backbone and neck": (SMALL, ["ResNet.norm_type=gn", "FPN.norm_type=gn"]),
}
# A kernel that a case is there for, so that none records less than it says.
SIGNS = {
    "SGD with L1, clipped by value": ("sgd", "sign", "clip"),
    "Adam, clipped by norm": ("adam", "squared_l2_norm"),
    "AdamW": ("adamw",),
    "trained batch norms": ("batch_norm", "batch_norm_grad", "pool2d_grad"),
    "group norm in backbone and neck": ("group_norm", "group_norm_grad"),
    "fcos_dcn_r50_fpn_1x_coco": ("deformable_conv", "deformable_conv_grad"),
    "fcos_x101_64x4d_fpn_gn_ms_2x_coco": ("conv2d_grad", "group_norm_grad"),
    "fcos_r50_fpn_1x_coco": ("conv2d", "conv2d_grad", "momentum", "multiclass_nms3", "pool2d"),
    "denseteacher_fcos_r18vd_bccd_semi010": ("topk", "batch_norm_grad", "multiclass_nms3"),
}


def cases() -> dict[str, tuple[str, list[str]]]:
    """Configuration and options by name."""
    paths = {path.stem: str(path) for path in CONFIGS}
    found = {f"{name} {EXPORT}" if name in EXPORTED else name: (path, []) for name, path in paths.items()}
    return found | {name: (paths[config], options) for name, (config, options) in VARIANTS.items()}
