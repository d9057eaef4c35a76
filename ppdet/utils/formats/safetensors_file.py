"""Reading .safetensors files, which consist of a header in JSON and of numbers."""

import os
from pathlib import Path

import numpy as np
from safetensors import deserialize

from ppdet.utils.formats.unpickle import RefusedError

SAFETENSORS = ".safetensors"
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
        RefusedError: an array has a type that is not read. safetensors.SafetensorError: the file is damaged or missing.
    """
    arrays = {}
    for name, tensor in deserialize(Path(path).read_bytes()):
        if tensor["dtype"] not in SAFE_TYPES:
            raise RefusedError(f"{name} is of type {tensor['dtype']}: convert it to float32 first")
        array = np.frombuffer(tensor["data"], SAFE_TYPES[tensor["dtype"]]).reshape(tensor["shape"])
        arrays[name] = bfloat16_to_float32(array) if tensor["dtype"] == "BF16" else array
    return arrays


def bfloat16_to_float32(bits: np.ndarray) -> np.ndarray:
    """Convert bfloat16 numbers, given as their bits (uint16), to float32, which represents all of them exactly."""
    return np.asarray(bits.astype("<u4") << np.uint32(16)).view("<f4")
