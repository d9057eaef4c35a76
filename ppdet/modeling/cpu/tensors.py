"""What the differentiable operations of this package share.

They take and give Paddle tensors (N, C, H, W). Results are views of channels-last memory: the shape stays, the channels
of a pixel lie side by side, as oneDNN's fastest kernels want them. What comes out of one operation goes into the next
without a copy; every operation of Paddle accepts it as well, at the price of one.
"""

import contextlib
import ctypes
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import paddle
from paddle import Tensor
from paddle.autograd import PyLayer

from ppdet.modeling.cpu import primitives
from ppdet.modeling.cpu.onednn import BFLOAT16, DATA_TYPES, DST, FLOAT32, SRC, WEIGHTS, Buffer, Primitive, same_layout
from ppdet.modeling.cpu.primitives import Convolution

TYPES = {kind: dtype for dtype, kind in DATA_TYPES.items()}
CHANNELS_LAST, CHANNELS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


class State(threading.local):
    """What the layers of one thread share: the type they compute in, and weights already in oneDNN's layout."""

    data = FLOAT32
    packed: dict | None = None


state = State()


@contextlib.contextmanager
def compute_in(dtype: str) -> Iterator[None]:
    """Layers multiply in this type, float32 or bfloat16, and add in float32; parameters stay float32."""
    before, state.data = state.data, BFLOAT16 if dtype == "bfloat16" else FLOAT32
    try:
        yield
    finally:
        state.data = before


_compiled = 0  # convolutions, when free memory was returned the last time


def return_free_memory() -> None:
    """Give free memory back to the system if convolutions were compiled since the last call.

    What a compiled operation keeps, a few hundred small pieces, comes to lie between a step's large arrays. These
    then leave gaps that images of another size do not fit into, and training with many sizes would take twice the
    memory of its largest.
    """
    global _compiled
    compiled = primitives.convolution.cache_info().misses
    if compiled != _compiled:
        _compiled = compiled
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
        if trim:
            trim(0)


class UnchangedWeights:
    """Weights do not change within: each is brought into oneDNN's layout once, however often it is used.

    A class, not a decorated function, since Paddle's recording of static graphs goes through it and complains of those.
    """

    def __enter__(self) -> None:
        return_free_memory()
        self.before, state.packed = state.packed, {} if state.packed is None else state.packed

    def __exit__(self, *error: object) -> None:
        state.packed = self.before


class PackedWeights:
    """A layer's weights, times a factor of each output channel if any, in every layout that was asked for."""

    def __init__(self, weight: Tensor, scale: Tensor | None) -> None:
        self.weight, self.scale = weight, scale
        self.buffers: list[tuple[object, Buffer]] = []

    def layout_of(self, convolution: Convolution, primitive: Primitive) -> Buffer:
        layout = primitive.plan.descriptor(WEIGHTS)
        for plan, buffer in self.buffers:
            if same_layout(plan.descriptor(WEIGHTS), layout):
                return buffer
        self.buffers.append((primitive.plan, convolution.pack(self.weight, self.scale, primitive)))
        return self.buffers[-1][1]


def packed_weights(weight: Tensor, scale: Tensor | None) -> PackedWeights:
    if state.packed is None:
        return PackedWeights(weight, scale)
    # The entry keeps weight and scale alive, so that no other tensor can have their ids.
    key = (id(weight), id(scale))
    return state.packed.setdefault(key, PackedWeights(weight, scale))


def pixels_first(x: Tensor, data: int) -> Tensor:
    """The values of x (N, C, H, W) as a dense tensor (N, H, W, C) of oneDNN's type `data`; no copy where it is one."""
    view = x.transpose(CHANNELS_LAST)
    if view.is_contiguous() and DATA_TYPES[x.dtype] == data:
        return view
    result = paddle.empty(view.shape, TYPES[data])
    if min(x.strides) < 0:
        x = x.contiguous()
    source = (DATA_TYPES[x.dtype], tuple(x.strides))
    primitives.reorder(tuple(x.shape), source, data)({SRC: x, DST: result})
    return result


def like_input(gradient: Tensor, dtype: object) -> Tensor:
    """A gradient (N, H, W, C) as the view (N, C, H, W) of type `dtype` that autograd expects."""
    view = gradient.transpose(CHANNELS_FIRST)
    return view if view.dtype == dtype else pixels_first(view, DATA_TYPES[dtype]).transpose(CHANNELS_FIRST)


def needs_gradient(*tensors: Tensor | None) -> bool:
    return paddle.is_grad_enabled() and any(t is not None and not t.stop_gradient for t in tensors)


def apply(function: type[PyLayer], tensors: tuple, *options: object) -> Tensor:
    """`function`, recorded for a backward pass only where one is needed."""
    if needs_gradient(*tensors):
        return function.apply(*tensors, *options)
    with paddle.no_grad():
        return function.forward(Forgetful(), *tensors, *options)


def keep(ctx: object, *tensors: Tensor) -> None:
    """Have tensors ready for the backward pass, which reads their memory as the forward pass left it."""
    ctx.save_for_backward(*tensors)
    ctx.versions = [tensor.inplace_version for tensor in tensors]


def kept(ctx: object) -> tuple[Tensor, ...]:
    """What `keep` kept.

    Raises:
        RuntimeError: one of them was changed in place since.
    """
    tensors = ctx.saved_tensor()
    for tensor, version in zip(tensors, ctx.versions):
        check_unchanged(tensor, version)
    return tensors


def check_unchanged(tensor: Tensor, version: int) -> None:
    if tensor.inplace_version != version:
        raise RuntimeError("a tensor was changed in place between the forward pass and the backward pass that needs it")


class Forgetful:
    """Stands in for the context of a function whose backward pass will not be asked for."""

    def save_for_backward(self, *tensors: Tensor) -> None:
        pass


class Input(NamedTuple):
    """What the backward pass has to know of an input: its type (None for one that was not given), and if it asks."""

    dtype: object
    differentiable: bool

    @classmethod
    def of(cls, tensor: Tensor | None) -> "Input":
        return cls(None, False) if tensor is None else cls(tensor.dtype, not tensor.stop_gradient)


def wanted(inputs: Sequence[Input], gradients: Sequence[Tensor | None]) -> tuple:
    """What a backward pass returns: one entry for each given input, None for one that takes no gradient."""
    pairs = zip(inputs, gradients)
    return tuple(gradient if given.differentiable else None for given, gradient in pairs if given.dtype is not None)
