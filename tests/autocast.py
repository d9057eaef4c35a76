"""Emulates Paddle's auto_cast for GPUs on a CPU: inputs are rounded to the type that a GPU would use.

Paddle casts on a GPU what goes into its operations (paddle/fluid/imperative/amp_utils.h), and a CPU has no kernels of
the smaller types. Within `as_on_a_gpu` the real paddle.amp.auto_cast runs, told that its place is a GPU, and decides
level, type and lists. By these every operation takes its inputs in the type that Paddle would cast them to, computes
in float32, and gives its results in that type. tests/modeling/test_autocast.py asks Paddle's own code for the same
decisions.
"""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple
from unittest import mock

import paddle
from paddle import Tensor

from ppdet.utils import device

SMALL = {"float16": paddle.float16, "bfloat16": paddle.bfloat16}
FLOATING = (paddle.float32, *SMALL.values())
# The names that Paddle's lists have for operations whose function is called otherwise.
NAMES = {
    "add": "elementwise_add",
    "subtract": "elementwise_sub",
    "multiply": "elementwise_mul",
    "divide": "elementwise_div",
    "maximum": "elementwise_max",
    "minimum": "elementwise_min",
    "expand": "expand_v2",
    "unsqueeze": "unsqueeze2",
    "squeeze": "squeeze2",
    "flatten": "flatten_contiguous_range",
    "transpose": "transpose2",
    "sum": "reduce_sum",
    "mean": "reduce_mean",
    "max": "reduce_max",
    "all": "reduce_all",
    "matmul": "matmul_v2",
}
# Operations of ours that have no GPU kernel in these types (core.op_supported_infos of paddlepaddle-gpu 2.6.2).
NO_KERNEL = {
    "float16": {"deformable_conv", "sigmoid_cross_entropy_with_logits", "multiclass_nms3", "reduce_all"},
    "bfloat16": {"deformable_conv", "sigmoid_cross_entropy_with_logits", "multiclass_nms3", "reduce_all", "mean"},
}
UNTOUCHED = {"cast", "full_like", "assign", "share_data"}  # operations that auto_cast does not change
NORMS = ("batch_norm", "layer_norm")  # only their map decides the type, and only it is cast
OPERATORS = {
    **{"__add__": "add", "__radd__": "add", "__sub__": "subtract", "__mul__": "multiply", "__rmul__": "multiply"},
    "__truediv__": "divide",
}


class Call(NamedTuple):
    """An operation: its name in Paddle, the type its inputs were cast to, shape and type of its results."""

    name: str
    dtype: object
    results: list[tuple[tuple[int, ...], object]]


class Autocast:
    """calls: the operations so far that floating tensors went into."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.busy = False

    def wrap(self, name: str, function: Callable) -> Callable:
        @functools.wraps(function)
        def run(*values: object, **options: object) -> object:
            tensors = list(floating([*values, *options.values()]))
            if self.busy or not tensors:
                return function(*values, **options)
            dtype = decide(NAMES.get(name, name), tensors)
            self.busy = True
            try:
                with uncast():
                    dtype, results = compute(name, function, values, options, dtype)
            finally:
                self.busy = False
            found = [(tuple(r.shape), r.dtype) for r in floating([results])]
            self.calls.append(Call(NAMES.get(name, name), dtype, found))
            return results

        return run


def compute(name: str, function: Callable, values: tuple, options: dict, dtype: object | None) -> tuple[object, object]:
    """The type an operation computes in, `dtype` if given, and its results, from inputs in it and rounded to it."""
    given = {t.dtype for t in floating([*values, *options.values()])}
    if name in UNTOUCHED:
        return next(iter(given)), function(*values, **options)
    if dtype is None:
        if len(given) > 1 and name not in NORMS:
            raise TypeError(f"{name}, outside of auto_cast, of {given}")
        dtype = next(floating([*values])).dtype
    first = name in NORMS
    options = {key: rounded(value, dtype, first) for key, value in options.items()}
    results = function(*(rounded(v, dtype, first and i > 0) for i, v in enumerate(values)), **options)
    if not first or isinstance(results, Tensor):
        return dtype, narrowed(results, dtype)
    return dtype, type(results)([narrowed(results[0], dtype), *results[1:]])


def rounded(value: object, dtype: object, as_it_is: bool) -> object:
    """Tensors in float32, with the values that they have in `dtype`."""
    if isinstance(value, (list, tuple)):
        return type(value)(rounded(v, dtype, as_it_is) for v in value)
    if as_it_is or not isinstance(value, Tensor) or value.dtype not in FLOATING:
        return value
    value = value if value.dtype == dtype else value.astype(dtype)
    return value if value.dtype == paddle.float32 else value.astype("float32")


def narrowed(value: object, dtype: object) -> object:
    if isinstance(value, (list, tuple)):
        return type(value)(narrowed(v, dtype) for v in value)
    changes = isinstance(value, Tensor) and value.dtype == paddle.float32 and dtype != paddle.float32
    return value.astype(dtype) if changes else value


def floating(values: list) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from floating(value)
        elif isinstance(value, Tensor) and value.dtype in FLOATING:
            yield value


def decide(name: str, tensors: list[Tensor]) -> object | None:
    """The type that Paddle casts these inputs of an operation to; None if auto_cast is off or ignores them.

    GetAmpDestDtype and GetPromoteType of paddle/fluid/imperative/amp_utils.h.
    """
    tracer = paddle.base.framework._dygraph_tracer()
    level, small = tracer._amp_level, tracer._amp_dtype
    if level == paddle.base.core.AmpLevel.O0 or name in UNTOUCHED:
        return None
    white, black = tracer._get_amp_op_list()
    promotes = level != paddle.base.core.AmpLevel.O2 or tracer._use_promote
    if name in black and not (promotes and name in white):
        return paddle.float32
    asked = tensors[:1] if name in NORMS else tensors
    if promotes and name not in white and any(t.dtype == paddle.float32 for t in asked):
        return paddle.float32
    return paddle.float32 if name in NO_KERNEL[small] else SMALL[small]


@contextlib.contextmanager
def uncast() -> Iterator[None]:
    """Switch off Paddle's own cast, which makes everything float32 on a CPU."""
    tracer = paddle.base.framework._dygraph_tracer()
    level, tracer._amp_level = tracer._amp_level, paddle.base.core.AmpLevel.O0
    try:
        yield
    finally:
        tracer._amp_level = level


class GPUTracer:
    """Paddle's tracer, with a GPU as the expected place."""

    _expected_place = mock.Mock(**{"is_gpu_place.return_value": True, "is_xpu_place.return_value": False})

    def __init__(self, tracer: object) -> None:
        object.__setattr__(self, "tracer", tracer)
        self._expected_place.is_custom_place.return_value = False

    def __getattr__(self, name: str) -> object:
        return getattr(self.tracer, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.tracer, name, value)


@contextlib.contextmanager
def as_on_a_gpu() -> Iterator[Autocast]:
    """Within, paddle.amp.auto_cast casts as on a GPU, and ppdet is told that there is one."""
    module = sys.modules["paddle.amp.auto_cast"]
    tracer, autocast = GPUTracer(paddle.base.framework._dygraph_tracer()), Autocast()
    answers = [(module, "_dygraph_tracer", tracer), (device, "name", "gpu:0"), (device, "capability", (9, 0))]
    answers += [(module, f"_is_gpu_{dtype}_supported", True) for dtype in SMALL]
    with contextlib.ExitStack() as stack:
        for owner, name, answer in answers:
            stack.enter_context(mock.patch.object(owner, name, lambda answer=answer: answer))
        for name in dir(paddle._C_ops):
            function = getattr(paddle._C_ops, name)
            if callable(function) and not name.startswith("_"):
                stack.enter_context(mock.patch.object(paddle._C_ops, name, autocast.wrap(name, function)))
        for method, name in OPERATORS.items():
            wrapped = autocast.wrap(name, getattr(Tensor, method))
            stack.enter_context(mock.patch.object(Tensor, method, wrapped))
        yield autocast
