"""Weights on disk, this project's and those of other code bases. Reading a file never runs code from it."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import paddle
import safetensors.numpy
from paddle import nn
from safetensors import SafetensorError

from ppdet.convert import convert_path, describe, needed, suggest
from ppdet.engine.checkpoints.pickles import RefusedError, read_pickle
from ppdet.engine.runs.moved import earlier_runs
from ppdet.utils.disk.download import WEIGHTS_SUFFIXES, MissingFileError, fetch
from ppdet.utils.disk.files import atomic_path
from ppdet.utils.errors import UserError
from ppdet.utils.formats.safetensors_file import SAFETENSORS, read_safetensors
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
FOREIGN = (".pth", ".pt", ".pkl")


class CheckpointError(UserError, ValueError):
    """A weights file that cannot be used; the message says why and what to do."""


def read_arrays(path: os.PathLike) -> dict:
    """Read a .safetensors, .pdparams or .pdopt file as {name: array or plain value}.

    Raises:
        CheckpointError: not such a file, truncated, or holding anything but arrays and plain values.
    """
    try:
        content = read_safetensors(path) if Path(path).suffix == SAFETENSORS else read_pickle(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except RefusedError as error:
        raise CheckpointError(f"{path}: refused: {error}") from None
    except OSError:
        raise
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: not a complete safetensors file ({error}): truncated, or of another kind; if it was downloaded, "
            "delete it, and run again"
        ) from None
    # A damaged pickle can make its reader fail in any way there is.
    except Exception as error:
        raise CheckpointError(
            f"{path}: not a complete Paddle weights file ({type(error).__name__}): truncated, or of another kind; if "
            "it was downloaded, delete it, and run again"
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not named weights")
    content.pop("StructuredToParameterName@@", None)
    return content


class LoadReport(NamedTuple):
    """How a file's arrays met a model's: names by outcome."""

    loaded: list[str]
    missing: list[str]
    unexpected: list[str]
    mismatched: list[str]

    def __str__(self) -> str:
        return (
            f"{len(self.loaded)} loaded, {len(self.missing)} missing, {len(self.unexpected)} unexpected, "
            f"{len(self.mismatched)} of another shape"
        )


def load_weights(model: nn.Layer, source: str, *, strict: bool) -> LoadReport:
    """Load a file, URL, or path without its suffix into `model`, and log a summary.

    A file of another code base is converted. One of the backbone alone has names without the leading `backbone.`; it
    is recognised. `strict` demands every parameter, with its shape; otherwise what fits is loaded.

    Raises:
        CheckpointError, ConversionError: unreadable file, nothing in it fits, or `strict` and something is missing.
    """
    hint = "" if strict else ", or train from scratch with -o pretrain_weights=null"
    try:
        path = fetch(str(source), hint=hint)
    except MissingFileError as error:
        raise MissingFileError(f"{error}{where_moved(Path(source))}") from None
    arrays = arrays_for(model, path)
    report = fill(model, arrays, strict=strict, source=str(path))
    logger.info("weights %s: %s", path, report)
    if any(name.startswith("backbone.") for name in report.missing):
        logger.warning("%s does not fill the backbone: are depth and variant those of the file?", path)
    return report


def where_moved(source: Path) -> str:
    """What to add to an error: the file is in a run that was moved aside, to another name than it had."""
    for folder in earlier_runs(source.expanduser().parent):
        for name in (source.name + suffix for suffix in WEIGHTS_SUFFIXES):
            if (folder / name).is_file():
                return f"; did you mean {folder / source.name}, where a newer run has moved it?"
    return ""


def arrays_for(model: nn.Layer, path: Path) -> dict[str, np.ndarray]:
    """A file's arrays under this project's names; what a conversion did is logged."""
    state = model.state_dict()
    if path.suffix not in FOREIGN:
        arrays = {name: value for name, value in read_arrays(path).items() if isinstance(value, np.ndarray)}
        if path.suffix != SAFETENSORS or any(name in state or f"backbone.{name}" in state for name in arrays):
            return arrays
    conversion, checkpoint = convert_path(path)
    for line in (*describe(conversion), *suggest(conversion, checkpoint)):
        logger.info("  %s", line)
    return needed(conversion, {name: tuple(value.shape) for name, value in state.items()})


def fill(model: nn.Layer, arrays: dict, *, strict: bool, source: str) -> LoadReport:
    """`load_weights` of arrays that are in memory; `source` names them in messages."""
    state = model.state_dict()
    if not any(name in state for name in arrays):
        arrays = {f"backbone.{name}": value for name, value in arrays.items()}
    fitting = {n: a for n, a in arrays.items() if n in state and list(a.shape) == list(state[n].shape)}
    report = LoadReport(
        loaded=list(fitting),
        missing=[n for n in state if n not in arrays],
        unexpected=[n for n in arrays if n not in state],
        mismatched=[n for n in arrays if n in state and n not in fitting],
    )
    if not fitting:
        raise CheckpointError(f"{source}: none of its {len(arrays)} arrays fits this model; is it for another one?")
    if strict and (report.missing or report.mismatched):
        example = describe_mismatch(report, arrays, state)
        raise CheckpointError(f"{source}: does not fit this configuration: {report}. First: {example}")
    for name, array in fitting.items():
        state[name].set_value(paddle.to_tensor(array).astype(state[name].dtype))
    for name in report.mismatched:
        logger.info("  not loaded: %s is %s, the model's %s", name, arrays[name].shape, tuple(state[name].shape))
    return report


def describe_mismatch(report: LoadReport, arrays: dict, state: dict) -> str:
    if report.mismatched:
        name = report.mismatched[0]
        return f"{name} is {list(arrays[name].shape)} in the file, {list(state[name].shape)} here"
    return f"{report.missing[0]} is not in the file"


def save_weights(state: dict, path: Path, *, metadata: dict[str, str] | None = None) -> None:
    """Write named tensors; those of a .safetensors file that are bfloat16 become float32.

    Args:
        metadata: put into the header of a .safetensors file; other files have no place for it.

    Raises:
        OSError: it could not be written; what was at `path` is as it was.
    """
    with atomic_path(path) as temporary:
        if path.suffix != SAFETENSORS:
            paddle.save(state, str(temporary))
            return
        arrays = {n: (v.astype("float32") if v.dtype == paddle.bfloat16 else v).numpy() for n, v in state.items()}
        # The library writes memory as it lies there, and its own way to a file ends a process when the disk is full.
        arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        temporary.write_bytes(safetensors.numpy.save(arrays, metadata))
