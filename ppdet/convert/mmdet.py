"""Names of MMDetection 1.x, 2.x and 3.x."""

from ppdet.convert.resnet_names import resnet
from ppdet.convert.rules import CodeBase, table

MMDET = CodeBase(
    name="mmdet",
    rules=resnet("backbone.")
    + table(
        ("neck.lateral_convs.{lateral}.conv.{affine}", "neck.fpn_inner_{lateral}.{affine}"),
        ("neck.fpn_convs.{output}.conv.{affine}", "neck.fpn_{output}.{affine}"),
    )
    + table(
        ("{tower}_convs.{i}.conv.{affine}", "{tower}_tower.{i}.conv.{affine}"),
        ("{tower}_convs.{i}.gn.{norm}", "{tower}_tower.{i}.norm.{norm}"),
        ("{tower}_convs.{i}.bn.{norm}", "{tower}_tower.{i}.norm.{norm}"),
        (
            "{tower}_convs.{i}.conv.conv_offset.{affine}",
            "{tower}_tower.{i}.conv.conv_offset.{affine}",
        ),
        ("conv_cls.{affine}", "fcos_head_cls.{affine}"),
        ("conv_reg.{affine}", "fcos_head_reg.{affine}"),
        ("conv_centerness.{affine}", "fcos_head_centerness.{affine}"),
        ("fcos_cls.{affine}", "fcos_head_cls.{affine}"),  # before 2.0
        ("fcos_reg.{affine}", "fcos_head_reg.{affine}"),
        ("fcos_centerness.{affine}", "fcos_head_centerness.{affine}"),
        ("scales.{level}.scale", "p{level}_feat.scale_reg"),
        foreign="bbox_head.",
        ours="fcos_head.",
    )
    + resnet(),
    left=(
        (r"ema_.*", "an average of the weights, which MMDetection also writes in place of the weights"),
        (r"data_preprocessor\..*", "the normalisation of images, which is NormalizeImage in the configuration"),
        (r"fc\..*", "the classifier of another data set"),
    ),
)
