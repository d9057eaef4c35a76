"""The operations of a training step except convolutions, compiled for one shape each, in caches of a limited size."""

import ctypes
import functools

from ppdet.modeling.cpu import onednn
from ppdet.modeling.cpu.onednn import (
    ADD,
    FORWARD_TRAINING,
    Arg,
    Arguments,
    Attributes,
    Descriptor,
    Plan,
    Primitive,
    Shape,
    channels_last,
    dense,
    dimensions,
)

# Number of operations in each cache; the least recently used one is dropped. A training step of ResNet-50 at one image
# size has about fifty convolutions, of some 40 kB each.
KEPT = 128


class BatchNorm:
    """Batch norm of x (N, H, W, C).

    Args:
        shape, data: shape (N, C, H, W) and oneDNN's type of x.
        given_statistics: whether mean and variance (C,) are inputs; otherwise they are outputs, computed from the
            batch.
        relu: whether a ReLU follows.
    """

    def __init__(self, shape: Shape, data: int, epsilon: float, given_statistics: bool, relu: bool) -> None:
        x, vector = channels_last(shape, data), dense((shape[1],))
        # use_global_stats, use_scale, use_shift, fuse_norm_relu
        flags = given_statistics * 1 | 2 | 4 | relu * 8
        plan = Plan("batch_normalization_forward", FORWARD_TRAINING, x, x, ctypes.c_float(epsilon), flags)
        self.workspace = plan.descriptor(Arg.WORKSPACE)  # for the ReLU
        statistics: Arguments = {Arg.MEAN: vector, Arg.VARIANCE: vector, Arg.SCALE: vector}
        if relu:
            statistics[Arg.WORKSPACE] = self.workspace
        self.forward = Primitive(plan, {Arg.SRC: x, Arg.DST: x, Arg.SHIFT: vector, **statistics})
        back = Plan("batch_normalization_backward", onednn.BACKWARD, x, x, x, ctypes.c_float(epsilon), flags, plan)
        gradients = {Arg.DIFF_DST: x, Arg.DIFF_SRC: x, Arg.DIFF_SCALE: vector, Arg.DIFF_SHIFT: vector}
        self.backward = Primitive(back, {Arg.SRC: x, **statistics, **gradients})


batch_norm = functools.lru_cache(maxsize=KEPT)(BatchNorm)


def relu_plan(shape: Shape, data: int) -> Plan:
    x, zero = channels_last(shape, data), ctypes.c_float(0.0)
    return Plan("eltwise_forward", FORWARD_TRAINING, onednn.RELU_FROM_RESULT, x, x, zero, zero)


@functools.lru_cache(maxsize=KEPT)
def relu(shape: Shape, data: int) -> Primitive:
    """SRC -> DST."""
    x = channels_last(shape, data)
    return Primitive(relu_plan(shape, data), {Arg.SRC: x, Arg.DST: x})


@functools.lru_cache(maxsize=KEPT)
def relu_backward(shape: Shape, data: int) -> Primitive:
    """(DST, the ReLU's result, and DIFF_DST) -> DIFF_SRC."""
    x, zero = channels_last(shape, data), ctypes.c_float(0.0)
    plan = Plan("eltwise_backward", onednn.RELU_FROM_RESULT, x, x, x, zero, zero, relu_plan(shape, data))
    return Primitive(plan, {Arg.DST: x, Arg.DIFF_DST: x, Arg.DIFF_SRC: x})


@functools.lru_cache(maxsize=KEPT)
def add(shape: Shape, data: int, relu: bool) -> Primitive:
    """SRC + SRC_1 -> DST, which may be one of them, with a ReLU after it if `relu`."""
    x = channels_last(shape, data)
    attributes = Attributes().relu() if relu else None
    return Primitive(Plan("binary", ADD, x, x, x, attributes=attributes), {Arg.SRC: x, Arg.SRC_1: x, Arg.DST: x})


@functools.lru_cache(maxsize=KEPT)
def add_affine(shape: Shape, data: int) -> Primitive:
    """DST += SRC * factor + shift, where factor (C,) is SRC_1 and shift (C,) is `AFFINE_SHIFT`."""
    x, vector = channels_last(shape, data), dense((1, shape[1], 1, 1))
    attributes = Attributes().add(vector).accumulate()
    return Primitive(
        Plan("binary", onednn.MULTIPLY, x, vector, x, attributes=attributes),
        {Arg.SRC: x, Arg.SRC_1: vector, Arg.DST: x},
    )


AFFINE_SHIFT = onednn.BINARY_POST_OP | Arg.SRC_1


@functools.lru_cache(maxsize=KEPT)
def reorder(shape: Shape, source: tuple[int, tuple[int, ...]], target: int) -> Primitive:
    """Copies an array of shape (N, C, H, W) to (N, H, W, C).

    Args:
        source: oneDNN's type of the array, and its strides in elements.
        target: oneDNN's type of the copy.
    """
    read, write = Descriptor(shape, *source), channels_last(shape, target)
    engine = onednn.library().engine
    return Primitive(Plan("reorder", read, engine, write, engine), {Arg.SRC: read, Arg.DST: write})


class Pooling:
    """Pooling of an array (N, H, W, C) with square windows; `algorithm` is MAX_POOL or MEAN_POOL."""

    def __init__(self, shape: Shape, data: int, algorithm: int, kernel: int, stride: int, padding: int) -> None:
        n, c, *sizes = shape
        self.y = (n, c, *[(size + 2 * padding - kernel) // stride + 1 for size in sizes])
        x, y = channels_last(shape, data), channels_last(self.y, data)
        geometry = [dimensions((value, value)) for value in (stride, kernel, 0, padding, padding)]
        plan = Plan("pooling_forward", FORWARD_TRAINING, algorithm, x, y, *geometry)
        self.workspace = plan.descriptor(Arg.WORKSPACE) if algorithm == onednn.MAX_POOL else None
        mask: Arguments = {Arg.WORKSPACE: self.workspace} if self.workspace else {}
        self.forward = Primitive(plan, {Arg.SRC: x, Arg.DST: y, **mask})
        back = Plan("pooling_backward", algorithm, x, y, *geometry, plan)
        self.backward = Primitive(back, {Arg.DIFF_SRC: x, Arg.DIFF_DST: y, **mask})


pooling = functools.lru_cache(maxsize=KEPT)(Pooling)


class Upsampling:
    """Nearest-neighbor upsampling of an array (N, H, W, C) to (N, 2H, 2W, C)."""

    workspace = None

    def __init__(self, shape: Shape, data: int) -> None:
        n, c, h, w = shape
        self.y = (n, c, 2 * h, 2 * w)
        x, y = channels_last(shape, data), channels_last(self.y, data)
        plan = Plan("resampling_forward", FORWARD_TRAINING, onednn.NEAREST, None, x, y)
        self.forward = Primitive(plan, {Arg.SRC: x, Arg.DST: y})
        back = Plan("resampling_backward", onednn.NEAREST, None, x, y, plan)
        self.backward = Primitive(back, {Arg.DIFF_SRC: x, Arg.DIFF_DST: y})


upsampling = functools.lru_cache(maxsize=KEPT)(Upsampling)
