"""Finds the lines of Python code that read a tensor's value, which on a GPU makes the host wait for the device.

It works on a CPU as well, where nothing waits, so tests can use it there.
"""

import contextlib
import functools
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

# Methods of a tensor through which its value gets to Python: bool(), float(), int(), format() and so on use these.
READS = ("numpy", "item", "tolist", "cpu", "__array__", "__dlpack__")
# Operators whose output size depends on values of the input: the host reads the size to allocate memory.
SIZED_BY_VALUES = ("nonzero", "masked_select", "unique", "unique_consecutive", "multiclass_nms3", "bincount")
# Positions of arguments that operators need on the host. A tensor in such a position is read.
HOST_ARGUMENTS = {
    **{name: (1, 2) for name in ("clip", "clip_", "slice", "scale", "scale_", "full_")},
    **{name: (1,) for name in ("topk", "reshape", "reshape_", "expand", "tile", "cumsum", "pow", "split")},
    **{name: (0, 1) for name in ("full", "uniform", "gaussian")},
}


class Reads:
    """Records reads of tensors in the main thread while `watching` is true.

    places: where tensors were read, as "file:line function: operation", in order. It names the innermost line of ppdet.
    """

    def __init__(self) -> None:
        self.places: list[str] = []
        self.watching = False

    def add(self, operation: str) -> None:
        frames = [frame for frame in traceback.extract_stack()[:-2] if "/ppdet/" in frame.filename.replace("\\", "/")]
        frames = [frame for frame in frames if not frame.filename.endswith("acceptance/tensor_reads.py")]
        place = f"{frames[-1].filename}:{frames[-1].lineno} {frames[-1].name}" if frames else "outside of ppdet"
        self.places.append(f"{place}: {operation}")


@contextlib.contextmanager
def record_reads() -> Iterator[Reads]:
    """Within the block, record every known way to read a tensor, whenever `watching` of the result is true."""
    import paddle

    reads = Reads()
    # The condition under which a call of the function reads a tensor, by the function's owner and name.
    conditions: dict[tuple[Any, str], Callable[[Sequence[Any]], bool]] = {
        **{(paddle.Tensor, name): always for name in READS},
        **{(paddle.Tensor, name): index_has_values for name in ("__getitem__", "__setitem__")},
        **{(paddle._C_ops, name): always for name in SIZED_BY_VALUES},
        **{(paddle._C_ops, name): functools.partial(has_tensor_at, at) for name, at in HOST_ARGUMENTS.items()},
    }
    originals = {place: getattr(*place) for place in conditions if hasattr(*place)}
    try:
        for (owner, name), original in originals.items():
            setattr(owner, name, recording(reads, name, original, conditions[owner, name]))
        yield reads
    finally:
        for (owner, name), original in originals.items():
            setattr(owner, name, original)


def recording(
    reads: Reads, name: str, function: Callable[..., Any], is_read: Callable[[Sequence[Any]], bool]
) -> Callable[..., Any]:
    """Wrap `function` so that it is recorded as `name` if `is_read(arguments)`. Reads within the call do not count."""

    @functools.wraps(function)
    def call(*values: Any, **named: Any) -> Any:
        if not (reads.watching and threading.current_thread() is threading.main_thread() and is_read(values)):
            return function(*values, **named)
        reads.watching = False
        try:
            reads.add(name)
            return function(*values, **named)
        finally:
            reads.watching = True

    return call


def always(values: Sequence[Any]) -> bool:
    return True


def index_has_values(values: Sequence[Any]) -> bool:
    """Whether tensor[index] depends on values on the device: boolean masks, or tensors as ends of slices."""
    import paddle

    index = values[1] if isinstance(values[1], tuple) else (values[1],)
    ends = [end for item in index if isinstance(item, slice) for end in (item.start, item.stop, item.step)]
    masks = [item for item in index if isinstance(item, paddle.Tensor) and item.dtype == paddle.bool]
    return bool(masks) or any(isinstance(end, paddle.Tensor) for end in ends)


def has_tensor_at(positions: Sequence[int], values: Sequence[Any]) -> bool:
    """Whether an argument at one of the positions is a tensor, or a list or tuple with a tensor."""
    import paddle

    chosen = [values[position] for position in positions if position < len(values)]
    inner = [item for value in chosen if isinstance(value, (list, tuple)) for item in value]
    return any(isinstance(value, paddle.Tensor) for value in [*chosen, *inner])
