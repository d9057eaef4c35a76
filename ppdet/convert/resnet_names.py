"""Names of a ResNet in torchvision, timm, MMDetection and maskrcnn-benchmark."""

from ppdet.convert.rules import Rules, table

ROWS = (
    ("conv1.weight", "conv1.conv1.conv.weight"),
    ("bn1.{norm}", "conv1.conv1.norm.{norm}"),
    ("layer{layer}.{block}.conv{conv}.weight", "res{layer}.{block}.branch2{conv}.conv.weight"),
    ("layer{layer}.{block}.bn{conv}.{norm}", "res{layer}.{block}.branch2{conv}.norm.{norm}"),
    ("layer{layer}.{block}.downsample.0.weight", "res{layer}.{block}.short.conv.weight"),
    ("layer{layer}.{block}.downsample.1.{norm}", "res{layer}.{block}.short.norm.{norm}", 1),
    # Variant d: the shortcut starts with a pooling.
    ("layer{layer}.{block}.downsample.1.weight", "res{layer}.{block}.pooled.conv.weight", 4),
    ("layer{layer}.{block}.downsample.2.{norm}", "res{layer}.{block}.pooled.norm.{norm}"),
    # Variants c and d: the stem has three convolutions. The first names are timm's, the others MMDetection's.
    ("conv1.0.weight", "conv1.conv1_1.conv.weight"),
    ("conv1.1.{norm}", "conv1.conv1_1.norm.{norm}"),
    ("conv1.3.weight", "conv1.conv1_2.conv.weight"),
    ("conv1.4.{norm}", "conv1.conv1_2.norm.{norm}"),
    ("conv1.6.weight", "conv1.conv1_3.conv.weight"),
    ("stem.0.weight", "conv1.conv1_1.conv.weight"),
    ("stem.1.{norm}", "conv1.conv1_1.norm.{norm}"),
    ("stem.3.weight", "conv1.conv1_2.conv.weight"),
    ("stem.4.{norm}", "conv1.conv1_2.norm.{norm}"),
    ("stem.6.weight", "conv1.conv1_3.conv.weight"),
    ("stem.7.{norm}", "conv1.conv1_3.norm.{norm}"),
    # Deformable convolutions in MMDetection 1.0 and later, in earlier ones, and in maskrcnn-benchmark.
    ("layer{layer}.{block}.conv{conv}.conv_offset.{affine}", "res{layer}.{block}.branch2{conv}.conv_offset.{affine}"),
    ("layer{layer}.{block}.conv{conv}_offset.{affine}", "res{layer}.{block}.branch2{conv}.conv_offset.{affine}"),
    ("layer{layer}.{block}.conv{conv}.offset.{affine}", "res{layer}.{block}.branch2{conv}.conv_offset.{affine}"),
    ("layer{layer}.{block}.conv{conv}.conv.weight", "res{layer}.{block}.branch2{conv}.conv.weight"),
)


def resnet(prefix: str = "") -> Rules:
    """Return the rules of a backbone whose names start with `prefix`."""
    return table(*ROWS, foreign=prefix, ours="backbone.")
