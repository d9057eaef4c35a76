"""Running files for TensorRT in ONNX Runtime, to compare them with the trained model."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ppdet.deploy.backends.base import last_line
from ppdet.deploy.fixed_count import OUTPUTS, open_fixed, rows_of_fixed_count, run_in_batches
from ppdet.engine.export.check import Arrays, ExportError


def rows_from(path: Path, batch_size: int) -> Callable[[Arrays], list[np.ndarray]]:
    """Return a function that runs TensorRT's file on any number of images, see `rows_of_fixed_count`.

    Raises:
        ExportError: ONNX Runtime cannot load the graph, or, in the function, cannot run it.
    """
    run = fixed_runner(str(path), batch_size, OUTPUTS, path.name)
    return lambda arrays: [*rows_of_fixed_count(run(arrays))]


def fixed_runner(
    model: str | bytes, batch_size: int, names: Sequence[str], file: str
) -> Callable[[Arrays], list[np.ndarray]]:
    """Return a function that runs a graph on any number of images, see `run_in_batches`, and returns these outputs.

    Args:
        model: the path of an ONNX file, or its content.
        file: what errors name.

    Raises:
        ExportError: ONNX Runtime cannot load the graph, or, in the function, cannot run it.
    """
    with running(file):
        session = open_fixed(model)

    def run(arrays: Arrays) -> list[np.ndarray]:
        with running(file):
            return run_in_batches(session, arrays, batch_size, names)

    return run


@contextlib.contextmanager
def running(file: str) -> Iterator[None]:
    """Let errors of ONNX Runtime be one line that names the file and says what to do."""
    try:
        yield
    except Exception as error:  # ONNX Runtime has classes of its own
        raise ExportError(
            f"{file}: cannot run in onnxruntime: install another version of onnxruntime, lower --batch_size if "
            f"memory is short, or leave out --target tensorrt ({last_line(error)})"
        ) from None
