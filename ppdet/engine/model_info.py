"""Parameters, multiply-adds and feature map sizes of a network, part by part."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import paddle
from paddle import Tensor, nn
from paddle.vision.ops import DeformConv2D

from ppdet.modeling.layers import ConvNorm

STATISTICS = ("._mean", "._variance")


class Part(NamedTuple):
    """The size of a part of a network, for one image.

    Attributes:
        name: prefix of its parameters' names, such as "backbone.res2"; empty for the whole network.
        parameters: numbers in its weights, without the statistics of batch norms.
        trained: number of these that training changes.
        multiplications: multiply-adds of its convolutions; the sampling of deformable ones is not counted.
        maps: numbers in the outputs of its convolutions. A convolution, its norm and its ReLU count as one output.
    """

    name: str
    parameters: int
    trained: int
    multiplications: int
    maps: int


def measure(model: nn.Layer, height: int, width: int, depth: int = 2) -> list[Part]:
    """Measure a network for an image of height x width pixels. It runs once, in evaluation mode, on zeros.

    Args:
        model: a `DenseDetector`.
        depth: how many names deep the parts are: 1 for "backbone", 2 also for "backbone.res2".

    Returns:
        The whole network, then its parts in the order of its parameters.

    Raises:
        ImageSizeError: the network does not accept this size.
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
    """Return (multiply-adds, output numbers) of every convolution by name, summed over all its calls."""
    counted: dict[str, tuple[int, int]] = {}

    def watch(name: str, layer: nn.Layer, convolutions: Sequence[nn.Layer], maps: int) -> nn.Layer:
        def note(_layer: nn.Layer, _inputs: object, output: Tensor) -> None:
            locations = math.prod(output.shape[2:])
            multiplications = locations * sum(math.prod(c.weight.shape) for c in convolutions)
            before = counted.get(name, (0, 0))
            counted[name] = (before[0] + multiplications, before[1] + locations * maps)

        return layer.register_forward_post_hook(note)

    hooks: list[Any] = []
    inside: set[int] = set()  # ids of convolutions that a ConvNorm counts
    for name, layer in model.named_sublayers():
        if isinstance(layer, ConvNorm):
            # With its norm folded, a ConvNorm does not call its convolution, whose own hook would not run.
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
    """Return a table for people: parameters in millions, GFLOPs, and float32 maps in MiB."""
    lines = [f"{'':34}{'parameters, M':>15}{'trained, M':>12}{'GFLOPs':>9}{'maps, MiB':>11}"]
    for part in (*parts[1:], parts[0]):
        name = "  " * part.name.count(".") + part.name.split(".")[-1] if part.name else "all"
        lines.append(
            f"{name:34}{part.parameters / 1e6:15.3f}{part.trained / 1e6:12.3f}{part.multiplications / 1e9:9.2f}"
            f"{part.maps * 4 / 2**20:11.1f}"
        )
    return "\n".join(lines)
