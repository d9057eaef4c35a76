"""Reading pickles of arrays without running anything that they ask for.

An ordinary unpickler calls what a file names. Even one that admits NumPy's own functions alone lets a file claim arrays
of any size, and lay out types whose bytes NumPy would then take for pointers. Here nothing of NumPy is called on a
file's behalf: its names stand for the few classes below, which check what they are given.
"""

import math
import pickle
import re
from typing import Any

import numpy as np

# fmt: off
# What files of arrays are made of, in the protocols from 2 on. Left out: old text forms, sets, instances of classes.
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
    """The file refers to something that no weights need."""


class DType:
    """What a file says of numbers' types: numpy.dtype(code), then the order of their bytes."""

    def __init__(self, code: str, align: object = False, copy: object = False) -> None:
        if not DTYPE.fullmatch(code):
            raise RefusedError(f"it has arrays of type {code!r:.40}, which are not numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        if any(state[2:5]):
            raise RefusedError("it has arrays of structures, which are not numbers")
        self.dtype = self.dtype.newbyteorder(state[1])

    def read(self, data: object, shape: tuple, order: str = "C") -> np.ndarray:
        """Numbers from exactly as many bytes as they take."""
        data = data.encode("latin1") if isinstance(data, str) else data
        if len(data) != math.prod(shape) * self.dtype.itemsize:
            raise ValueError(f"{len(data)} bytes for an array of {shape}")
        return np.frombuffer(data, self.dtype).reshape(shape, order=order).copy()


class NDArray:
    """Stands for numpy.ndarray, which files only name, and for the array itself, whose content comes afterwards."""

    value: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        shape, dtype, is_fortran, data = state[-4:]
        self.value = dtype.read(data, shape, "F" if is_fortran else "C")


def reconstruct(kind: object, shape: object, code: object) -> NDArray:
    """numpy.core.multiarray._reconstruct."""
    return NDArray()


def frombuffer(data: object, dtype: DType, shape: tuple, order: str) -> NDArray:
    """numpy.core.numeric._frombuffer."""
    array = NDArray()
    array.value = dtype.read(data, shape, order)
    return array


def scalar(dtype: DType, data: object) -> np.generic:
    """numpy.core.multiarray.scalar."""
    return dtype.read(data, (1,))[0]


def encode(text: str, encoding: str) -> bytes:
    """_codecs.encode, as pickles of protocol 2 write bytes."""
    return text.encode("latin1")


def no_bytes() -> bytes:
    """bytes(), as pickles of protocol 2 write it."""
    return b""


def ordered_dict(items: object = ()) -> dict:
    return {check_key(key): value for key, value in items}


def check_key(key: object) -> object:
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


# The unpickler written in Python: the one in C sets up as much memory as a file claims to need for its references.
class ArrayUnpickler(pickle._Unpickler):
    """Unpickles containers, arrays and plain values. `stands_for`: what a file's names, (module, name), mean here."""

    stands_for = STANDS_FOR

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.stands_for:
            global_name = f"{module}.{name}"[:160].encode("unicode_escape").decode()
            raise RefusedError(f"it refers to {global_name}, which no weights need and which could run code")
        return self.stands_for[module, name]

    def load_build(self) -> None:
        state = self.stack.pop()
        if type(self.stack[-1]) not in (DType, NDArray):
            raise RefusedError(f"it sets the state of a {type(self.stack[-1]).__name__}, which no weights need")
        self.stack[-1].__setstate__(state)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def load_setitems(self) -> None:
        self.set_items(self.pop_mark())

    def set_items(self, items: list) -> None:
        if type(self.stack[-1]) is not dict:
            raise ValueError("items of something that is not a mapping")
        for key, value in zip(items[::2], items[1::2]):
            self.stack[-1][check_key(key)] = value

    def load_bytearray8(self) -> None:
        self.stack.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    dispatch = {getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in OPCODES} | {
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.BYTEARRAY8[0]: load_bytearray8,
    }
