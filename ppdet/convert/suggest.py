"""Guesses which published configuration a converted file was trained with."""

import re
from typing import NamedTuple

from ppdet.convert.conversion import Conversion
from ppdet.convert.named_arrays import Checkpoint

CAFFE_IMAGES = "images in BGR from 0 to 255, mean 103.53, 116.28, 123.675, std 1"
RGB_IMAGES = "images as in fcos_r50_fpn_1x_coco"
STYLE = re.compile(r"style['\"]?\s*[=:]\s*['\"](caffe|pytorch)['\"]")


class Row(NamedTuple):
    """The properties of a published detector by which its file is recognized.

    Attributes:
        code_base: a key of CODE_BASES.
        depth, groups: depth of the ResNet, and groups of its 3x3 convolutions.
        tower_bias: whether the convolutions of the towers have biases.
        deformable: whether some stages of the backbone are deformable.
        style: MMDetection's word for the layer with a block's stride: "caffe" the first 1x1 convolution, "pytorch" the
            3x3 convolution. A file whose own configuration has the other style is of another detector.
        configurations: names of the configurations here that fit.
    """

    code_base: str
    depth: int
    groups: int
    tower_bias: bool
    deformable: bool
    style: str
    configurations: tuple[str, ...]


# The four FCOSPlus recipes of a ResNet-50 differ in their losses only.
PLUS_50 = tuple(f"fcosplus_r50_fpn_1x{loss}_coco" for loss in ("", "_center", "_center_liou", "_center_giou"))
TABLE = (
    Row("mmdet", 50, 1, False, False, "caffe", ("fcos_r50_caffe_fpn_gn_1x_coco", "fcos_r50_caffe_fpn_gn_ms_2x_coco")),
    Row("mmdet", 50, 1, True, False, "caffe", ("fcos_r50_caffe_fpn_gn_tricks_1x_coco",)),
    Row("mmdet", 50, 1, True, True, "caffe", ("fcos_r50_caffe_fpn_gn_tricks_dcn_1x_coco",)),
    Row("mmdet", 101, 1, False, False, "caffe", tuple(f"fcos_r101_caffe_fpn_gn_{s}_coco" for s in ("1x", "ms_2x"))),
    Row("mmdet", 101, 64, False, False, "pytorch", ("fcos_x101_64x4d_fpn_gn_ms_2x_coco",)),
    Row("fcos_plus", 50, 1, True, False, "caffe", PLUS_50),
    Row(
        "fcos_plus",
        101,
        1,
        True,
        False,
        "caffe",
        ("fcosplus_r101_fpn_2x_coco", "fcosplus_r101_fpn_2x_center_giou_coco"),
    ),
    Row("torchvision", 50, 1, True, False, "pytorch", ("fcos_r50_fpn_torchvision_26e_coco",)),
)


def suggest(conversion: Conversion, checkpoint: Checkpoint) -> list[str]:
    """Return lines on the configurations that fit the file, and on settings that arrays do not show."""
    network, style = conversion.network, style_of(checkpoint)
    lines = []
    if network.num_classes is None:
        lines.append(f"looks like a backbone, for pretrain_weights of a configuration: {network.backbone_settings}")
        lines.append(strides(conversion, checkpoint))
    else:
        names = " or ".join(fitting(conversion, checkpoint)) or f"no published detector of {conversion.code_base}"
        classes = "" if network.num_classes == 80 else f" with num_classes={network.num_classes}"
        lines.append(f"looks like {names}{classes}")
    if style and not network.deep_stem:
        lines.append(f"its own configuration says style {style}: ResNet.variant {'a' if style == 'caffe' else 'b'}")
    return lines


def fitting(conversion: Conversion, checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return the names of the configurations whose detector a file may hold; none for a backbone alone."""
    style = style_of(checkpoint)
    return next((row.configurations for row in TABLE if fits(row, conversion, style)), ())


def style_of(checkpoint: Checkpoint) -> str | None:
    """Return the style, "caffe" or "pytorch", in the configuration within the checkpoint; None if it says nothing."""
    match = STYLE.search(checkpoint.config_text)
    return match[1] if match else None


def fits(row: Row, conversion: Conversion, style: str | None) -> bool:
    """Tell whether a converted file can be the published detector of a row; `style` as `style_of` returns it."""
    network = conversion.network
    tower_bias = "fcos_head.fcos_feat.fcos_head_cls_tower_conv_0.conv.bias" in conversion.names
    found = (conversion.code_base, network.depth, network.groups, tower_bias, bool(network.deformable_stages))
    return found == row[:5] and style in (None, row.style) and not network.deep_stem


def strides(conversion: Conversion, checkpoint: Checkpoint) -> str:
    """Say which ResNet.variant a backbone alone needs, and how its images were normalized."""
    if any(name.endswith("_bn_s") for name in conversion.names.values()):
        return f"Caffe2's: ResNet.variant a, {CAFFE_IMAGES}"
    if checkpoint.author == "torchvision":
        return f"torchvision's: ResNet.variant b, {RGB_IMAGES}"
    if conversion.network.deep_stem:
        return f"its stem shows its variant; {RGB_IMAGES} if it is torchvision's or timm's"
    if not conversion.network.bottleneck:
        return f"ResNet.variant a or b, which are the same at this depth; {RGB_IMAGES} if it is torchvision's or timm's"
    return (
        f"arrays do not show which layer has the stride: ResNet.variant b and {RGB_IMAGES} if it is torchvision's or "
        f"timm's, a and {CAFFE_IMAGES} if it is Caffe's or detectron2's MSRA"
    )
