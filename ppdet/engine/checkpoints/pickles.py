"""Reading Paddle's pickles of arrays without running anything that they ask for."""

import io
import os
from pathlib import Path

import numpy as np

from ppdet.utils.formats.unpickle import OPCODES, ArrayUnpickler, NDArray, RefusedError

__all__ = ["OPCODES", "RefusedError", "read_pickle"]

PLAIN = (str, bytes, bytearray, int, float, np.generic, type(None))


def read_pickle(path: os.PathLike) -> object:
    """Containers, arrays and plain values of a pickle. Paddle's pairs of a name and an array become the array.

    Raises:
        RefusedError: the file asks for anything else.
        OSError: it cannot be read.
        Exception: of any kind, where it is damaged or no pickle at all.
    """
    # From memory, where no more can be read than there is, whatever a damaged length says.
    stream = io.BytesIO(Path(path).read_bytes())
    return plain(ArrayUnpickler(stream, encoding="latin1").load(), {})


def plain(value: object, done: dict[int, object]) -> object:
    """`value` with arrays in place of what stands for them. `done`: results by id of what was shared within it."""
    if isinstance(value, NDArray):
        if value.value is None:
            raise ValueError("an array without content")
        return value.value
    if isinstance(value, PLAIN):
        return value
    if not isinstance(value, (dict, list, tuple)):
        raise ValueError(f"a value of type {type(value).__name__}")
    if id(value) not in done:
        if isinstance(value, dict):
            done[id(value)] = {key: plain(item, done) for key, item in value.items()}
        elif isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], NDArray):
            done[id(value)] = plain(value[1], done)
        else:
            done[id(value)] = type(value)(plain(item, done) for item in value)
    return done[id(value)]
