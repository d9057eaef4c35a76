"""What auto_cast makes of every operation on a GPU, on a CPU: types as there, numbers rounded to them.

Paddle casts on a GPU what goes into its operations (paddle/fluid/imperative/amp_utils.h), and a CPU has no kernels of
the smaller types. Within `as_on_a_gpu`, the real paddle.amp.auto_cast runs, told that its place is a GPU, and so decides
level, type and lists. By these every operation takes its inputs in the type that Paddle would cast them to, computes in
float32, and gives its results in that type. `test_rules_are_paddles` (tests/modeling/test_autocast.py) asks Paddle's
own code for the same decisions.
"""

import contextlib
import functools
import sys
from collections.abc import Iterator
from typing import NamedTuple, Optional
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
    "reshape": "reshape2",
    "transpose": "transpose2",
    "sum": "reduce_sum",
    "mean": "reduce_mean",
    "max": "reduce_max",
    "all": "reduce_all",
    "matmul": "matmul_v2",
}
# Operations without a GPU kernel in these types (paddlepaddle-gpu 2.6.2, core.op_supported_infos).
NO_KERNEL = {
    "float16": {"deformable_conv", "sigmoid_cross_entropy_with_logits", "multiclass_nms3", "reduce_all"},
    "bfloat16": {"deformable_conv", "sigmoid_cross_entropy_with_logits", "multiclass_nms3", "reduce_all", "mean"},
}
# What auto_cast never looks at.
UNTOUCHED = {"cast", "full", "full_", "full_like", "empty", "arange", "assign", "share_data", "sync_batch_norm_"}
IN_PLACE = ("batch_norm", "layer_norm")  # only the map decides, and only the map is cast
OPERATORS = {
    "__add__": "add",
    "__radd__": "add",
    "__sub__": "subtract",
    "__mul__": "multiply",
    "__rmul__": "multiply",
    "__truediv__": "divide",
}


class Call(NamedTuple):
    """An operation: Paddle's name of it, the type that its inputs were cast to, and shape and type of its results."""

    name: str
    dtype: object
    results: list


class Autocast:
    """calls: every operation so far on floating tensors, in order."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.busy = False

    def wrap(self, name: str, function):
        @functools.wraps(function)
        def run(*values, **options):
            tensors = [v for v in flat([*values, *options.values()]) if isinstance(v, Tensor) and v.dtype in FLOATING]
            if self.busy or not tensors:
                return function(*values, **options)
            dtype = decide(NAMES.get(name, name), tensors)
            if dtype is None and name not in UNTOUCHED and len({t.dtype for t in tensors}) > 1:
                raise TypeError(f"{name} outside of auto_cast of {[t.dtype for t in tensors]}")
            self.busy = True
            try:
                with float32_kernels():
                    if name in UNTOUCHED:
                        results = function(*values, **options)
                    else:
                        results = self.compute(name, function, values, options, dtype)
            finally:
                self.busy = False
            found = [r for r in flat([results]) if isinstance(r, Tensor) and r.dtype in FLOATING]
            taken = dtype or tensors[0].dtype
            self.calls.append(Call(NAMES.get(name, name), taken, [(tuple(r.shape), r.dtype) for r in found]))
            return results

        return run

    def compute(self, name: str, function, values: tuple, options: dict, dtype: Optional[object]):
        """The function's results in float32, of what its inputs are in `dtype`, and then in that; None: as they come."""
        if dtype is None and all(t.dtype == paddle.float32 for t in flat([*values]) if isinstance(t, Tensor)):
            return function(*values, **options)
        first_only = name in IN_PLACE
        dtype = dtype or next(t.dtype for t in flat([*values]) if isinstance(t, Tensor) and t.dtype in FLOATING)

        def given(place: int, value: object) -> object:
            if isinstance(value, (list, tuple)):
                return type(value)(given(place, v) for v in value)
            if not (isinstance(value, Tensor) and value.dtype in FLOATING) or (first_only and place):
                return value
            value = value if value.dtype == dtype else value.astype(dtype)
            return value if value.dtype == paddle.float32 else value.astype("float32")

        results = function(*(given(i, v) for i, v in enumerate(values)), **options)

        def taken(place: int, value: object) -> object:
            if isinstance(value, (list, tuple)):
                return type(value)(taken(place if first_only else i, v) for i, v in enumerate(value))
            small = isinstance(value, Tensor) and value.dtype == paddle.float32 and dtype != paddle.float32
            return value.astype(dtype) if small and not (first_only and place) else value

        if first_only and isinstance(results, (list, tuple)):
            return type(results)(taken(i, v) for i, v in enumerate(results))
        return taken(0, results)


def flat(values: list) -> Iterator[object]:
    for value in values:
        yield from flat(value) if isinstance(value, (list, tuple)) else [value]


def decide(name: str, tensors: list[Tensor]) -> Optional[object]:
    """The type that Paddle casts these inputs of an operation to; None where auto_cast is off or looks away.

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
    if promotes and name not in white:
        asked = tensors[:1] if name in IN_PLACE else tensors
        if any(t.dtype == paddle.float32 for t in asked):
            return paddle.float32
    return paddle.float32 if name in NO_KERNEL[small] else SMALL[small]


@contextlib.contextmanager
def float32_kernels() -> Iterator[None]:
    """Paddle's own cast of inputs is off: on a CPU it makes everything float32."""
    tracer = paddle.base.framework._dygraph_tracer()
    level, tracer._amp_level = tracer._amp_level, paddle.base.core.AmpLevel.O0
    try:
        yield
    finally:
        tracer._amp_level = level


class Place:
    def is_gpu_place(self) -> bool:
        return True

    def is_xpu_place(self) -> bool:
        return False

    is_custom_place = is_xpu_place


class Tracer:
    """Paddle's tracer, whose place is a GPU."""

    _expected_place = Place()

    def __init__(self, tracer: object) -> None:
        object.__setattr__(self, "tracer", tracer)

    def __getattr__(self, name: str) -> object:
        return getattr(self.tracer, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.tracer, name, value)


@contextlib.contextmanager
def as_on_a_gpu() -> Iterator[Autocast]:
    """Within, paddle.amp.auto_cast casts as on a GPU of the newest kind."""
    module = sys.modules["paddle.amp.auto_cast"]
    tracer, autocast = Tracer(paddle.base.framework._dygraph_tracer()), Autocast()
    patches = [mock.patch.object(module, "_dygraph_tracer", lambda: tracer)]
    for name in ("_is_gpu_float16_supported", "_is_gpu_bfloat16_supported"):
        patches.append(mock.patch.object(module, name, lambda: True))
    patches += [mock.patch.object(device, "name", lambda: "gpu:0"), mock.patch.object(device, "capability", lambda: (9, 0))]
    for name in dir(paddle._C_ops):
        function = getattr(paddle._C_ops, name)
        if callable(function) and not name.startswith("_"):
            patches.append(mock.patch.object(paddle._C_ops, name, autocast.wrap(name, function)))
    for method, name in OPERATORS.items():
        patches.append(mock.patch.object(Tensor, method, autocast.wrap(name, getattr(Tensor, method))))
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        yield autocast
