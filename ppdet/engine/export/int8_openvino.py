"""OpenVINO's graphs in int8, by NNCF, which also keeps layers in float32 that cost too much AP."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ppdet.deploy.backends.base import OUTPUTS
from ppdet.deploy.backends.open_vino import OpenVINO
from ppdet.engine.export.accuracy import Calibration, ValidationSet
from ppdet.engine.export.check import Arrays, ExportError
from ppdet.utils.logger import get_logger, is_watched

if TYPE_CHECKING:
    import openvino

logger = get_logger(__name__)
CONVOLUTIONS = ("Convolution", "GroupConvolution", "DeformableConvolution")
RANKED = 20  # images on which the cost of each layer is measured: with NNCF's 300 this takes hours


def write_openvino(folder: Path, calibration: Calibration) -> None:
    """Write model_int8.xml and .bin beside model.xml. Parameters and errors are those of `int8.write_int8`.

    If it loses too much AP, NNCF lets those layers stay in float32 that cost most.
    """
    os.environ.setdefault("NNCF_CI", "1")  # otherwise NNCF asks whether it may send usage data
    import nncf
    import openvino

    source = openvino.Core().read_model(str(folder / "model.xml"))
    names = [value.get_any_name() for value in source.inputs]
    batches = nncf.Dataset(calibration.batches, lambda arrays: {name: arrays[name] for name in names})
    scope = nncf.IgnoredScope(names=last_nodes(source), validate=False)
    options: dict[str, Any] = {"ignored_scope": scope, "subset_size": len(calibration.batches)}

    def save(quantized: openvino.Model) -> None:
        openvino.save_model(quantized, str(folder / "model_int8.xml"), compress_to_fp16=False)

    with own_progress():
        save(nncf.quantize(source, batches, **options))
    validation, max_drop = calibration.validation, calibration.max_drop
    if validation is None or validation.loss_in_int8(folder, OpenVINO) <= max_drop:
        return
    logger.info("openvino: NNCF now looks for the layers that cost most, on %d images; this may take minutes", RANKED)
    places = nncf.Dataset(list(range(len(validation.images))))
    measure = partial(_average_precision, validation, names)
    restorer = nncf.AdvancedAccuracyRestorerParameters(ranking_subset_size=RANKED)
    options["advanced_accuracy_restorer_parameters"] = restorer
    with own_progress():
        save(nncf.quantize_with_accuracy_control(source, batches, places, measure, max_drop=max_drop / 100, **options))
    lost = validation.loss_in_int8(folder, OpenVINO, "; layers that cost most stay in float32")
    if lost > max_drop:
        raise ExportError(f"int8 costs {lost:.1f} AP in OpenVINO: allow more with --max_drop")


@contextlib.contextmanager
def own_progress() -> Iterator[None]:
    """Show NNCF's progress bars on standard error, where those of ppdet are, and only where they make sense."""
    logging.getLogger("nncf").setLevel(logging.ERROR)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(sys.stderr if is_watched() else nowhere):
        yield


def last_nodes(model: "openvino.Model") -> list[str]:
    """Names of the last convolutions, on which no other convolution depends, and of all that depends on them."""
    operations = model.get_ordered_ops()
    needed: set[str] = set()  # names of operations that a convolution depends on
    for operation in reversed(operations):
        name = operation.get_friendly_name()
        if operation.get_type_name() in CONVOLUTIONS or name in needed:
            needed.update(value.get_node().get_friendly_name() for value in operation.input_values())
    last: set[str] = set()
    for operation in operations:
        name = operation.get_friendly_name()
        is_last = operation.get_type_name() in CONVOLUTIONS and name not in needed
        sources = {value.get_node().get_friendly_name() for value in operation.input_values()}
        if is_last or not sources.isdisjoint(last):
            last.add(name)
    return sorted(last)


def _average_precision(
    validation: ValidationSet, names: list[str], compiled: "openvino.CompiledModel", places: Iterable[int]
) -> tuple[float, None]:
    """AP of a graph as NNCF asks for it: on some of the images, and without a value for each image."""

    def run(arrays: Arrays) -> list[np.ndarray]:
        found = compiled({name: arrays[name] for name in names})
        return [found[name] for name in OUTPUTS]

    return validation.average_precision(run, "AP", places), None
