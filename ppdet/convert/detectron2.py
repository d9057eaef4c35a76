"""Names of detectron2's backbones: its own, and those of Caffe2, which its files R-50.pkl and R-101.pkl have."""

from ppdet.convert.rules import CodeBase, Rules, table

ROWS = (
    ("stem.conv1.weight", "conv1.conv1.conv.weight"),
    ("stem.conv1.norm.{norm}", "conv1.conv1.norm.{norm}"),
    ("res{res}.{block}.conv{conv}.weight", "res{res}.{block}.branch2{conv}.conv.weight"),
    ("res{res}.{block}.conv{conv}.norm.{norm}", "res{res}.{block}.branch2{conv}.norm.{norm}"),
    ("res{res}.{block}.conv{conv}_offset.{affine}", "res{res}.{block}.branch2{conv}.conv_offset.{affine}"),
    ("res{res}.{block}.shortcut.weight", "res{res}.{block}.short.conv.weight"),
    ("res{res}.{block}.shortcut.norm.{norm}", "res{res}.{block}.short.norm.{norm}"),
)
CAFFE2_ROWS = (
    ("conv1_w", "conv1.conv1.conv.weight"),
    ("res_conv1_bn_{caffe2}", "conv1.conv1.norm.{caffe2}"),
    ("res{res}_{block}_branch2{branch}_w", "res{res}.{block}.branch2{branch}.conv.weight"),
    ("res{res}_{block}_branch2{branch}_bn_{caffe2}", "res{res}.{block}.branch2{branch}.norm.{caffe2}"),
    ("res{res}_{block}_branch1_w", "res{res}.{block}.short.conv.weight"),
    ("res{res}_{block}_branch1_bn_{caffe2}", "res{res}.{block}.short.norm.{caffe2}"),
)


def backbone(prefix: str) -> Rules:
    """Return the rules of a backbone whose names start with `prefix`."""
    return table(*ROWS, foreign=prefix, ours="backbone.")


DETECTRON2 = CodeBase(
    name="detectron2",
    rules=backbone("backbone.bottom_up.")
    + backbone("backbone.")
    + backbone("")
    + table(*CAFFE2_ROWS, foreign="", ours="backbone."),
    left=(
        (r"(stem\.)?fc(1000)?[._].*|pred_.*", "the classifier of another data set"),
        (r"conv1_b|res\d_\d+_branch\d[abc]?_b", "a bias before a norm: detectron2 ignores it too"),
        (r".*_momentum", "momentum of the optimizer"),
        (r"pixel_(mean|std)", "the normalisation of images, which is NormalizeImage in the configuration"),
    ),
)
