"""The cases of the parity proof: what a code base does, in its own terms, and the configuration that says the same."""

from collections.abc import Mapping
from typing import NamedTuple

import foreign

# A recipe's images are of 800x1333. Here they keep the size that they have. It is padded to 128x256, and no location
# lies in the padding: the other code bases detect there too.
HEIGHT, WIDTH = 125, 253
# torchvision has a row per category id.
COCO_ROWS = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Case(NamedTuple):
    """config: of configs/fcos. overrides: of it. code_base: whose names, and whose rules of detection. shapes: {name:
    shape} of its state dict. form: of the file. wrapper: the key that holds the state dict; prefix: of its names.

    depth, groups: depth and groups of the backbone. caffe_strides: the stride is in the first 1x1 of a bottleneck.
        caffe_mean: images are BGR from 0
    to 255 less this; else RGB as ImageNet's. exp: distances are exp, in pixels; else of a ReLU, in strides.
    quality_on_reg: centerness reads the regression tower. top_k: candidates of a level. nms: threshold.

    frequent: mean logit of frequent classes: with -3.5 the 100 best detections are left, with -7 fewer, down to the
    thresholds.
    """

    config: str
    code_base: str
    shapes: Mapping[str, tuple]
    overrides: tuple[str, ...] = ()
    form: str = "zip"
    wrapper: str | None = "state_dict"
    prefix: str = ""
    depth: int = 50
    groups: int = 1
    caffe_strides: bool = True
    caffe_mean: tuple[float, ...] | None = (102.9801, 115.9465, 122.7717)
    exp: bool = True
    quality_on_reg: bool = False
    top_k: int = 1000
    nms: float = 0.5
    frequent: float = -3.5


TRICKS = {"caffe_mean": (103.53, 116.28, 123.675), "exp": False, "quality_on_reg": True, "nms": 0.6}
CASES = {
    # The oldest names, in the oldest form of file.
    "mmdet": Case("fcos_r50_caffe_fpn_gn_1x_coco", "mmdet", foreign.mmdet(old=True), form="legacy", frequent=-7.0),
    # A small backbone; level_top_k chooses.
    "mmdet tricks": Case(
        "fcos_r50_caffe_fpn_gn_tricks_1x_coco",
        "mmdet",
        foreign.mmdet(18, tower_bias=True),
        ("ResNet.depth=18", "FCOSHead.level_top_k=50"),
        depth=18,
        top_k=50,
        **TRICKS,
    ),
    "mmdet deformable": Case(
        "fcos_r50_caffe_fpn_gn_tricks_dcn_1x_coco",
        "mmdet",
        foreign.mmdet(tower_bias=True, dcn=".conv_offset", dcn_tower=(3,)),
        **TRICKS,
    ),
    # ResNeXt-50 32x4d for 101 64x4d, of which a test would need 400 MB.
    "mmdet ResNeXt": Case(
        "fcos_x101_64x4d_fpn_gn_ms_2x_coco",
        "mmdet",
        foreign.mmdet(groups=32, base_width=4),
        ("ResNet.depth=50", "ResNet.groups=32"),
        groups=32,
        caffe_strides=False,
        caffe_mean=None,
    ),
    "fcos_plus": Case(
        "fcosplus_r50_fpn_1x_coco",
        "fcos_plus",
        foreign.fcos_plus(),
        ("FCOSHead.level_top_k=40",),
        form="legacy",
        wrapper="model",
        prefix="module.",
        top_k=40,
        nms=0.6,
        frequent=-5.0,
    ),
    "torchvision": Case(
        "fcos_r50_fpn_torchvision_26e_coco",
        "torchvision",
        foreign.torchvision(),
        wrapper=None,
        caffe_strides=False,
        caffe_mean=None,
        exp=False,
        quality_on_reg=True,
        nms=0.6,
        frequent=-7.0,
    ),
    "detectron2": Case("fcos_r50_caffe_fpn_gn_1x_coco", "detectron2", foreign.classifier(counter=False), form="pkl"),
}
