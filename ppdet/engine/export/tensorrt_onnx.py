"""Writing model_tensorrt.onnx: a graph of fixed shapes, with the outputs of TensorRT's EfficientNMS."""

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ppdet.deploy.backends.base import last_line
from ppdet.deploy.compare import SelfCheck
from ppdet.deploy.fixed_count import OUTPUTS, rows_of_fixed_count
from ppdet.engine.export.check import Arrays, ExportError, expected_outputs
from ppdet.engine.export.onnx import epsilon_of, graph_in, rename_outputs, to_onnx
from ppdet.engine.export.onnx_graph import save_valid, simplified
from ppdet.engine.export.tensorrt_parser import LARGEST_K, require_importable
from ppdet.modeling.nms import MultiClassNMS
from ppdet.utils.disk.files import read_text
from ppdet.utils.errors import ConfigError, DeployError
from ppdet.utils.extras import require_extras
from ppdet.utils.logger import get_logger

if TYPE_CHECKING:
    import onnx

    from ppdet.engine.export.graph import ExportedDetector

logger = get_logger(__name__)
FILE = "model_tensorrt.onnx"
# NMS with fixed shapes in ONNX's text format. The P best pairs of location and class of an image are candidates, the
# best first. A candidate is kept unless a better one of its class that is kept overlaps it. Whether one is kept depends
# on better ones only, so repeating this until nothing changes ends with what greedy suppression keeps.
NMS_TEXT = Path(__file__).with_name("fixed_nms.onnxtxt")


def check_target(target: str | None, batch_size: int, output: str) -> None:
    """Raise ConfigError for an unknown target, and for one that does not fit what the graph ends with."""
    if target not in (None, "tensorrt"):
        raise ConfigError(f"target: expected tensorrt, got {target!r}")
    if batch_size < 1 or (batch_size != 1 and target is None):
        raise ConfigError(f"batch_size: got {batch_size}; a positive number of images, with target tensorrt")
    if target and output != "detections":
        raise ConfigError("--target tensorrt: set export.post_process and export.nms true, export.benchmark false")
    if target:
        require_extras(ConfigError, "onnx")


def add_tensorrt(
    detector: "ExportedDetector",
    save: Callable[[Path], None],
    folder: Path,
    check: SelfCheck,
    size: tuple[int, int],
    batch_size: int,
    metadata: Mapping[str, str],
) -> None:
    """Write model_tensorrt.onnx to a folder, and compare its detections with the trained model's.

    Args:
        save: writes Paddle's graph of `detector` to a folder.
        size, metadata: see `write_tensorrt`. check: see `verify_tensorrt`.

    Raises:
        ConfigError, ExportError: the network cannot be converted, or the graph detects something else.
    """
    logger.info("%s takes batches of %d images of %dx%d", FILE, batch_size, *size)
    detector.output = "candidates"
    with tempfile.TemporaryDirectory() as temporary:
        save(Path(temporary))
        network = to_onnx(graph_in(Path(temporary)), None, epsilon_of(detector.model))
    write_tensorrt(network, folder, detector.model.nms, size, batch_size, metadata)
    verify_tensorrt(folder, detector, check, size, batch_size)


def write_tensorrt(
    network: "onnx.ModelProto",
    folder: Path,
    nms: MultiClassNMS,
    size: tuple[int, int],
    batch_size: int,
    metadata: Mapping[str, str],
) -> None:
    """Write model_tensorrt.onnx to a folder.

    Args:
        network: a graph that ends with the candidates; it is changed.
        size: height and width of the images.
        metadata: what the file says about itself.

    Raises:
        ExportError: the graph is not valid, or has what TensorRT's parser does not import.
    """
    import onnx
    from onnx import compose

    for value in network.graph.input:
        for dim, length in zip(value.type.tensor_type.shape.dim, (batch_size, None, *size)):
            if length:
                dim.dim_value = length
    # Sizes that were free are recorded as such, and would stay so.
    del network.graph.value_info[:]
    for value in network.graph.output:
        value.type.tensor_type.ClearField("shape")
    fixed = simplified(network)
    boxes, scores, *others = (value.name for value in fixed.graph.output)
    lengths = next(value for value in shapes(fixed) if value.name == scores).type.tensor_type.shape.dim
    tail = fixed_nms(nms, [dim.dim_value for dim in lengths], fixed.opset_import[0].version)
    fixed.ir_version = tail.ir_version
    del fixed.graph.value_info[:]
    # Two outputs: NMS compares the boxes that it returns.
    ends = [(boxes, "nms/boxes"), (scores, "nms/scores"), ((others or [boxes])[0], "nms/overlap_boxes")]
    tail = compose.add_prefix(tail, "nms/")
    rename_outputs(tail, OUTPUTS)
    model = compose.merge_models(fixed, tail, io_map=ends, outputs=list(OUTPUTS))
    require_importable(model)
    onnx.helper.set_model_props(model, dict(metadata))
    save_valid(model, folder / FILE)


def shapes(model: "onnx.ModelProto") -> "list[onnx.ValueInfoProto]":
    """Return the outputs of a graph with their inferred shapes."""
    import onnx

    return list(onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output)


def fixed_nms(nms: MultiClassNMS, shape: Sequence[int], opset: int) -> "onnx.ModelProto":
    """Return `NMS_TEXT` with the thresholds of `nms`.

    Args:
        shape: (N, C, R) of the scores: images, classes and locations.
    """
    from onnx import parser

    images, classes, locations = shape
    pairs = min(classes * locations, LARGEST_K)
    values = {
        **{"OPSET": opset, "N": images, "C": classes, "R": locations, "P": pairs},
        "K": min(nms.keep_top_k, pairs) if nms.keep_top_k > 0 else pairs,
        "TOP_K": float(nms.nms_top_k if nms.nms_top_k > 0 else pairs),
        "IOU": float(nms.nms_threshold),
        "SCORE": float(nms.score_threshold),
    }
    text = re.sub(rf"(?<= )({'|'.join(values)})(?=[],}}])", lambda found: str(values[found[1]]), read_text(NMS_TEXT))
    return parser.parse_model(text)


def verify_tensorrt(
    folder: Path, detector: "ExportedDetector", check: SelfCheck, size: tuple[int, int], batch_size: int
) -> None:
    """Run model_tensorrt.onnx in ONNX Runtime, and compare its detections with the trained model's.

    Args:
        check: its images are padded or cut to `size`.

    Raises:
        ExportError: they differ, or ONNX Runtime cannot run the graph.
    """
    arrays = of_size(check.arrays, size)
    detector.output = "detections"
    expected = expected_outputs(detector, arrays, list(arrays))
    fixed_check = SelfCheck.of(arrays, *expected, floor=check.floor, top=check.top)
    try:
        outputs = run_fixed(folder / FILE, arrays, batch_size)
    except Exception as error:  # ONNX Runtime has classes of its own
        raise ExportError(
            f"{FILE}: cannot run in onnxruntime: install another version of onnxruntime, or leave out --target "
            f"tensorrt ({last_line(error)})"
        ) from None
    try:
        result = fixed_check.verify(lambda batch: [*outputs], "fp32")
    except DeployError as error:
        raise ExportError(f"{FILE} is wrong in onnxruntime: {error}") from None
    logger.info("%s, for TensorRT, was checked in onnxruntime, not in TensorRT: %s", FILE, result)


def of_size(arrays: Arrays, size: tuple[int, int]) -> Arrays:
    """Return the inputs of a graph with images (N, 3, H, W) of this height and width."""
    height, width = size
    image = arrays["image"][:, :, :height, :width]
    room = [(0, 0), (0, 0), (0, height - image.shape[2]), (0, width - image.shape[3])]
    im_shape = np.minimum(arrays["im_shape"], np.array(size, np.float32))
    return {**arrays, "image": np.pad(image, room), "im_shape": im_shape}


def run_fixed(path: Path, arrays: Arrays, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Run the graph on any number of images, in batches that the last image fills up; see `rows_of_fixed_count`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    count = len(arrays["image"])
    batches = []
    for start in range(0, count, batch_size):
        index = np.minimum(np.arange(start, start + batch_size), count - 1)
        batches.append(session.run(OUTPUTS, {name: array[index] for name, array in arrays.items()}))
    return rows_of_fixed_count([np.concatenate(values)[:count] for values in zip(*batches)])
