"""Reading .safetensors files, which consist of a header in JSON and of numbers."""

import json
import os
from pathlib import Path

import numpy as np
from safetensors import deserialize

from ppdet.utils.disk.files import open_regular, read_regular
from ppdet.utils.formats.unpickle import LARGEST_WEIGHTS, RefusedError

SAFETENSORS = ".safetensors"
LARGEST_HEADER = 4 * 2**20  # bytes; a header has about 150 for each array
# Types of safetensors as NumPy writes them.
SAFE_TYPES = {
    **{f"F{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    "BOOL": "?",
    "BF16": "<u2",  # NumPy has no bfloat16: `bfloat16_to_float32` makes it float32
}


def read_safetensors(path: os.PathLike) -> dict[str, np.ndarray]:
    """Return the arrays of a file by name.

    Raises:
        RefusedError: an array has a type that is not read, or the header is too large.
        safetensors.SafetensorError: the file is damaged. OSError: it cannot be read.
    """
    data = read_regular(Path(path), LARGEST_WEIGHTS)
    check_header_size(int.from_bytes(data[:8], "little"), len(data))
    arrays = {}
    for name, tensor in deserialize(data):
        if tensor["dtype"] not in SAFE_TYPES:
            raise RefusedError(f"{name:.100} is of type {tensor['dtype']}: convert it to float32 first")
        array = np.frombuffer(tensor["data"], SAFE_TYPES[tensor["dtype"]]).reshape(tensor["shape"])
        arrays[name] = bfloat16_to_float32(array) if tensor["dtype"] == "BF16" else array
    return arrays


def read_metadata(path: os.PathLike) -> dict[str, str]:
    """Return the texts that the header of a file has beside the arrays, by key.

    Raises:
        RefusedError: the header is too large. OSError: the file cannot be read. ValueError, RecursionError: it is
            damaged.
    """
    with open_regular(Path(path)) as stream:
        size, file_size = int.from_bytes(stream.read(8), "little"), os.fstat(stream.fileno()).st_size
        check_header_size(size, file_size)
        header = json.loads(stream.read(min(size, file_size)))
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    texts = metadata.items() if isinstance(metadata, dict) else ()
    return {key: value for key, value in texts if isinstance(value, str)}


def check_header_size(size: int, file_size: int) -> None:
    """Raise RefusedError if a file's header is too large to be one; if it is larger than the file, it is damaged."""
    if LARGEST_HEADER < size < file_size:
        raise RefusedError(f"its header has {size:,} bytes, more than the {LARGEST_HEADER:,} that are read")


def bfloat16_to_float32(bits: np.ndarray) -> np.ndarray:
    """Convert bfloat16 numbers, given as their bits (uint16), to float32, which represents all of them exactly."""
    return np.asarray(bits.astype("<u4") << np.uint32(16)).view("<f4")
