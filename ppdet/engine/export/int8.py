"""Exported graphs in int8: quantized after training with images of the training set (Jacob et al., arXiv:1712.05877).

The network is quantized up to the head's last convolutions. These, decoding and NMS stay in float32, because scores and
distances have a wide range.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from ppdet.core.config import Config
from ppdet.deploy.backends.base import last_line
from ppdet.engine.build import build_dataset
from ppdet.engine.export.accuracy import Calibration
from ppdet.engine.export.check import ExportError
from ppdet.engine.export.int8_onnx import write_onnx
from ppdet.engine.export.int8_openvino import write_openvino
from ppdet.engine.export.prepared_images import evenly_spread
from ppdet.utils.errors import ConfigError, DataError, UserError


def calibration_paths(cfg: Config, count: int) -> list[str]:
    """Return the paths of images that are spread evenly over TrainDataset.

    Args:
        count: number of images; all, if the data set has fewer.

    Raises:
        ConfigError: there is no such data set, or it has no images.
    """
    try:
        records = build_dataset(cfg, "TrainDataset").records
        if not len(records):
            raise DataError("it has no images")
    except (ConfigError, DataError) as error:
        raise ConfigError(f"--precision int8 needs images of TrainDataset for its calibration: {error}") from None
    return [records[place]["im_file"] for place in evenly_spread(count, len(records))]


def write_int8(folder: Path, formats: Sequence[str], calibration: Calibration) -> None:
    """Write model_int8.onnx, or model_int8.xml and model_int8.bin, beside a folder's graphs in float32.

    Layers that cost too much AP stay in float32. The log has the AP of the graphs in float32 and in int8.

    Args:
        folder: an exported model.
        formats: "onnx", "openvino".

    Raises:
        ExportError: more AP is lost than allowed, whatever stays in float32, or a quantizer fails.
    """
    for name in formats:
        with quantizing(f"--format {name}"):
            (write_onnx if name == "onnx" else write_openvino)(folder, calibration)


@contextlib.contextmanager
def quantizing(argument: str) -> Iterator[None]:
    """Let errors of quantizers be one line that begins with an argument of the export."""
    try:
        yield
    except (UserError, OSError):
        raise
    except Exception as error:  # NNCF, OpenVINO and ONNX Runtime have classes of their own
        raise ExportError(f"{argument}: the graph cannot be quantized to int8: {last_line(error)}") from error
