"""Exported graphs in int8: quantized after training with images of the training set (Jacob et al., arXiv:1712.05877).

The network is quantized up to the head's last convolutions. These, decoding and NMS stay in float32, because scores and
distances have a wide range.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ppdet.core.config import Config
from ppdet.data.transforms.decode import read_image
from ppdet.deploy.preprocess import Preprocess
from ppdet.engine.build import build_dataset
from ppdet.engine.export.accuracy import Calibration
from ppdet.engine.export.check import Arrays
from ppdet.engine.export.int8_onnx import write_onnx
from ppdet.engine.export.int8_openvino import write_openvino
from ppdet.utils.errors import ConfigError, ImageError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)


def calibration_inputs(cfg: Config, preprocess: Preprocess, count: int) -> list[Arrays]:
    """Return a graph's inputs for images that are spread evenly over TrainDataset, as they are when detecting.

    Args:
        count: number of images; all, if the data set has fewer.

    Raises:
        ConfigError: none of them can be read.
        DataError: there is no such data set.
    """
    records = build_dataset(cfg, "TrainDataset").records
    places = np.unique(np.linspace(0, len(records) - 1, count).round().astype(int)).tolist()
    batches, unreadable = [], []
    for place in places:
        try:
            batches.append(preprocess.join([preprocess.prepare(read_image(records[place]["im_file"]))]))
        except ImageError as error:
            unreadable.append(error)
    if not batches:
        raise ConfigError(f"--calibration: none of {len(places)} images can be read, e.g. {unreadable[0]}")
    if unreadable:
        logger.warning("--calibration: %d images cannot be read, e.g. %s", len(unreadable), unreadable[0])
    return batches


def write_int8(folder: Path, formats: Sequence[str], calibration: Calibration) -> None:
    """Write model_int8.onnx, or model_int8.xml and model_int8.bin, beside a folder's graphs in float32.

    Layers that cost too much AP stay in float32. The log has the AP of the graphs in float32 and in int8.

    Args:
        folder: an exported model.
        formats: "onnx", "openvino".

    Raises:
        ExportError: more AP is lost than allowed, whatever stays in float32.
    """
    for name in formats:
        (write_onnx if name == "onnx" else write_openvino)(folder, calibration)
