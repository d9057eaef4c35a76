"""Parameters, multiplications and maps of a network, part by part."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import paddle
from paddle import Tensor, nn
from paddle.vision.ops import DeformConv2D

from ppdet.modeling.layers import ConvNorm

STATISTICS = ("._mean", "._variance")


class Part(NamedTuple):
    """A part of a network. name: as in its parameters' names, with dots; empty for the whole.

    parameters, trained: numbers in all weights, and in those that training changes; statistics of batch norms are
    none. multiplications: multiply-adds of the convolutions for one image, those that sample deformed ones not
    counted. maps: numbers in the outputs of all convolutions, each with its norm and ReLU, for one image.
    """

    name: str
    parameters: int
    trained: int
    multiplications: int
    maps: int


def measure(model: nn.Layer, height: int, width: int, depth: int = 2) -> list[Part]:
    """The whole `model`, and its parts down to `depth`, in its own order, for one image of height x width pixels.

    The network runs once, in evaluation mode, on zeros.

    Raises:
        ImageSizeError: the network does not take this size.
    """
    counted = count_convolutions(model, height, width)
    parts: dict[str, list[int]] = {"": [0, 0, 0, 0]}

    def add(name: str, column: int, value: int) -> None:
        steps = name.split(".")[:-1]
        for length in range(min(depth, len(steps)) + 1):
            parts.setdefault(".".join(steps[:length]), [0, 0, 0, 0])[column] += value

    for name, parameter in model.named_parameters():
        if name.endswith(STATISTICS):
            continue
        size = math.prod(parameter.shape)
        add(name, 0, size)
        add(name, 1, 0 if parameter.stop_gradient else size)
    for name, (multiplications, maps) in counted.items():
        add(f"{name}.weight", 2, multiplications)
        add(f"{name}.weight", 3, maps)
    return [Part(name, *numbers) for name, numbers in parts.items()]


@paddle.no_grad()
def count_convolutions(model: nn.Layer, height: int, width: int) -> dict[str, tuple[int, int]]:
    """Multiply-adds and output numbers of every convolution by its name; one that runs on all levels has their sum."""
    counted: dict[str, tuple[int, int]] = {}

    def watch(name: str, layer: nn.Layer, convolutions: Sequence[nn.Layer], maps: int) -> nn.Layer:
        def note(_layer: nn.Layer, _inputs: object, output: Tensor) -> None:
            locations = math.prod(output.shape[2:])
            multiplications = locations * sum(math.prod(c.weight.shape) for c in convolutions)
            before = counted.get(name, (0, 0))
            counted[name] = (before[0] + multiplications, before[1] + locations * maps)

        return layer.register_forward_post_hook(note)

    hooks, inside = [], set()
    for name, layer in model.named_sublayers():
        if isinstance(layer, ConvNorm):
            # Where its norm is folded into the convolution, that one's own hook would not run.
            convolutions = [layer.conv, *([layer.conv_offset] if layer.samples else [])]
            inside.update(map(id, convolutions))
            hooks.append(watch(name, layer, convolutions, sum(c.weight.shape[0] for c in convolutions)))
        elif isinstance(layer, (nn.Conv2D, DeformConv2D)) and id(layer) not in inside:
            hooks.append(watch(name, layer, [layer], layer.weight.shape[0]))
    training = model.training
    model.eval()
    try:
        model.predict_maps(paddle.zeros([1, 3, height, width]))
    finally:
        model.train() if training else model.eval()
        for hook in hooks:
            hook.remove()
    return counted


def table(parts: Sequence[Part]) -> str:
    """`parts` as lines for people: millions of parameters, GFLOPs, MiB of float32 maps."""
    lines = [f"{'':34}{'parameters, M':>15}{'trained, M':>12}{'GFLOPs':>9}{'maps, MiB':>11}"]
    for part in (*parts[1:], parts[0]):
        name = "  " * part.name.count(".") + part.name.split(".")[-1] if part.name else "all"
        lines.append(
            f"{name:34}{part.parameters / 1e6:15.3f}{part.trained / 1e6:12.3f}{part.multiplications / 1e9:9.2f}"
            f"{part.maps * 4 / 2**20:11.1f}"
        )
    return "\n".join(lines)
