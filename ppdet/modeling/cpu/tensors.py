"""Helpers of the differentiable operations of this package.

The operations take and return Paddle tensors of shape (N, C, H, W). The results are views of channels-last memory, in
which the channels of a pixel lie side by side, as oneDNN's fastest kernels need them. An operation reads the result of
another one without a copy. Paddle's operations accept these views too, but copy them first.
"""

import contextlib
import ctypes
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import paddle
from paddle import Tensor

from ppdet.modeling.cpu import compiled_convolution, primitives
from ppdet.modeling.cpu.compiled_convolution import Convolution
from ppdet.modeling.cpu.onednn import BFLOAT16, DATA_TYPES, FLOAT32, Arg, Buffer, Plan, Primitive, same_layout

TYPES = {kind: dtype for dtype, kind in DATA_TYPES.items()}
CHANNELS_LAST, CHANNELS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


class State(threading.local):
    """State of a thread: the type that layers compute in, and weights that are already in oneDNN's layouts."""

    data = FLOAT32
    packed: "dict[tuple[int, int], PackedWeights] | None" = None


state = State()


@contextlib.contextmanager
def compute_in(dtype: str) -> Iterator[None]:
    """Make layers multiply in this type, float32 or bfloat16. They add in float32, and parameters stay float32."""
    before = state.data
    state.data = BFLOAT16 if dtype == "bfloat16" else FLOAT32
    try:
        yield
    finally:
        state.data = before


_compiled = 0  # number of convolutions that were compiled when free memory was returned the last time


def return_free_memory() -> None:
    """Return free memory to the system if convolutions were compiled since the last call; only glibc can do so.

    A compiled operation keeps a few hundred small allocations. They end up between the large arrays of a step, which
    then leave gaps that arrays of images of another size do not fit into. Without this, training with many image sizes
    would take twice the memory of its largest size.
    """
    global _compiled
    compiled = compiled_convolution.convolution.cache_info().misses
    if compiled != _compiled and sys.platform == "linux":
        _compiled = compiled
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim:
            trim(0)


class CachedPackedWeights:
    """A context in which weights do not change, so that each weight is brought into oneDNN's layouts only once.

    It is a class instead of a generator, since Paddle's recording of static graphs rejects those.
    """

    def __enter__(self) -> None:
        return_free_memory()
        self.before, state.packed = state.packed, {} if state.packed is None else state.packed

    def __exit__(self, *error: object) -> None:
        state.packed = self.before


class PackedWeights:
    """A convolution's weights, times a factor for each output channel if given, in all layouts used so far."""

    def __init__(self, weight: Tensor, scale: Tensor | None) -> None:
        self.weight, self.scale = weight, scale
        self.buffers: list[tuple[Plan, Buffer]] = []

    def for_primitive(self, convolution: Convolution, primitive: Primitive) -> Buffer:
        """The weights in the layout that `primitive`, a pass of the convolution, reads."""
        layout = primitive.plan.descriptor(Arg.WEIGHTS)
        for plan, buffer in self.buffers:
            if same_layout(plan.descriptor(Arg.WEIGHTS), layout):
                return buffer
        self.buffers.append((primitive.plan, convolution.pack(self.weight, self.scale, primitive)))
        return self.buffers[-1][1]


def packed_weights(weight: Tensor, scale: Tensor | None) -> PackedWeights:
    """The packed weights that `CachedPackedWeights` keeps, or new ones outside of it."""
    if state.packed is None:
        return PackedWeights(weight, scale)
    # The entry keeps weight and scale alive, so that no other tensors can get their ids.
    key = (id(weight), id(scale))
    return state.packed.setdefault(key, PackedWeights(weight, scale))


def to_channels_last(x: Tensor, data: int) -> Tensor:
    """x (N, C, H, W) as a contiguous tensor (N, H, W, C) of oneDNN's type `data`; copied only if it is not one yet."""
    view = x.transpose(CHANNELS_LAST)
    if view.is_contiguous() and DATA_TYPES[x.dtype] == data:
        return view
    result = paddle.empty(view.shape, TYPES[data])
    if min(x.strides) < 0:
        x = x.contiguous()
    source = (DATA_TYPES[x.dtype], tuple(x.strides))
    primitives.reorder(tuple(x.shape), source, data)({Arg.SRC: x, Arg.DST: result})
    return result


def like_input(gradient: Tensor, dtype: Any) -> Tensor:
    """A gradient (N, H, W, C) as a view (N, C, H, W) of Paddle's type `dtype`, as autograd expects it."""
    view = gradient.transpose(CHANNELS_FIRST)
    return view if view.dtype == dtype else to_channels_last(view, DATA_TYPES[dtype]).transpose(CHANNELS_FIRST)


def needs_gradient(*tensors: Tensor | None) -> bool:
    """Whether a backward pass may ask for the gradient of one of these tensors."""
    return paddle.is_grad_enabled() and any(t is not None and not t.stop_gradient for t in tensors)


def apply(function: Any, tensors: tuple[Tensor | None, ...], *options: Any) -> Tensor:
    """Call a PyLayer, recorded for the backward pass only if a gradient is needed."""
    if needs_gradient(*tensors):
        return function.apply(*tensors, *options)
    with paddle.no_grad():
        return function.forward(NoContext(), *tensors, *options)


def save(ctx: Any, *tensors: Tensor) -> None:
    """Save tensors for the backward pass, which reads their memory."""
    ctx.save_for_backward(*tensors)
    ctx.versions = [tensor.inplace_version for tensor in tensors]


def load_saved(ctx: Any) -> tuple[Tensor, ...]:
    """The tensors that `save` saved.

    Raises:
        RuntimeError: one of them was changed in place since then.
    """
    tensors = ctx.saved_tensor()
    for tensor, version in zip(tensors, ctx.versions):
        check_unchanged(tensor, version)
    return tensors


def check_unchanged(tensor: Tensor, version: int) -> None:
    if tensor.inplace_version != version:
        raise RuntimeError("a tensor was changed in place between the forward pass and the backward pass that needs it")


class NoContext:
    """The context of a PyLayer without a backward pass; it saves nothing."""

    def save_for_backward(self, *tensors: Tensor) -> None:
        pass


class Input(NamedTuple):
    """An input of the forward pass: its type (None if it was not given), and whether its gradient is needed."""

    dtype: Any
    differentiable: bool

    @classmethod
    def of(cls, tensor: Tensor | None) -> "Input":
        return cls(None, False) if tensor is None else cls(tensor.dtype, not tensor.stop_gradient)


def given_gradients(inputs: Sequence[Input], gradients: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """The result of a backward pass: an entry for each input that was given, None if no gradient is needed."""
    pairs = zip(inputs, gradients)
    return tuple(gradient if given.differentiable else None for given, gradient in pairs if given.dtype is not None)
