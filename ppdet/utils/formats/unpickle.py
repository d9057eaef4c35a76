"""Reading pickles of arrays without calling any function that a file names.

An ordinary unpickler calls whatever a file names. Even one that allows only NumPy's functions lets a file claim arrays
of any size, and types whose bytes NumPy would take for pointers. Here the names in a file are mapped to the few classes
and functions below, which check their arguments.
"""

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


class RefusedError(Exception):
    """The file refers to something that weights do not need."""


class DType:
    """Stands for numpy.dtype: a type of numbers, whose byte order is set afterwards."""

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        if not DTYPE.fullmatch(code):
            raise RefusedError(f"it has arrays of type {code!r:.40}, which are not numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        if any(state[2:5]):
            raise RefusedError("it has arrays of structures, which are not numbers")
        self.dtype = self.dtype.newbyteorder(state[1])

    def read(self, data: bytes | str, shape: tuple[int, ...], order: Literal["C", "F"] = "C") -> np.ndarray:
        """Return the array stored in `data`, which must have exactly the bytes that `shape` needs.

        Args:
            data: bytes; in pickles of Python 2, text whose characters are the bytes.
            order: "C" if the last axis varies fastest, "F" if the first one does.
        """
        data = data.encode("latin1") if isinstance(data, str) else data
        if len(data) != math.prod(shape) * self.dtype.itemsize:
            raise ValueError(f"{len(data)} bytes for an array of {shape}")
        return np.frombuffer(data, self.dtype).reshape(shape, order=order).copy()


class NDArray:
    """Stands for numpy.ndarray: files name the class, and set the content of an instance afterwards."""

    value: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        shape, dtype, is_fortran, data = state[-4:]
        self.value = dtype.read(data, shape, "F" if is_fortran else "C")


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
    """Stands for collections.OrderedDict."""
    return {check_key(key): value for key, value in items}


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
    ("builtins", "tuple"): tuple,
    ("__builtin__", "tuple"): tuple,
    ("__builtin__", "bytes"): no_bytes,
    **{(f"{core}.multiarray", "_reconstruct"): reconstruct for core in NUMPY_CORES},
    **{(f"{core}.multiarray", "scalar"): scalar for core in NUMPY_CORES},
    **{(f"{core}.numeric", "_frombuffer"): frombuffer for core in NUMPY_CORES},
}


# The unpickler written in Python: the one in C allocates as much memory for references as a file claims to need.
class ArrayUnpickler(pickle._Unpickler):
    """Unpickles containers, arrays and plain values.

    Attributes:
        stands_for: (module, name) in a file -> what is used for it.
    """

    stands_for: dict[tuple[str, str], Any] = STANDS_FOR
    # Attributes of pickle._Unpickler that have no published types.
    stack: list[Any]
    read: Callable[[int], bytes]
    pop_mark: Callable[[], list[Any]]

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.stands_for:
            global_name = f"{module}.{name}"[:160].encode("unicode_escape").decode()
            raise RefusedError(f"it refers to {global_name}, which weights do not need and which could run code")
        return self.stands_for[module, name]

    def load_build(self) -> None:
        state = self.stack.pop()
        if type(self.stack[-1]) not in (DType, NDArray):
            raise RefusedError(f"it sets the state of a {type(self.stack[-1]).__name__}, which weights do not need")
        self.stack[-1].__setstate__(state)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def load_setitems(self) -> None:
        self.set_items(self.pop_mark())

    def set_items(self, items: list) -> None:
        """Add keys and values, one after the other in `items`, to the mapping on top of the stack."""
        if type(self.stack[-1]) is not dict:
            raise ValueError("items of something that is not a mapping")
        for key, value in zip(items[::2], items[1::2]):
            self.stack[-1][check_key(key)] = value

    def load_bytearray8(self) -> None:
        self.stack.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    dispatch: ClassVar[dict[int, Any]] = {
        **{getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in OPCODES},
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.BYTEARRAY8[0]: load_bytearray8,
    }
