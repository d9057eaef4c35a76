"""Reading Paddle's pickles (.pdparams, .pdopt) without running code that a file names; see `ArrayUnpickler`."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from ppdet.utils.disk.files import read_regular
from ppdet.utils.formats.unpickle import LARGEST_WEIGHTS, ArrayUnpickler, NDArray

PLAIN = (str, bytes, bytearray, int, float, np.generic, type(None))
UNFINISHED = object()


def read_pickle(path: str | os.PathLike) -> Any:
    """Read containers, arrays and plain values. Paddle stores a tensor as the pair (name, array): it becomes the array.

    Raises:
        RefusedError: the file contains anything else, or makes many times the data that it holds.
        OSError: the file cannot be read.
        Exception: of any class, where the file is damaged or not a pickle.
    """
    # Read into memory first, so that a wrong length in a damaged file cannot make the unpickler allocate more.
    stream = io.BytesIO(read_regular(Path(path), LARGEST_WEIGHTS))
    return to_plain(ArrayUnpickler(stream).load(), {})


def to_plain(value: Any, converted: dict[int, Any]) -> Any:
    """Replace every `NDArray` in `value` by its array.

    Args:
        converted: the results so far, by id of the original; UNFINISHED for those that `value` is part of.

    Raises:
        ValueError: a value of another type, or one that contains itself.
    """
    if isinstance(value, NDArray):
        if value.value is None:
            raise ValueError("an array without content")
        return value.value
    if isinstance(value, PLAIN):
        return value
    if not isinstance(value, (dict, list, tuple)):
        raise ValueError(f"a value of type {type(value).__name__}")
    if id(value) not in converted:
        converted[id(value)] = UNFINISHED
        if isinstance(value, dict):
            converted[id(value)] = {key: to_plain(item, converted) for key, item in value.items()}
        elif isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], NDArray):
            converted[id(value)] = to_plain(value[1], converted)
        else:
            converted[id(value)] = type(value)(to_plain(item, converted) for item in value)
    elif converted[id(value)] is UNFINISHED:
        raise ValueError("a value that contains itself")
    return converted[id(value)]
