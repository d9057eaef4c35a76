"""oneDNN's C interface, as far as training needs it.

Paddle's wheels carry the library and use it for inference only; in training their convolutions take a path that is
about half as fast. Values and signatures are those of oneDNN 3 (https://uxlfoundation.github.io/oneDNN, C API), which
are the same from 3.0 on.
"""

import ctypes
import functools
import os
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import paddle
from paddle import Tensor

Handle = ctypes.c_void_p

FLOAT32, BFLOAT16 = 3, 2
DATA_TYPES = {paddle.float32: FLOAT32, paddle.bfloat16: BFLOAT16}
ANY_LAYOUT = 1  # a format tag: the primitive chooses
FORWARD_TRAINING, BACKWARD = 64, 128
UNIMPLEMENTED = 3  # a status
QUERY_IMPLEMENTATION = 8
# Arguments of a primitive.
SRC, SRC_1, DST, WEIGHTS, BIAS, MEAN, VARIANCE, SCALE, SHIFT, WORKSPACE = 1, 2, 17, 33, 41, 49, 50, 51, 52, 64
DIFF_SRC, DIFF_DST, DIFF_WEIGHTS, DIFF_BIAS, DIFF_SCALE, DIFF_SHIFT = 129, 145, 161, 169, 255, 256
SCALES_OF = 4096  # SCALES_OF | SRC is the argument that holds the scales of SRC
BINARY_POST_OP = 32768  # BINARY_POST_OP * (i + 1) | SRC_1 is the second operand of post-operation i
SCRATCHPAD = 80
# The descriptors that QUERY values 129 to 136 ask for.
QUERY = {SRC: 129, DIFF_SRC: 130, WEIGHTS: 131, DIFF_WEIGHTS: 132, DST: 133, DIFF_DST: 134, WORKSPACE: 135}
QUERY[SCRATCHPAD] = 136
SCRATCHPAD_BY_CALLER = 1  # a scratchpad mode
PAGE = 4096
BFLOAT16_INSTRUCTIONS = 0x80  # a bit of the instruction sets that have them, avx512_core_bf16 and all above it


class OneDNNError(RuntimeError):
    """The library refused a call; `status` UNIMPLEMENTED says that it has nothing for what was asked."""

    def __init__(self, function: str, status: int) -> None:
        super().__init__(f"oneDNN: {function} gave status {status}")
        self.status = status


class Argument(ctypes.Structure):
    _fields_ = [("argument", ctypes.c_int), ("memory", Handle)]


class Library(NamedTuple):
    functions: ctypes.CDLL
    engine: Handle
    stream: Handle
    version: tuple[int, int, int]


class Version(ctypes.Structure):
    _fields_ = [("major", ctypes.c_int), ("minor", ctypes.c_int), ("patch", ctypes.c_int)]


@functools.lru_cache(maxsize=1)
def library() -> Library:
    """The library in Paddle's wheel, with an engine for the CPU.

    Raises:
        OSError: the wheel has none (macOS, Windows, ARM), or one whose version is not 3.
    """
    path = Path(paddle.__file__).parent / "libs" / "libdnnl.so.3"
    functions = ctypes.CDLL(str(path))
    functions.dnnl_version.restype = ctypes.POINTER(Version)
    functions.dnnl_primitive_desc_query_md.restype = Handle
    functions.dnnl_memory_desc_get_size.restype = ctypes.c_size_t
    version = functions.dnnl_version().contents
    if version.major != 3:
        raise OSError(f"oneDNN is version {version.major}.{version.minor}, 3 is needed")
    engine, stream = Handle(), Handle()
    cpu = 1
    for function, *arguments in (
        ("dnnl_engine_create", ctypes.byref(engine), cpu, ctypes.c_size_t(0)),
        ("dnnl_stream_create", ctypes.byref(stream), engine, 1),
    ):
        status = getattr(functions, function)(*arguments)
        if status:
            raise OneDNNError(function, status)
    return Library(functions, engine, stream, (version.major, version.minor, version.patch))


def multiplies_bfloat16() -> bool:
    """Whether oneDNN uses a processor's instructions for bfloat16 here; ONEDNN_MAX_CPU_ISA can leave them out."""
    return bool(library().functions.dnnl_get_effective_cpu_isa() & BFLOAT16_INSTRUCTIONS)


def call(function: str, *arguments: object) -> None:
    status = getattr(library().functions, function)(*arguments)
    if status:
        raise OneDNNError(function, status)


class Owned:
    """A handle of the library, given back when nothing refers to it any more."""

    def __init__(self, create: str, destroy: str, *arguments: object) -> None:
        self.handle = Handle()
        call(create, ctypes.byref(self.handle), *arguments)
        # At the end of the process the system takes everything back, in whatever order.
        weakref.finalize(self, getattr(library().functions, destroy), self.handle).atexit = False


class Descriptor(Owned):
    """Shape, data type and layout of an array. `strides` in elements; None leaves the layout to the primitive."""

    def __init__(self, shape: Sequence[int], data_type: int, strides: Sequence[int] | None) -> None:
        destroy = "dnnl_memory_desc_destroy"
        if strides is None:
            create, layout = "dnnl_memory_desc_create_with_tag", ANY_LAYOUT
        else:
            create, layout = "dnnl_memory_desc_create_with_strides", dimensions(strides)
        super().__init__(create, destroy, len(shape), dimensions(shape), data_type, layout)


@functools.lru_cache(maxsize=4096)
def dense(shape: tuple[int, ...], data_type: int = FLOAT32) -> Descriptor:
    """Row by row, the last dimension fastest."""
    strides = [1]
    for size in shape[:0:-1]:
        strides.insert(0, strides[0] * size)
    return Descriptor(shape, data_type, strides)


@functools.lru_cache(maxsize=4096)
def channels_last(shape: tuple[int, int, int, int], data_type: int) -> Descriptor:
    """(N, C, H, W) with the channels of a pixel side by side."""
    _, c, h, w = shape
    return Descriptor(shape, data_type, (h * w * c, 1, w * c, c))


class Attributes(Owned):
    """What else a primitive does: scales on arguments and operations on its result, in the order they are added."""

    def __init__(self) -> None:
        super().__init__("dnnl_primitive_attr_create", "dnnl_primitive_attr_destroy")
        call("dnnl_primitive_attr_set_scratchpad_mode", self.handle, SCRATCHPAD_BY_CALLER)
        self.operations = Owned("dnnl_post_ops_create", "dnnl_post_ops_destroy")
        self.second_operands: list[tuple[int, Descriptor]] = []
        self.count = 0

    def add(self, descriptor: Descriptor) -> "Attributes":
        """Add an array; returns self."""
        call("dnnl_post_ops_append_binary", self.operations.handle, ADD, descriptor.handle)
        self.second_operands.append((BINARY_POST_OP * (self.count + 1) | SRC_1, descriptor))
        return self._finish()

    def accumulate(self) -> "Attributes":
        """Add what the result's memory held before; returns self."""
        call("dnnl_post_ops_append_sum", self.operations.handle, ctypes.c_float(1.0), 0, 0)
        return self._finish()

    def relu(self) -> "Attributes":
        zero = ctypes.c_float(0.0)
        call("dnnl_post_ops_append_eltwise", self.operations.handle, RELU, zero, zero)
        return self._finish()

    def scale_rows(self, argument: int, dimensions: int) -> "Attributes":
        """Multiply the argument by a factor for each index of its first `dimensions`; returns self."""
        call("dnnl_primitive_attr_set_scales_mask", self.handle, argument, 2**dimensions - 1)
        return self

    def _finish(self) -> "Attributes":
        self.count += 1
        call("dnnl_primitive_attr_set_post_ops", self.handle, self.operations.handle)
        return self


RELU, RELU_FROM_RESULT = 0x20, 0x100
ADD, MULTIPLY = 0x1FFF0, 0x1FFF1
MAX_POOL, MEAN_POOL = 0x1FF, 0x3FF
NEAREST = 0x2FFF0
CONVOLUTION = 0x1


class Plan(Owned):
    """A primitive before it is compiled: what it does, in which layouts."""

    def __init__(self, kind: str, *arguments: object, attributes: Attributes | None = None) -> None:
        self.kind, self.attributes = kind, attributes or Attributes()
        handles = [a.handle if isinstance(a, Owned) else a for a in arguments]
        handles.append(self.attributes.handle)
        # The engine is the first argument of all but a reordering.
        engine = [] if kind == "reorder" else [library().engine]
        create = f"dnnl_{kind}_primitive_desc_create"
        super().__init__(create, "dnnl_primitive_desc_destroy", *engine, *handles)

    def descriptor(self, argument: int) -> Handle:
        """The layout of an argument, valid as long as the plan."""
        return Handle(library().functions.dnnl_primitive_desc_query_md(self.handle, QUERY[argument], 0))

    @property
    def implementation(self) -> str:
        name = ctypes.c_char_p()
        call("dnnl_primitive_desc_query", self.handle, QUERY_IMPLEMENTATION, 0, ctypes.byref(name))
        return (name.value or b"").decode()


class Scratch(threading.local):
    """Memory that primitives compute in, shared by all of a thread's."""

    memory: np.ndarray | None = None

    def of_size(self, size: int) -> int:
        """Address of at least that many bytes, aligned to a page."""
        if self.memory is None or self.memory.nbytes < size + PAGE:
            self.memory = None  # before the larger one is made
            self.memory = np.empty(size + PAGE, np.uint8)
        start = self.memory.ctypes.data
        return start + -start % PAGE


scratch = Scratch()
primitives: weakref.WeakSet = weakref.WeakSet()


def free_locks() -> None:
    """In a forked process nobody holds the locks that other threads held at that moment."""
    for primitive in primitives:
        primitive.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=free_locks)


class Primitive(Owned):
    """A compiled operation. `arguments`: number of the argument -> its descriptor."""

    def __init__(self, plan: Plan, arguments: dict[int, object]) -> None:
        super().__init__("dnnl_primitive_create", "dnnl_primitive_destroy", plan.handle)
        self.plan = plan
        arguments = {**arguments, **dict(plan.attributes.second_operands)}
        scratchpad = plan.descriptor(SCRATCHPAD)
        self.scratch_bytes = size_in_bytes(scratchpad)
        if self.scratch_bytes:
            arguments[SCRATCHPAD] = scratchpad
        self.memories = {number: Memory(descriptor) for number, descriptor in arguments.items()}
        self.arguments = (Argument * len(arguments))(*[(n, m.handle) for n, m in self.memories.items()])
        self.lock = threading.Lock()
        primitives.add(self)

    def __call__(self, arrays: dict[int, "Array"]) -> None:
        """Run on these arrays, one for every argument; done when it returns."""
        place = library().functions.dnnl_memory_set_data_handle
        with self.lock:
            for number, array in arrays.items():
                place(self.memories[number].handle, Handle(address(array)))
            if self.scratch_bytes:
                place(self.memories[SCRATCHPAD].handle, Handle(scratch.of_size(self.scratch_bytes)))
            call("dnnl_primitive_execute", self.handle, library().stream, len(self.arguments), self.arguments)


class Memory(Owned):
    """Tells a primitive where an array of this description lies."""

    def __init__(self, descriptor: object) -> None:
        handle = descriptor.handle if isinstance(descriptor, Owned) else descriptor
        super().__init__("dnnl_memory_create", "dnnl_memory_destroy", handle, library().engine, Handle(None))


class Buffer:
    """Memory in a primitive's own layout."""

    def __init__(self, descriptor: Handle) -> None:
        self.memory = paddle.empty([max(1, size_in_bytes(descriptor))], "uint8")


# What a primitive reads or writes: a dense array, or the address of one that is kept alive elsewhere.
Array = Tensor | np.ndarray | Buffer | int


def address(array: Array) -> int:
    if isinstance(array, int):
        return array
    if isinstance(array, np.ndarray):
        return array.ctypes.data
    return array.memory.data_ptr() if isinstance(array, Buffer) else array.data_ptr()


def dimensions(values: Sequence[int]) -> ctypes.Array:
    array = (ctypes.c_int64 * 12)()
    array[: len(values)] = list(values)
    return array


def size_in_bytes(descriptor: Handle) -> int:
    return library().functions.dnnl_memory_desc_get_size(descriptor)


def same_layout(first: Handle, second: Handle) -> bool:
    return bool(library().functions.dnnl_memory_desc_equal(first, second))
