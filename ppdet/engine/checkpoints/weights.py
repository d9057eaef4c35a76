"""Reading weights files, of this project and of others, and loading them into a model; writing weights files.

No file that is read can run code: see `pickles`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import paddle
import safetensors.numpy
from paddle import Tensor, nn
from safetensors import SafetensorError

from ppdet.convert import convert_path, needed, suggest, summary_lines
from ppdet.engine.checkpoints.pickles import read_pickle
from ppdet.utils.disk.download import fetch
from ppdet.utils.disk.files import atomic_path
from ppdet.utils.errors import UserError
from ppdet.utils.formats.safetensors_file import SAFETENSORS, bfloat16_to_float32, read_safetensors
from ppdet.utils.formats.unpickle import RefusedError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
FOREIGN = (".pth", ".pt", ".pkl")
SHOWN = 3  # names in a message
STATISTICS = ("._mean", "._variance")  # of batch norms, which no gradient changes
NO_TENSORS = (np.uint32, np.uint64, np.longdouble)  # types of arrays that Paddle has no tensors of


class CheckpointError(UserError, ValueError):
    """A weights file or checkpoint cannot be used; the message names the file, the reason, and what to do."""


def read_arrays(path: str | os.PathLike) -> dict[str, Any]:
    """Read a .safetensors, .pdparams or .pdopt file as {name: array or plain value}.

    Raises:
        CheckpointError: the file is missing, truncated, of another kind, or contains more than arrays and plain values.
    """
    try:
        content = read_safetensors(Path(path)) if Path(path).suffix == SAFETENSORS else read_pickle(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except RefusedError as error:
        raise CheckpointError(f"{path}: refused: {error}") from None
    except OSError:  # it has the file's name
        raise
    except Exception as error:  # reading a damaged pickle can raise anything
        kind, reason = "Paddle weights", type(error).__name__
        if isinstance(error, SafetensorError):
            kind, reason = "safetensors", f"{error!s:.200}"
        raise CheckpointError(
            f"{path}: not a complete {kind} file ({reason}): it is truncated or of another kind; if it was downloaded, "
            "delete it, and run again"
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: contains a {type(content).__name__}, expected arrays by name")
    content.pop("StructuredToParameterName@@", None)  # Paddle's table of its internal names
    return content


class LoadReport(NamedTuple):
    """Parameter names grouped by the result of loading a file into a model.

    Attributes:
        loaded: names in the file and in the model, with the same shape.
        missing: names in the model only. unexpected: names in the file only. mismatched: names in both, with different
            shapes.
    """

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
    """Load weights into a model, and log how many parameters were loaded.

    Files of other code bases are converted, see `ppdet.convert`. The weights of a backbone alone, whose names lack the
    leading "backbone.", are recognized.

    Args:
        source: a file, a URL, or a path without its suffix.
        strict: require every parameter of the model, with its shape; False loads those that fit.

    Raises:
        CheckpointError, ConversionError: the file cannot be read, its parameters do not fit the model, or those that
            fit are not all finite.
    """
    hint = "" if strict else ", or train from scratch with -o pretrain_weights=null"
    path = fetch(str(source), hint=hint)
    report = fill(model, read_for(model, path), strict=strict, source=str(path))
    logger.info("weights %s: %s", path, report)
    if any(name.startswith("backbone.") for name in report.missing):
        logger.warning(
            "some backbone parameters are not in %s: set ResNet.depth and ResNet.variant as in the file", path
        )
    return report


def start_from(model: nn.Layer, source: str | None) -> bool:
    """Load the weights with which training starts, and return whether they filled the whole model.

    Without weights, a warning names layers that are frozen: they keep their random values to the end.

    Args:
        source: as of `load_weights`; None: the model keeps its random weights.
    """
    if source:
        report = load_weights(model, source, strict=False)
        return not (report.missing or report.mismatched)
    frozen = [
        name
        for name, parameter in model.named_parameters()
        if parameter.stop_gradient and name.startswith("backbone.") and not name.endswith(STATISTICS)
    ]
    if frozen:
        logger.warning(
            "training starts from random weights, which %d parameters of the backbone keep, as they are frozen "
            "(%s, …): set ResNet.freeze_at=-1, ResNet.freeze_norm=false and ResNet.lr_mult_list=[1,1,1,1], or "
            "pretrain_weights",
            len(frozen),
            frozen[0],
        )
    return False


def read_for(model: nn.Layer, path: Path) -> dict[str, np.ndarray]:
    """Read a file's arrays under the names of `model`; files of other code bases are converted, and the log says so."""
    state = model.state_dict()
    if path.suffix not in FOREIGN:
        arrays = {name: value for name, value in read_arrays(path).items() if isinstance(value, np.ndarray)}
        if path.suffix != SAFETENSORS or any(name in state or f"backbone.{name}" in state for name in arrays):
            return arrays
    conversion, checkpoint = convert_path(path)
    for line in (*summary_lines(conversion), *suggest(conversion, checkpoint)):
        logger.info("  %s", line)
    return needed(conversion, {name: tuple(value.shape) for name, value in state.items()})


def fill(model: nn.Layer, arrays: dict[str, np.ndarray], *, strict: bool, source: str) -> LoadReport:
    """Load arrays into a model, as `load_weights` does; error messages name the file `source`."""
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
        raise CheckpointError(
            f"{source}: none of its {len(arrays)} arrays fits this model; are these the weights of another model?"
        )
    if strict and (report.missing or report.mismatched):
        raise CheckpointError(
            f"{source}: does not fit this configuration: {report}. First: {first_problem(report, arrays, state)}"
        )
    require_finite(fitting, source)
    for name, array in fitting.items():
        native = array.dtype.newbyteorder("=")  # what another machine has written
        known = array.astype(np.float64 if native in NO_TENSORS else native, copy=False)
        state[name].set_value(paddle.to_tensor(known).astype(state[name].dtype))
    for name in report.mismatched:
        logger.info(
            "  not loaded: %s has shape %s, the model's has %s", name, arrays[name].shape, tuple(state[name].shape)
        )
    return report


def require_finite(arrays: Mapping[str, Any], source: str | os.PathLike) -> None:
    """Raise CheckpointError if an array has values that are infinite, or no numbers, in float32.

    A model computes with them as if nothing were wrong, and its results mean nothing.

    Args:
        arrays: by name; values that are not arrays are passed over.
        source: the file that they come from.
    """
    names = [name for name, array in arrays.items() if isinstance(array, np.ndarray) and not is_finite(array)]
    if names:
        first = ", ".join(f"{name:.100}" for name in names[:SHOWN]) + ", …" * (len(names) > SHOWN)
        raise CheckpointError(
            f"{source}: {len(names)} of its {len(arrays)} arrays have NaN or infinite values ({first}): its training "
            "diverged, or the file is damaged: use weights from before"
        )


def is_finite(array: np.ndarray) -> bool:
    """Whether all values are finite numbers that float32 represents. Paddle's files have bfloat16 as uint16."""
    if array.dtype == np.uint16:
        array = bfloat16_to_float32(array)
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            array = array.astype(np.float32, copy=False)
    return array.dtype.kind in "fiub" and bool(np.isfinite(array).all())


def first_problem(report: LoadReport, arrays: dict[str, np.ndarray], state: dict[str, Tensor]) -> str:
    """Describe one parameter of another shape, or one that is missing."""
    if report.mismatched:
        name = report.mismatched[0]
        return f"{name} has shape {list(arrays[name].shape)} in the file, {list(state[name].shape)} in the model"
    return f"{report.missing[0]} is not in the file"


def save_weights(state: dict[str, Any], path: Path, *, metadata: dict[str, str] | None = None) -> None:
    """Write named tensors; a .safetensors file has float32 in place of bfloat16.

    Args:
        state: tensors, or anything else that paddle.save writes, by name.
        path: its suffix decides the format: .safetensors, or Paddle's for any other.
        metadata: text values for the header of a .safetensors file; Paddle's format has no place for it.

    Raises:
        OSError: the file cannot be written; an earlier one at `path` is unchanged.
    """
    with atomic_path(path) as temporary:
        if path.suffix != SAFETENSORS:
            paddle.save(state, str(temporary))
            return
        arrays = {n: (v.astype("float32") if v.dtype == paddle.bfloat16 else v).numpy() for n, v in state.items()}
        # safetensors writes the memory of an array as it is, so it must be contiguous. Its own save_file aborts the
        # process when the disk is full.
        arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        temporary.write_bytes(safetensors.numpy.save(arrays, metadata))
