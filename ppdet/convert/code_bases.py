"""Tables of the names that other code bases give to the weights of FCOS detectors and ResNets, for conversion.py."""

from ppdet.convert.rules import CodeBase, Rules, table

OTHER_CLASSIFIER = "the classifier of another data set"
NORMALIZATION = "the normalization of images, which is NormalizeImage in the configuration"
# torchvision's head has a class for each number from 0 to 90; COCO has no category with these ids.
NO_CATEGORY = (0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83)

# torchvision, timm, MMDetection and maskrcnn-benchmark.
RESNET = (
    ("conv1.weight", "conv1.conv1.conv.weight"),
    ("bn1.{norm}", "conv1.conv1.norm.{norm}"),
    ("layer{layer}.{block}.conv{conv}.weight", "res{layer}.{block}.branch2{conv}.conv.weight"),
    ("layer{layer}.{block}.bn{conv}.{norm}", "res{layer}.{block}.branch2{conv}.norm.{norm}"),
    ("layer{layer}.{block}.downsample.0.weight", "res{layer}.{block}.short.conv.weight"),
    ("layer{layer}.{block}.downsample.1.{norm}", "res{layer}.{block}.short.norm.{norm}", 1),
    # Variant d: the shortcut starts with a pooling.
    ("layer{layer}.{block}.downsample.1.weight", "res{layer}.{block}.pooled.conv.weight", 4),
    ("layer{layer}.{block}.downsample.2.{norm}", "res{layer}.{block}.pooled.norm.{norm}"),
    # Variants c and d: the stem has three convolutions.
    ("{deep_stem}.{stem_conv}.weight", "conv1.{stem_conv}.conv.weight"),
    ("{deep_stem}.{stem_norm}.{norm}", "conv1.{stem_norm}.norm.{norm}"),
    # Deformable convolutions in MMDetection 1.0 and later, in earlier ones, and in maskrcnn-benchmark.
    ("layer{layer}.{block}.conv{conv}{offset}.{affine}", "res{layer}.{block}.branch2{conv}.{offset}.{affine}"),
    ("layer{layer}.{block}.conv{conv}.conv.weight", "res{layer}.{block}.branch2{conv}.conv.weight"),
)
DETECTRON2_RESNET = (
    ("stem.conv1.weight", "conv1.conv1.conv.weight"),
    ("stem.conv1.norm.{norm}", "conv1.conv1.norm.{norm}"),
    ("res{res}.{block}.conv{conv}.weight", "res{res}.{block}.branch2{conv}.conv.weight"),
    ("res{res}.{block}.conv{conv}.norm.{norm}", "res{res}.{block}.branch2{conv}.norm.{norm}"),
    ("res{res}.{block}.conv{conv}_offset.{affine}", "res{res}.{block}.branch2{conv}.conv_offset.{affine}"),
    ("res{res}.{block}.shortcut.weight", "res{res}.{block}.short.conv.weight"),
    ("res{res}.{block}.shortcut.norm.{norm}", "res{res}.{block}.short.norm.{norm}"),
)
# detectron2's files R-50.pkl and R-101.pkl have the names of Caffe2.
CAFFE2_RESNET = (
    ("conv1_w", "conv1.conv1.conv.weight"),
    ("res_conv1_bn_{caffe2}", "conv1.conv1.norm.{caffe2}"),
    ("res{res}_{block}_branch2{branch}_w", "res{res}.{block}.branch2{branch}.conv.weight"),
    ("res{res}_{block}_branch2{branch}_bn_{caffe2}", "res{res}.{block}.branch2{branch}.norm.{caffe2}"),
    ("res{res}_{block}_branch1_w", "res{res}.{block}.short.conv.weight"),
    ("res{res}_{block}_branch1_bn_{caffe2}", "res{res}.{block}.short.norm.{caffe2}"),
)


def resnet(prefix: str, rows: tuple = RESNET) -> Rules:
    """Return the rules of a backbone whose names start with `prefix`."""
    return table(*rows, foreign=prefix, ours="backbone.")


# fcos_resnet50_fpn, and ResNet classifiers of torchvision, timm and MMDetection.
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
        ("{tower}_head.conv.{tower_conv}.{affine}", "{tower}_tower.{tower_conv}.conv.{affine}"),
        ("{tower}_head.conv.{tower_norm}.{affine}", "{tower}_tower.{tower_norm}.norm.{affine}"),
        ("classification_head.cls_logits.{affine}", "fcos_head_cls.{affine}"),
        ("regression_head.bbox_reg.{affine}", "fcos_head_reg.{affine}"),
        ("regression_head.bbox_ctrness.{affine}", "fcos_head_centerness.{affine}"),
        foreign="head.",
        ours="fcos_head.",
    )
    + resnet(""),
    left=((r"fc\..*", OTHER_CLASSIFIER),),
    background_row=True,
    coco_rows=(91, tuple(i for i in range(91) if i not in NO_CATEGORY)),
    level_scales=False,
)
# MMDetection 1.x, 2.x and 3.x.
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
        ("{tower}_convs.{i}.conv.conv_offset.{affine}", "{tower}_tower.{i}.conv.conv_offset.{affine}"),
        ("conv_{output_layer}.{affine}", "fcos_head_{output_layer}.{affine}"),
        ("fcos_{output_layer}.{affine}", "fcos_head_{output_layer}.{affine}"),  # before 2.0
        ("scales.{level}.scale", "p{level}_feat.scale_reg"),
        foreign="bbox_head.",
        ours="fcos_head.",
    )
    + resnet(""),
    left=(
        (r"ema_.*", "an average of the weights, which MMDetection also writes in place of the weights"),
        (r"data_preprocessor\..*", NORMALIZATION),
        (r"fc\..*", OTHER_CLASSIFIER),
    ),
)
# FCOS_PLUS and the original FCOS repository, which are both based on maskrcnn-benchmark.
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
        ("{tower}_tower.{tower_conv}.conv.{affine}", "{tower}_tower.{tower_conv}.conv.{affine}"),
        ("{tower}_tower.{tower_conv}.offset.{affine}", "{tower}_tower.{tower_conv}.conv.conv_offset.{affine}"),
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
# Backbones only.
DETECTRON2 = CodeBase(
    name="detectron2",
    rules=resnet("backbone.bottom_up.", DETECTRON2_RESNET)
    + resnet("backbone.", DETECTRON2_RESNET)
    + resnet("", DETECTRON2_RESNET)
    + resnet("", CAFFE2_RESNET),
    left=(
        (r"(stem\.)?fc(1000)?[._].*|pred_.*", OTHER_CLASSIFIER),
        (r"conv1_b|res\d_\d+_branch\d[abc]?_b", "a bias before a norm: detectron2 ignores it too"),
        (r".*_momentum", "momentum of the optimizer"),
        (r"pixel_(mean|std)", NORMALIZATION),
    ),
)

# If several code bases know the same number of names of a file, the first one is used.
CODE_BASES = {base.name: base for base in (TORCHVISION, MMDET, FCOS_PLUS, DETECTRON2)}
