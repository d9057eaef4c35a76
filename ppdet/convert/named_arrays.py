"""The named weights in a file of another code base."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError

from ppdet.convert.torch_file import Foreign, opened
from ppdet.utils.errors import UserError
from ppdet.utils.formats.safetensors_file import SAFETENSORS, read_safetensors
from ppdet.utils.formats.unpickle import NDArray, RefusedError

# Where code bases keep a model's weights within their checkpoints, the trained ones before averages of them.
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "blobs", "ema_state_dict", "state_dict_ema")
# What wrappers of models put before every name.
PREFIXES = ("module.", "model.", "_orig_mod.")


class ConversionError(UserError, ValueError):
    """A file that cannot be converted; the message is one line that says why and what to do."""


class Checkpoint(NamedTuple):
    """arrays: by name, as the file has them. others: names of what is no array. author: whom detectron2's files name.
    config_text: the configuration in MMDetection's checkpoints.
    """

    arrays: dict[str, np.ndarray]
    others: list[str]
    author: str
    config_text: str


def read_checkpoint(path: os.PathLike) -> Checkpoint:
    """Read a .pth or .pt file (both forms of torch.save), a .pkl file of arrays, or a .safetensors file.

    Raises:
        ConversionError: no such file, damaged, holding no named weights, or anything that could run code.
    """
    try:
        if Path(path).suffix == SAFETENSORS:
            # Its reader gives them in another order each time.
            return collect(dict(sorted(read_safetensors(path).items())))
        with opened(path) as content:
            return collect(content)
    except FileNotFoundError:
        raise ConversionError(f"{path}: no such file") from None
    except RefusedError as error:
        raise ConversionError(
            f"{path}: refused: {error}. In its own code base, save model.state_dict() alone"
        ) from None
    except ConversionError as error:
        raise ConversionError(f"{path}: {error}") from None
    except OSError:
        raise
    except SafetensorError as error:
        raise ConversionError(
            f"{path}: not a complete safetensors file ({error}): truncated, or of another kind"
        ) from None
    # A damaged file can make its reader fail in any way there is.
    except Exception as error:
        raise ConversionError(
            f"{path}: not a complete PyTorch, pickle or safetensors file ({type(error).__name__}): truncated, or of "
            "another kind; if it was downloaded, delete it, and run again"
        ) from None


def collect(content: object) -> Checkpoint:
    """The named arrays in a file's content, and what it says of itself."""
    top = content if isinstance(content, dict) else {}
    meta = top.get("meta")
    texts = [meta[key] for key in ("config", "cfg") if isinstance(meta, dict) and isinstance(meta.get(key), str)]
    author = top.get("__author__")
    named = unwrap(content)
    arrays: dict[str, np.ndarray] = {}
    others = []
    for name, value in named.items():
        array = as_array(value)
        short = without_prefixes(str(name))
        if array is None:
            others.append(short)
        elif short in arrays:
            raise ConversionError(
                f"two of its arrays are {short!r:.100}, but for what wrappers of models put before it"
            )
        else:
            arrays[short] = array
    if not arrays:
        raise ConversionError("holds no named arrays: is it a checkpoint of a model?")
    return Checkpoint(arrays, others, author if isinstance(author, str) else "", "\n".join(texts))


def unwrap(content: object) -> dict:
    """The mapping of names to arrays within a checkpoint's mappings."""
    while isinstance(content, dict):
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), (dict, Foreign))), None)
        if inner is None:
            return content
        content = inner
    if isinstance(content, Foreign):
        raise ConversionError("holds a whole model, not its weights: save model.state_dict()")
    raise ConversionError(f"holds a {type(content).__name__}, not named weights")


def as_array(value: object) -> np.ndarray | None:
    if isinstance(value, NDArray):
        if value.value is None:
            raise ValueError("an array without content")
        value = value.value
    return value if isinstance(value, np.ndarray) else None


def without_prefixes(name: str) -> str:
    while name.startswith(PREFIXES):
        name = name[name.index(".") + 1 :]
    return name
