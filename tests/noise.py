"""Weights that detect something everywhere, without training."""

from collections.abc import Sequence
from pathlib import Path

import paddle
from paddle import nn
from tiny import TINY_YAML, write_tiny_coco

from ppdet.core.config import Config
from ppdet.core.workspace import load_config
from ppdet.engine.checkpoints.weights import save_weights

# Beside TINY_YAML as tiny.yml. The graph's input is larger than the images, and these are no multiple of any stride.
PADDED_YAML = """
_BASE_: [tiny.yml]
TestReader:
  sample_transforms: [Decode: {}, Resize: {target_size: [58, 150]}, NormalizeImage: {}, Permute: {}]
  batch_transforms: [PadBatch: {pad_to_stride: 32}]
"""

# Two levels in place of three: most of the time of an export goes into simplifying the levels' nodes.
TWO_LEVELS = ("ResNet.num_stages=2", "ResNet.return_idx=[1]", "FCOSHead.fpn_stride=[8, 16]")


def write_padded(folder: Path, images: int) -> Path:
    """Path of PADDED_YAML in the folder, beside what it needs; the images are in data/images."""
    data = write_tiny_coco(folder / "data", images=images, size=(77, 101))
    (folder / "tiny.yml").write_text(TINY_YAML.format(output=folder / "output", data=data))
    path = folder / "padded.yml"
    path.write_text(PADDED_YAML)
    return path


def add_noise(head: nn.Layer) -> None:
    """Give the last layers of a head random weights, with which it detects something everywhere."""
    for layer, spread in ((head.fcos_head_cls, 0.2), (head.fcos_head_reg, 0.05)):
        layer.weight.set_value(paddle.randn(layer.weight.shape) * spread)
    head.fcos_head_cls.bias.set_value(paddle.zeros(head.fcos_head_cls.bias.shape))


def noisy(path: Path, options: Sequence[str] = ()) -> Config:
    """The configuration of two classes at `path`, and random weights for it, in a file beside it."""
    paddle.seed(3)
    model = load_config(path, options).create("FCOS")
    add_noise(model.fcos_head)
    weights = path.with_name("noise.pdparams")
    save_weights(model.state_dict(), weights)
    return load_config(path, [*options, f"weights={weights}"])
