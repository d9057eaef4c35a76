"""Reading pickles of arrays without calling any function that a file names.

An ordinary unpickler calls whatever a file names. Even one that allows only NumPy's functions lets a file claim arrays
of any size, and types whose bytes NumPy would take for pointers. Here the names in a file are mapped to the few classes
and functions below, which check their arguments.

A file can also refer to the same part of itself thousands of times, and have it copied each time. `Allowance` bounds
what a file may make by a multiple of its own size.
"""

import io
import math
import pickle
import re
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal

import numpy as np

# fmt: off
# The opcodes that pickles of arrays need, from protocol 2 on: no text opcodes of protocol 0, sets or class instances.
OPCODES = [
    "PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1",
    "BINFLOAT", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BYTEARRAY8", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS", "GLOBAL", "STACK_GLOBAL", "REDUCE",
    "BUILD", "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT", "MEMOIZE",
]
# fmt: on
NUMPY_CORES = ("numpy.core", "numpy._core")
DTYPE = re.compile(r"[<>|=]?([biufc][0-9]{1,2}|[?])")
LARGEST_WEIGHTS = 4 * 2**30  # bytes of a file; larger ones are not read
# A file may make MULTIPLE times its own bytes, and SPARE_BYTES more. Honest files make at most 3 times theirs: text of
# protocol 2, its bytes, and their array.
MULTIPLE = 4
SPARE_BYTES = 32 * 2**20
# What is counted for a step of a pickle and for an element of a container: more than Python's objects take.
OBJECT_BYTES = 128
MOST_DIMENSIONS = 64  # of an array in NumPy
LONGEST_GLOBAL = 500  # characters in the name of a class or a function
MOST_NUMBERED = 10_000  # names that are integers, other than 0, 1, 2, …


class RefusedError(Exception):
    """The file refers to something that weights do not need."""


class Allowance:
    """What a file of `size` bytes may still make: memory in bytes, with all steps and objects counted as such.

    Attributes:
        left: bytes.
        numbered: names that may still be integers. Python's mappings become slow where many integers are chosen so
            that they are stored in the same places.
    """

    def __init__(self, size: int) -> None:
        self.left = MULTIPLE * size + SPARE_BYTES
        self.numbered = MOST_NUMBERED

    def take(self, count: int) -> None:
        """Count `count` bytes; RefusedError if the file has made more than it may."""
        self.left -= count
        if self.left < 0:
            raise RefusedError("it makes many times the data that it holds, to fill the memory")

    def take_copies(self, values: Iterable[Any]) -> None:
        """Count what a function can copy of its arguments `values`: bytes, text, and the elements of containers."""
        for value in values:
            if isinstance(value, (bytes, bytearray)):
                self.take(len(value))
            elif isinstance(value, str):
                self.take(2 * len(value))  # its bytes, and what is made of them
            elif isinstance(value, (tuple, list, dict)):
                self.take(OBJECT_BYTES * len(value))

    def take_name(self, name: str | int, position: int) -> None:
        """Count a name, the one at `position` in its mapping."""
        if name != position and type(name) is int:
            self.numbered -= 1
            if self.numbered < 0:
                raise RefusedError(f"it has more than {MOST_NUMBERED:,} numbers in place of names")


class DType:
    """Stands for numpy.dtype: a type of numbers, whose byte order is set afterwards."""

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        if not DTYPE.fullmatch(code):
            raise RefusedError(f"it has arrays of type {code!r:.40}, which are not numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        if any(state[2:5]):
            raise RefusedError("it has arrays of structures, which are not numbers")
        if state[1] not in ("<", ">", "|", "="):
            raise ValueError("no byte order")
        self.dtype = self.dtype.newbyteorder(state[1])

    def read(self, data: bytes | str, shape: tuple[int, ...], order: Literal["C", "F"] = "C") -> np.ndarray:
        """Return the array stored in `data`, which must have exactly the bytes that `shape` needs.

        Args:
            data: bytes; in pickles of Python 2, text whose characters are the bytes.
            order: "C" if the last axis varies fastest, "F" if the first one does.
        """
        data = data.encode("latin1") if isinstance(data, str) else data
        check_shape(shape)
        if len(data) != math.prod(shape) * self.dtype.itemsize:
            raise ValueError(f"{len(data)} bytes for an array of {shape}")
        return np.frombuffer(data, self.dtype).reshape(shape, order=order).copy()


class NDArray:
    """Stands for numpy.ndarray: files name the class, and set the content of an instance afterwards."""

    value: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        shape, dtype, is_fortran, data = state[-4:]
        self.value = dtype.read(data, shape, "F" if is_fortran else "C")


def check_shape(shape: Any) -> None:
    """Raise ValueError unless `shape` is a tuple of at most MOST_DIMENSIONS sizes in the range of an int64."""
    if type(shape) is not tuple or len(shape) > MOST_DIMENSIONS:
        raise ValueError("a shape with too many dimensions, or of another type")
    if not all(type(size) is int and 0 <= size < 2**63 for size in shape):
        raise ValueError("a size that is no number, or too large")


def reconstruct(kind: Any, shape: Any, code: Any) -> NDArray:
    """Stands for numpy.core.multiarray._reconstruct, which makes an empty array."""
    return NDArray()


def frombuffer(data: bytes, dtype: DType, shape: tuple[int, ...], order: Literal["C", "F"]) -> NDArray:
    """Stands for numpy.core.numeric._frombuffer."""
    array = NDArray()
    array.value = dtype.read(data, shape, order)
    return array


def scalar(dtype: DType, data: bytes | str) -> np.generic:
    """Stands for numpy.core.multiarray.scalar."""
    return dtype.read(data, (1,))[0]


def encode(text: str, encoding: str) -> bytes:
    """Stands for _codecs.encode, which pickles of protocol 2 use for bytes."""
    return text.encode("latin1")


def no_bytes() -> bytes:
    """Stands for bytes(), which pickles of protocol 2 use for empty bytes."""
    return b""


def ordered_dict(items: Iterable[tuple[Any, Any]] = ()) -> dict:
    """Stands for collections.OrderedDict. Python 2 gives it the items, whose names are text."""
    content = {}
    for key, value in items:
        if type(key) is not str:
            raise ValueError(f"a name of type {type(key).__name__}")
        content[key] = value
    return content


def make_tuple(items: list | tuple = ()) -> tuple:
    """Stands for tuple."""
    if type(items) not in (list, tuple):
        raise ValueError("a tuple of something that is not a list")
    return tuple(items)


def check_key(key: Any) -> str | int:
    """Return a key of a mapping; ValueError unless it is a text or an integer."""
    if type(key) not in (str, int):
        raise ValueError(f"a name of type {type(key).__name__}")
    return key


STANDS_FOR = {
    ("numpy", "ndarray"): NDArray,
    ("numpy", "dtype"): DType,
    ("_codecs", "encode"): encode,
    ("collections", "OrderedDict"): ordered_dict,
    ("builtins", "tuple"): make_tuple,
    ("__builtin__", "tuple"): make_tuple,
    ("__builtin__", "bytes"): no_bytes,
    **{(f"{core}.multiarray", "_reconstruct"): reconstruct for core in NUMPY_CORES},
    **{(f"{core}.multiarray", "scalar"): scalar for core in NUMPY_CORES},
    **{(f"{core}.numeric", "_frombuffer"): frombuffer for core in NUMPY_CORES},
}


def counted(step: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return a step of the unpickler that counts itself before it is done."""

    def count_and_do(unpickler: "ArrayUnpickler") -> None:
        unpickler.allowance.take(OBJECT_BYTES)
        step(unpickler)

    return count_and_do


# The unpickler written in Python: the one in C allocates as much memory for references as a file claims to need.
class ArrayUnpickler(pickle._Unpickler):
    """Unpickles containers, arrays and plain values.

    Args:
        stream: the pickle.
        allowance: what it may make; None: what a file of the stream's size may.

    Attributes:
        stands_for: (module, name) in a file -> what is used for it.
    """

    stands_for: dict[tuple[str, str], Any] = STANDS_FOR
    # Attributes of pickle._Unpickler that have no published types.
    stack: list[Any]
    read: Callable[[int], bytes]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, stream: io.BytesIO, allowance: Allowance | None = None) -> None:
        super().__init__(stream, encoding="latin1")
        self.allowance = Allowance(stream.getbuffer().nbytes) if allowance is None else allowance

    def find_class(self, module: str, name: str) -> Any:
        if len(module) + len(name) > LONGEST_GLOBAL:
            raise RefusedError(f"it refers to a class whose name has {len(module) + len(name)} characters")
        if (module, name) not in self.stands_for:
            global_name = f"{module}.{name}"[:160].encode("unicode_escape").decode()
            raise RefusedError(f"it refers to {global_name}, which weights do not need and which could run code")
        return self.stands_for[module, name]

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        if type(arguments) is not tuple:
            raise ValueError("arguments that are not a tuple")
        self.allowance.take_copies((arguments, *arguments))
        self.stack[-1] = self.stack[-1](*arguments)

    def load_build(self) -> None:
        state = self.stack.pop()
        if type(self.stack[-1]) not in (DType, NDArray):
            raise RefusedError(f"it sets the state of a {type(self.stack[-1]).__name__}, which weights do not need")
        if type(state) is not tuple:
            raise ValueError("a state that is not a tuple")
        self.allowance.take_copies((state, *state))
        self.stack[-1].__setstate__(state)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def load_setitems(self) -> None:
        self.set_items(self.pop_mark())

    def set_items(self, items: list) -> None:
        """Add keys and values, one after the other in `items`, to the mapping on top of the stack."""
        mapping = self.stack[-1]
        if type(mapping) is not dict:
            raise ValueError("items of something that is not a mapping")
        for key, value in zip(items[::2], items[1::2]):
            self.allowance.take_name(check_key(key), len(mapping))
            mapping[key] = value

    def load_bytearray8(self) -> None:
        self.stack.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    dispatch: ClassVar[dict[int, Any]] = {
        **{opcode: counted(pickle._Unpickler.dispatch[opcode]) for opcode in (getattr(pickle, n)[0] for n in OPCODES)},
        pickle.REDUCE[0]: counted(load_reduce),
        pickle.BUILD[0]: counted(load_build),
        pickle.SETITEM[0]: counted(load_setitem),
        pickle.SETITEMS[0]: counted(load_setitems),
        pickle.BYTEARRAY8[0]: counted(load_bytearray8),
    }
