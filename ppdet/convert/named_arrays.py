"""Reads a weight file of another code base: arrays by their names in the file."""

import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError

from ppdet.convert.torch_file import Foreign, Tensor, opened
from ppdet.utils.errors import UserError
from ppdet.utils.formats.safetensors_file import SAFETENSORS, read_safetensors
from ppdet.utils.formats.unpickle import Allowance, NDArray, RefusedError
from ppdet.utils.printable import quoted

# Keys under which checkpoints hold the weights of a model. Trained weights come before moving averages.
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "blobs", "ema_state_dict", "state_dict_ema")
MOST_WRAPPERS = 10  # of them, one within another
# Prefixes that wrappers such as DataParallel put before every name.
PREFIXES = ("module.", "model.", "_orig_mod.")
LEADING = re.compile(f"(?:{'|'.join(map(re.escape, PREFIXES))})+")
# More than ten times what any published detector has. Every name is compared with the tables of all code bases.
MOST_NAMES, LONGEST_NAME = 20_000, 1000


class ConversionError(UserError, ValueError):
    """A file cannot be converted. The message is one line that says why, and what to do."""


class Checkpoint(NamedTuple):
    """The content of a weight file.

    Attributes:
        arrays: all arrays by their names in the file, without the prefixes of wrappers.
        others: names of values that are not arrays.
        author: `__author__`, which detectron2's converted files have, such as "torchvision"; "" if there is none.
        config_text: the training configuration that MMDetection stores in checkpoints; "" if there is none.
    """

    arrays: dict[str, np.ndarray]
    others: list[str]
    author: str
    config_text: str


def read_checkpoint(path: os.PathLike) -> Checkpoint:
    """Read a .pth or .pt file (both forms of torch.save), a .pkl file of arrays, or a .safetensors file.

    Raises:
        ConversionError: the file does not exist, is damaged, has no named weights, or asks to run code.
    """
    try:
        if Path(path).suffix == SAFETENSORS:
            # The reader returns them in another order each time.
            arrays = dict(sorted(read_safetensors(path).items()))
            return collect_arrays(arrays, Allowance(os.path.getsize(path)))
        with opened(path) as content:
            return collect_arrays(content, Allowance(os.path.getsize(path)))
    except FileNotFoundError:
        raise ConversionError(f"{path}: no such file") from None
    except RefusedError as error:
        raise ConversionError(
            f"{path}: refused: {error}. In its own code base, save model.state_dict() alone"
        ) from None
    except ConversionError as error:
        raise ConversionError(f"{path}: {error}") from None
    except OSError as error:
        if error.filename is not None:
            raise
        # Python's reader of zip archives seeks to places that a damaged file names.
        raise ConversionError(
            f"{path}: damaged ({error.strerror or error}); if it was downloaded, delete it, and run again"
        ) from None
    except SafetensorError as error:
        raise ConversionError(
            f"{path}: not a complete safetensors file ({error!s:.200}): truncated, or of another kind"
        ) from None
    # A damaged file can raise any exception in its reader.
    except Exception as error:
        raise ConversionError(
            f"{path}: not a complete PyTorch, pickle or safetensors file ({type(error).__name__}): truncated, or of "
            "another kind; if it was downloaded, delete it, and run again"
        ) from None


def collect_arrays(content: object, allowance: Allowance) -> Checkpoint:
    """Find the named arrays, the author and the configuration in the content of a file.

    Args:
        allowance: what may be made of the file; an array counts with each of its names, as float32.

    Raises:
        ConversionError: there are no named arrays, or two have one name. RefusedError: more names than any network
            has, or arrays that would be many times as large as the file.
    """
    top = content if isinstance(content, dict) else {}
    meta = top.get("meta")
    texts = [meta[key] for key in ("config", "cfg") if isinstance(meta, dict) and isinstance(meta.get(key), str)]
    author = top.get("__author__")
    named = unwrap(content)
    if len(named) > MOST_NAMES:
        raise RefusedError(f"it has {len(named):,} names, more than the {MOST_NAMES:,} that are read")
    arrays: dict[str, np.ndarray] = {}
    others = []
    for name, value in named.items():
        if len(str(name)) > LONGEST_NAME:
            raise RefusedError(f"it has a name of more than {LONGEST_NAME:,} characters")
        array = as_array(value)
        short = without_prefixes(str(name))
        if array is None:
            others.append(short)
        elif short in arrays:
            raise ConversionError(
                f"two arrays are called {quoted(short, 100)}, apart from the prefixes {', '.join(PREFIXES)}"
            )
        else:
            allowance.take(np.dtype(np.float32).itemsize * array.size)
            arrays[short] = array
    if not arrays:
        raise ConversionError("holds no named arrays: is it a checkpoint of a model?")
    return Checkpoint(arrays, others, author if isinstance(author, str) else "", "\n".join(texts))


def unwrap(content: object) -> dict:
    """Return the dictionary of named arrays that is nested in a checkpoint."""
    depth = 0
    while isinstance(content, dict):
        depth += 1
        if depth > MOST_WRAPPERS:
            raise RefusedError("its weights are nested too deeply, or hold themselves")
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), (dict, Foreign))), None)
        if inner is None:
            return content
        content = inner
    if isinstance(content, Foreign):
        raise ConversionError("holds a whole model, not its weights: save model.state_dict()")
    raise ConversionError(f"holds a {type(content).__name__}, not named weights")


def as_array(value: object) -> np.ndarray | None:
    """Return the array that a value of a file is; None if it is none."""
    if isinstance(value, Tensor):
        return value.read()
    if isinstance(value, NDArray):
        if value.value is None:
            raise ValueError("an array without content")
        value = value.value
    return value if isinstance(value, np.ndarray) else None


def without_prefixes(name: str) -> str:
    """Return a name without all leading `PREFIXES`."""
    match = LEADING.match(name)
    return name[match.end() :] if match else name
