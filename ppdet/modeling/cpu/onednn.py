"""The part of oneDNN's C interface that training needs, by ctypes.

Paddle's wheels contain the library and use it for inference only; in training, their convolutions take about twice as
long. The values and signatures follow oneDNN 3 (https://uxlfoundation.github.io/oneDNN, C API), from 3.0 on.
"""

import ctypes
import functools
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import paddle
from paddle import Tensor

Handle = ctypes.c_void_p
Shape: TypeAlias = tuple[int, int, int, int]  # N, C, H, W

FLOAT32, BFLOAT16 = 3, 2
DATA_TYPES = {paddle.float32: FLOAT32, paddle.bfloat16: BFLOAT16}
ANY_LAYOUT = 1  # a format tag: the primitive chooses the layout
FORWARD_TRAINING, BACKWARD = 64, 128
UNIMPLEMENTED = 3  # a status
QUERY_IMPLEMENTATION = 8
SCRATCHPAD_BY_CALLER = 1  # a scratchpad mode
PAGE = 4096
BFLOAT16_INSTRUCTIONS = 0x80  # a bit of avx512_core_bf16 and of all larger instruction sets
RELU, RELU_FROM_RESULT = 0x20, 0x100
ADD, MULTIPLY = 0x1FFF0, 0x1FFF1
MAX_POOL, MEAN_POOL = 0x1FF, 0x3FF
NEAREST = 0x2FFF0
CONVOLUTION = 0x1


class Arg:
    """Numbers of the arguments of primitives."""

    SRC, SRC_1, DST, WEIGHTS, BIAS, MEAN, VARIANCE, SCALE, SHIFT, WORKSPACE = 1, 2, 17, 33, 41, 49, 50, 51, 52, 64
    DIFF_SRC, DIFF_DST, DIFF_WEIGHTS, DIFF_BIAS, DIFF_SCALE, DIFF_SHIFT = 129, 145, 161, 169, 255, 256
    SCRATCHPAD = 80


SCALES_OF = 4096  # SCALES_OF | SRC is the argument with the scales of SRC
BINARY_POST_OP = 32768  # BINARY_POST_OP * (i + 1) | SRC_1 is the second operand of post-operation i
# The query that asks a primitive for the descriptor of an argument.
QUERY = {
    Arg.SRC: 129,
    Arg.DIFF_SRC: 130,
    Arg.WEIGHTS: 131,
    Arg.DIFF_WEIGHTS: 132,
    Arg.DST: 133,
    Arg.DIFF_DST: 134,
    Arg.WORKSPACE: 135,
}
QUERY[Arg.SCRATCHPAD] = 136


class OneDNNError(RuntimeError):
    """A call failed. `status` is UNIMPLEMENTED where the library has no implementation for the processor."""

    def __init__(self, function: str, status: int) -> None:
        super().__init__(f"oneDNN: {function} failed with status {status}")
        self.status = status


class Argument(ctypes.Structure):
    _fields_ = [("argument", ctypes.c_int), ("memory", Handle)]


class Library(NamedTuple):
    """The loaded library, with an engine and a stream for the CPU."""

    functions: ctypes.CDLL
    engine: Handle
    stream: Handle
    version: tuple[int, int, int]


class Version(ctypes.Structure):
    _fields_ = [("major", ctypes.c_int), ("minor", ctypes.c_int), ("patch", ctypes.c_int)]


@functools.lru_cache(maxsize=1)
def library() -> Library:
    """The library in Paddle's wheel: libdnnl.so.3 on Linux, dnnl.dll on Windows, libdnnl.3.dylib on macOS.

    Raises:
        OSError: the wheel does not contain it, or its version is not 3.
    """
    folder = Path(paddle.__file__).parent / "libs"
    paths = sorted(path for path in folder.glob("*dnnl*") if {".so", ".dll", ".dylib"} & set(path.suffixes))
    if not paths:
        raise OSError(f"{folder} has no oneDNN library")
    functions = ctypes.CDLL(str(paths[0]))
    functions.dnnl_version.restype = ctypes.POINTER(Version)
    functions.dnnl_primitive_desc_query_md.restype = Handle
    functions.dnnl_memory_desc_get_size.restype = ctypes.c_size_t
    version = functions.dnnl_version().contents
    if version.major != 3:
        raise OSError(f"{paths[0].name} is oneDNN {version.major}.{version.minor}, expected version 3")
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
    """Whether oneDNN uses the processor's bfloat16 instructions; ONEDNN_MAX_CPU_ISA can switch them off."""
    return bool(library().functions.dnnl_get_effective_cpu_isa() & BFLOAT16_INSTRUCTIONS)


def call(function: str, *arguments: object) -> None:
    """Call a function of the library; raise OneDNNError if it fails."""
    status = getattr(library().functions, function)(*arguments)
    if status:
        raise OneDNNError(function, status)


class Owned:
    """An object of the library, destroyed when nothing refers to it any more."""

    def __init__(self, create: str, destroy: str, *arguments: object) -> None:
        self.handle = Handle()
        call(create, ctypes.byref(self.handle), *arguments)
        # Nothing is destroyed at the end of the process, when the order would be arbitrary.
        weakref.finalize(self, getattr(library().functions, destroy), self.handle).atexit = False


class Descriptor(Owned):
    """Shape, data type and layout of an array; strides are in elements, and None lets the primitive choose a layout."""

    def __init__(self, shape: Sequence[int], data_type: int, strides: Sequence[int] | None) -> None:
        by = "tag" if strides is None else "strides"
        layout = ANY_LAYOUT if strides is None else dimensions(strides)
        arguments = len(shape), dimensions(shape), data_type, layout
        super().__init__(f"dnnl_memory_desc_create_with_{by}", "dnnl_memory_desc_destroy", *arguments)


@functools.lru_cache(maxsize=4096)
def dense(shape: tuple[int, ...], data_type: int = FLOAT32) -> Descriptor:
    """The descriptor of a contiguous array in C order."""
    strides = [1]
    for size in shape[:0:-1]:
        strides.insert(0, strides[0] * size)
    return Descriptor(shape, data_type, strides)


@functools.lru_cache(maxsize=4096)
def channels_last(shape: Shape, data_type: int) -> Descriptor:
    """The descriptor of an array of shape (N, C, H, W) whose memory is (N, H, W, C)."""
    _, c, h, w = shape
    return Descriptor(shape, data_type, (h * w * c, 1, w * c, c))


class Attributes(Owned):
    """Scales of a primitive's arguments, and post-operations on its result, in the order in which they are added."""

    def __init__(self) -> None:
        super().__init__("dnnl_primitive_attr_create", "dnnl_primitive_attr_destroy")
        call("dnnl_primitive_attr_set_scratchpad_mode", self.handle, SCRATCHPAD_BY_CALLER)
        self.operations = Owned("dnnl_post_ops_create", "dnnl_post_ops_destroy")
        self.second_operands: list[tuple[int, Descriptor]] = []
        self.count = 0

    def add(self, descriptor: Descriptor) -> "Attributes":
        """Add an array with this descriptor to the result; returns self."""
        call("dnnl_post_ops_append_binary", self.operations.handle, ADD, descriptor.handle)
        self.second_operands.append((BINARY_POST_OP * (self.count + 1) | Arg.SRC_1, descriptor))
        return self._finish()

    def accumulate(self) -> "Attributes":
        """Add the previous content of the result's memory; returns self."""
        call("dnnl_post_ops_append_sum", self.operations.handle, ctypes.c_float(1.0), 0, 0)
        return self._finish()

    def relu(self) -> "Attributes":
        """Apply a ReLU to the result; returns self."""
        zero = ctypes.c_float(0.0)
        call("dnnl_post_ops_append_eltwise", self.operations.handle, RELU, zero, zero)
        return self._finish()

    def scale_rows(self, argument: int, dimensions: int) -> "Attributes":
        """Multiply the argument by one factor for each index of its first `dimensions`; returns self."""
        call("dnnl_primitive_attr_set_scales_mask", self.handle, argument, 2**dimensions - 1)
        return self

    def _finish(self) -> "Attributes":
        self.count += 1
        call("dnnl_primitive_attr_set_post_ops", self.handle, self.operations.handle)
        return self


class Plan(Owned):
    """A primitive before it is compiled: its operation, and the layouts of its arguments."""

    def __init__(self, kind: str, *arguments: object, attributes: Attributes | None = None) -> None:
        self.kind, self.attributes = kind, attributes or Attributes()
        handles = [a.handle if isinstance(a, Owned) else a for a in arguments]
        handles.append(self.attributes.handle)
        # The engine is the first argument of all primitives except reorder.
        engine = [] if kind == "reorder" else [library().engine]
        create = f"dnnl_{kind}_primitive_desc_create"
        super().__init__(create, "dnnl_primitive_desc_destroy", *engine, *handles)

    def descriptor(self, argument: int) -> Handle:
        """The layout of an argument; the handle is valid as long as the plan exists."""
        return Handle(library().functions.dnnl_primitive_desc_query_md(self.handle, QUERY[argument], 0))

    @property
    def implementation(self) -> str:
        name = ctypes.c_char_p()
        call("dnnl_primitive_desc_query", self.handle, QUERY_IMPLEMENTATION, 0, ctypes.byref(name))
        return (name.value or b"").decode()


class Scratch(threading.local):
    """Temporary memory of primitives, shared by all primitives of a thread."""

    memory: np.ndarray | None = None

    def address(self, size: int) -> int:
        """The address of at least `size` bytes, aligned to a page."""
        if self.memory is None or self.memory.nbytes < size + PAGE:
            self.memory = None  # free the smaller memory before allocating the larger one
            self.memory = np.empty(size + PAGE, np.uint8)
        start = self.memory.ctypes.data
        return start + -start % PAGE


scratch = Scratch()


# The descriptor of each argument of a primitive, by its number.
Arguments: TypeAlias = dict[int, Descriptor | Handle]


class Primitive(Owned):
    """A compiled operation."""

    def __init__(self, plan: Plan, arguments: Arguments) -> None:
        super().__init__("dnnl_primitive_create", "dnnl_primitive_destroy", plan.handle)
        self.plan = plan
        described = {**arguments, **dict(plan.attributes.second_operands)}
        scratchpad = plan.descriptor(Arg.SCRATCHPAD)
        self.scratch_bytes = size_in_bytes(scratchpad)
        if self.scratch_bytes:
            described[Arg.SCRATCHPAD] = scratchpad
        self.memories = {number: Memory(descriptor) for number, descriptor in described.items()}
        self.arguments = (Argument * len(described))(*[Argument(n, m.handle) for n, m in self.memories.items()])
        self.lock = threading.Lock()  # threads share the primitive, whose memories have one address at a time

    def __call__(self, arrays: "Mapping[int, Array]") -> None:
        """Compute with these arrays, by number of the argument; the result is complete when the call returns."""
        place = library().functions.dnnl_memory_set_data_handle
        with self.lock:
            for number, array in arrays.items():
                place(self.memories[number].handle, Handle(address(array)))
            if self.scratch_bytes:
                place(self.memories[Arg.SCRATCHPAD].handle, Handle(scratch.address(self.scratch_bytes)))
            call("dnnl_primitive_execute", self.handle, library().stream, len(self.arguments), self.arguments)


class Memory(Owned):
    """An argument of a primitive: a descriptor and the address of the array."""

    def __init__(self, descriptor: Descriptor | Handle) -> None:
        handle = descriptor.handle if isinstance(descriptor, Owned) else descriptor
        super().__init__("dnnl_memory_create", "dnnl_memory_destroy", handle, library().engine, Handle(None))


class Buffer:
    """Memory in a layout that a primitive chose."""

    def __init__(self, descriptor: Handle) -> None:
        self.memory = paddle.empty([max(1, size_in_bytes(descriptor))], "uint8")


# An array that a primitive reads or writes: contiguous, or an address, whose memory the caller keeps alive.
Array: TypeAlias = Tensor | np.ndarray | Buffer | int


def address(array: Array) -> int:
    """The address of the array's first element."""
    if isinstance(array, int):
        return array
    if isinstance(array, np.ndarray):
        return array.ctypes.data
    return array.memory.data_ptr() if isinstance(array, Buffer) else array.data_ptr()


def dimensions(values: Sequence[int]) -> ctypes.Array:
    """Sizes or strides as oneDNN expects them."""
    array = (ctypes.c_int64 * 12)()
    array[: len(values)] = list(values)
    return array


def size_in_bytes(descriptor: Handle) -> int:
    return library().functions.dnnl_memory_desc_get_size(descriptor)


def same_layout(first: Handle, second: Handle) -> bool:
    return bool(library().functions.dnnl_memory_desc_equal(first, second))
