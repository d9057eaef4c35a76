"""What waits for a device, seen from Python: so it can be counted on a CPU, where nothing has to wait."""

import contextlib
import functools
import threading
import traceback
from collections.abc import Iterator, Sequence

# How a number gets from a tensor to Python: truth, float(), int(), format() and the like all go through one of these.
READS = ("numpy", "item", "tolist", "cpu", "__array__", "__dlpack__")
# Operators whose result's size depends on values: the host reads them to know how much memory to ask for.
SIZED_BY_VALUES = ("nonzero", "masked_select", "unique", "unique_consecutive", "multiclass_nms3", "bincount")
# Arguments, by position, that an operator takes from the host: of a tensor they are read.
FROM_HOST = {
    **{name: (1, 2) for name in ("clip", "clip_", "slice", "scale", "scale_", "full_")},
    **{name: (1,) for name in ("topk", "reshape", "reshape_", "expand", "tile", "cumsum", "pow", "split")},
    **{name: (0, 1) for name in ("full", "uniform", "gaussian")},
}


class Reads:
    """Where the main thread read tensors while this watched.

    places: the innermost lines of this project's code, "file:line function: what", in order.
    """

    def __init__(self) -> None:
        self.places: list[str] = []
        self.watches = False

    def note(self, what: str) -> None:
        frames = [frame for frame in traceback.extract_stack()[:-2] if "/ppdet/" in frame.filename.replace("\\", "/")]
        frames = [frame for frame in frames if not frame.filename.endswith("acceptance/reads.py")]
        where = f"{frames[-1].filename}:{frames[-1].lineno} {frames[-1].name}" if frames else "elsewhere"
        self.places.append(f"{where}: {what}")


@contextlib.contextmanager
def reads_noted() -> Iterator[Reads]:
    """Within the block every known way to read a tensor is noted, whenever the `Reads` given watches."""
    import paddle

    reads = Reads()
    tensor, operators = paddle.Tensor, paddle._C_ops
    wrapped = {(tensor, name): always for name in READS}
    wrapped.update({(tensor, name): index_is_read for name in ("__getitem__", "__setitem__")})
    wrapped.update({(operators, name): always for name in SIZED_BY_VALUES})
    wrapped.update({(operators, name): functools.partial(takes_tensor, places) for name, places in FROM_HOST.items()})
    originals = {place: getattr(*place) for place in wrapped if hasattr(*place)}
    try:
        for place, original in originals.items():
            setattr(*place, noting(reads, place[1], original, wrapped[place]))
        yield reads
    finally:
        for place, original in originals.items():
            setattr(*place, original)


def noting(reads: Reads, what: str, function: object, is_read: object) -> object:
    """`function`, which is noted when the arguments say that it reads; what it calls itself is no second read."""

    @functools.wraps(function)
    def call(*values: object, **named: object) -> object:
        if not (reads.watches and threading.current_thread() is threading.main_thread() and is_read(values)):
            return function(*values, **named)
        reads.watches = False
        try:
            reads.note(what)
            return function(*values, **named)
        finally:
            reads.watches = True

    return call


def always(values: Sequence[object]) -> bool:
    return True


def index_is_read(values: Sequence[object]) -> bool:
    """Whether tensor[index] has to know values of the index: masks, and ends of slices."""
    import paddle

    index = values[1] if isinstance(values[1], tuple) else (values[1],)
    ends = [end for item in index if isinstance(item, slice) for end in (item.start, item.stop, item.step)]
    masks = [item for item in index if isinstance(item, paddle.Tensor) and item.dtype == paddle.bool]
    return bool(masks) or any(isinstance(end, paddle.Tensor) for end in ends)


def takes_tensor(places: Sequence[int], values: Sequence[object]) -> bool:
    import paddle

    taken = [values[place] for place in places if place < len(values)]
    inner = [item for value in taken if isinstance(value, (list, tuple)) for item in value]
    return any(isinstance(value, paddle.Tensor) for value in [*taken, *inner])
