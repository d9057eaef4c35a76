"""Names of torchvision's fcos_resnet50_fpn, and of ResNet classifiers of torchvision, timm and MMDetection."""

from ppdet.convert.resnet_names import resnet
from ppdet.convert.rules import CodeBase, table

# The head has a class for each number from 0 to 90; COCO has no category with these ids.
NO_CATEGORY = (0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83)


TORCHVISION = CodeBase(
    name="torchvision",
    rules=resnet("backbone.body.")
    + table(
        ("inner_blocks.{lateral}.0.{affine}", "neck.fpn_inner_{lateral}.{affine}"),
        ("layer_blocks.{output}.0.{affine}", "neck.fpn_{output}.{affine}"),
        # Before torchvision 0.14.
        ("inner_blocks.{lateral}.{affine}", "neck.fpn_inner_{lateral}.{affine}"),
        ("layer_blocks.{output}.{affine}", "neck.fpn_{output}.{affine}"),
        ("extra_blocks.{extra}.{affine}", "neck.fpn_{extra}.{affine}"),
        foreign="backbone.fpn.",
    )
    + table(
        (
            "{tower}_head.conv.{tower_conv}.{affine}",
            "{tower}_tower.{tower_conv}.conv.{affine}",
        ),
        (
            "{tower}_head.conv.{tower_norm}.{affine}",
            "{tower}_tower.{tower_norm}.norm.{affine}",
        ),
        ("classification_head.cls_logits.{affine}", "fcos_head_cls.{affine}"),
        ("regression_head.bbox_reg.{affine}", "fcos_head_reg.{affine}"),
        ("regression_head.bbox_ctrness.{affine}", "fcos_head_centerness.{affine}"),
        foreign="head.",
        ours="fcos_head.",
    )
    + resnet(),
    left=((r"fc\..*", "the classifier of another data set"),),
    background_row=True,
    coco_rows=(91, tuple(i for i in range(91) if i not in NO_CATEGORY)),
    level_scales=False,
)
