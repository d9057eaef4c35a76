"""Names of FCOS_PLUS and of the original FCOS repository, which are both based on maskrcnn-benchmark."""

from ppdet.convert.resnet_names import resnet
from ppdet.convert.rules import CodeBase, table

FCOS_PLUS = CodeBase(
    name="fcos_plus",
    rules=table(
        # The stem is a separate module.
        ("stem.conv1.weight", "conv1.conv1.conv.weight"),
        ("stem.bn1.{norm}", "conv1.conv1.norm.{norm}"),
        foreign="backbone.body.",
        ours="backbone.",
    )
    + resnet("backbone.body.")
    + table(
        ("fpn_inner{lateral_from_2}.{affine}", "neck.fpn_inner_{lateral_from_2}.{affine}"),
        ("fpn_layer{output_from_2}.{affine}", "neck.fpn_{output_from_2}.{affine}"),
        ("top_blocks.{extra}.{affine}", "neck.fpn_{extra}.{affine}"),
        foreign="backbone.fpn.",
    )
    + table(
        ("{tower}_tower.{tower_conv}.{affine}", "{tower}_tower.{tower_conv}.conv.{affine}"),
        ("{tower}_tower.{tower_norm}.{affine}", "{tower}_tower.{tower_norm}.norm.{affine}"),
        # Deformable convolutions.
        (
            "{tower}_tower.{tower_conv}.conv.{affine}",
            "{tower}_tower.{tower_conv}.conv.{affine}",
        ),
        (
            "{tower}_tower.{tower_conv}.offset.{affine}",
            "{tower}_tower.{tower_conv}.conv.conv_offset.{affine}",
        ),
        ("cls_logits.{affine}", "fcos_head_cls.{affine}"),
        ("bbox_pred.{affine}", "fcos_head_reg.{affine}"),
        ("centerness.{affine}", "fcos_head_centerness.{affine}"),
        ("scales.{level}.scale", "p{level}_feat.scale_reg"),
        foreign="rpn.head.",
        ours="fcos_head.",
    ),
    # Its frozen batch norm divides by sqrt(variance), without an epsilon.
    norm_epsilon=0.0,
)
