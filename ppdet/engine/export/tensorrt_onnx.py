"""Writing model_tensorrt.onnx: a graph of fixed shapes, with the outputs of TensorRT's EfficientNMS."""

import functools
import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import ppdet
from ppdet.deploy.compare import Comparison, SelfCheck, compare_candidates, tolerance_of
from ppdet.deploy.fixed_count import OUTPUT, OUTPUTS
from ppdet.deploy.further_files import of_size
from ppdet.deploy.precisions import TENSORRT as FILE
from ppdet.deploy.precisions import TENSORRT_INT8
from ppdet.deploy.preprocess import Preprocess
from ppdet.engine.export.accuracy import Calibration
from ppdet.engine.export.check import Arrays, ExportError, expected_outputs
from ppdet.engine.export.infer_cfg import describe_transforms
from ppdet.engine.export.int8 import quantizing
from ppdet.engine.export.int8_tensorrt import write_tensorrt_int8
from ppdet.engine.export.onnx import epsilon_of, graph_in, rename_outputs, to_onnx
from ppdet.engine.export.onnx_graph import network_of, save_valid
from ppdet.engine.export.refusals import IMAGE_SHAPE
from ppdet.engine.export.tensorrt_parser import LARGEST_K, LARGEST_VOLUME, QUANTIZERS, require_importable
from ppdet.engine.export.tensorrt_run import fixed_runner, rows_from
from ppdet.modeling.nms import MultiClassNMS
from ppdet.utils.disk.files import read_text
from ppdet.utils.errors import ConfigError, DeployError, config_error
from ppdet.utils.extras import require_extras
from ppdet.utils.logger import get_logger

if TYPE_CHECKING:
    import onnx

    from ppdet.engine.export.static_graph import ExportedDetector

logger = get_logger(__name__)
FLOAT32 = "float32/"  # how the names of layers begin that float16 would make inexact
LARGEST_BATCH = LARGEST_VOLUME // LARGEST_K**2  # NMS has a number for each pair of candidates of an image
# NMS with fixed shapes in ONNX's text format. The P best pairs of location and class of an image are candidates, the
# best first. A candidate is kept unless a better one of its class that is kept overlaps it. Whether one is kept depends
# on better ones only, so repeating this until nothing changes ends with what greedy suppression keeps.
# Areas are in units of 128 x 128 pixels, because areas in pixels overflow float16, to which TensorRT may convert them.
# A power of two changes no digit in float32. An empty box gets another area, which only prevents a division of 0 by 0.
NMS_TEXT = Path(__file__).with_name("fixed_nms.onnxtxt")


def check_target(
    target: str | None, batch_size: int, output: str, formats: Sequence[str] = (), precision: str = "fp32"
) -> None:
    """Raise ConfigError for an unknown target, and for one that does not fit the other arguments of an export.

    Args:
        output: what the graph ends with. formats: formats that are written besides Paddle's.
    """
    if target not in (None, "tensorrt"):
        raise ConfigError(f"target: expected tensorrt, got {target!r}")
    if target is None:
        if batch_size != 1:
            raise ConfigError(
                f"--batch_size {batch_size}: only {FILE} has a fixed number of images, and all other files take "
                "batches of any size: add --target tensorrt, or leave out --batch_size"
            )
        return
    if type(batch_size) is not int or not 1 <= batch_size <= LARGEST_BATCH:
        raise ConfigError(
            f"--batch_size {batch_size}: expected a whole number from 1 to {LARGEST_BATCH}: TensorRT's tensors "
            f"have at most {LARGEST_VOLUME:,} values, and NMS compares the best {LARGEST_K:,} boxes of an image with "
            "each other"
        )
    if output != "detections":
        raise ConfigError("--target tensorrt: set export.post_process and export.nms true, export.benchmark false")
    if precision == "fp16" and not formats:
        raise ConfigError(
            f"--precision fp16: {FILE} is float32, and trtexec --fp16 chooses the precision of the engine: leave out "
            "--precision, or add --format onnx or openvino, which have files in float16"
        )
    require_extras(ConfigError, "onnx")


def check_fixed_size(size: tuple[int, int] | None, transforms: Sequence[Any], stride: int, source: str) -> None:
    """Raise ConfigError if images for the graph have no largest size, or one that is no multiple of the stride.

    Args:
        size: the fixed height and width of the other graphs, None if they take any.
        transforms: transforms of TestReader that are not part of the graph.
        source: names the place in the configuration in errors.
    """
    shape = {} if size is None else {"image_shape": [3, *size]}
    settings = {"Preprocess": describe_transforms(transforms), "use_dynamic_shape": size is None, **shape}
    try:
        fixed = Preprocess(settings).sizes()[2]
    except DeployError:
        message = "--target tensorrt needs one size, and TestReader has no Resize: set [3, height, width]"
        raise config_error(source, IMAGE_SHAPE, message) from None
    larger = [-(-side // stride) * stride for side in fixed]
    if larger != [*fixed]:
        message = f"images for --target tensorrt would be {fixed[0]}x{fixed[1]}, no multiples of the network's stride"
        raise config_error(source, IMAGE_SHAPE, f"{message}, {stride}: set {[3, *larger]}, or PadBatch.pad_to_stride")


def add_tensorrt(
    detector: "ExportedDetector",
    save: Callable[[Path], None],
    folder: Path,
    check: SelfCheck,
    size: tuple[int, int],
    batch_size: int,
    metadata: Mapping[str, str],
    calibration: Calibration | None = None,
) -> None:
    """Write model_tensorrt.onnx to a folder, and compare its detections with the trained model's.

    If the model detects too little in the images of the check, all locations before NMS are compared instead, in a
    graph that ends with them.

    Args:
        save: writes Paddle's graph of `detector` to a folder.
        check: has the images, which are padded or cut to `size`.
        size: height and width of the images.
        metadata: what other files of the export say about themselves.
        calibration: also write model_tensorrt_int8.onnx.

    Raises:
        ConfigError, ExportError: the network cannot be converted or quantized, or the graph detects something else.
    """
    logger.info("%s takes batches of %d images of %dx%d, in float32", FILE, batch_size, *size)
    arrays = of_size(check.arrays, size)
    detector.output = "detections"
    expected = SelfCheck.of(arrays, *expected_outputs(detector, arrays, list(arrays)), floor=check.floor, top=check.top)
    network = fixed_network(detector, "candidates", save, size, batch_size)
    nms, facts = detector.model.nms, fixed_metadata(metadata, size, batch_size)
    write_tensorrt(network, folder / FILE, nms, facts)
    files = [(FILE, run_checked(lambda: expected.verify(rows_from(folder / FILE, batch_size), "fp32")))]
    if calibration is not None:
        append = functools.partial(write_tensorrt, nms=nms, metadata=facts)
        with quantizing("--target tensorrt"):
            write_tensorrt_int8(network, append, folder, calibration, size, batch_size)
        run = rows_from(folder / TENSORRT_INT8, batch_size)
        files.append((TENSORRT_INT8, run_checked(lambda: expected.verify(run, "int8"), TENSORRT_INT8)))
    if not expected.comparable("fp32"):
        detector.output = "locations"
        locations = expected_outputs(detector, arrays, list(arrays))
        network = fixed_network(detector, "locations", save, size, batch_size)
        files.append((FILE, run_checked(lambda: compare_locations(network, arrays, locations, batch_size))))
    for file, result in files:
        logger.info("%s, for TensorRT, was checked in onnxruntime, not in TensorRT: %s", file, result)


def fixed_metadata(metadata: Mapping[str, str], size: tuple[int, int], batch_size: int) -> dict[str, str]:
    """Return what model_tensorrt.onnx says about itself: as the other files, but for its fixed sizes and outputs."""
    own = {"output": OUTPUT, "outputs": json.dumps(OUTPUTS), "image_shape": json.dumps([3, *size])}
    return {**metadata, **{f"ppdet.{key}": value for key, value in own.items()}, "ppdet.batch_size": str(batch_size)}


def fixed_network(
    detector: "ExportedDetector", output: str, save: Callable[[Path], None], size: tuple[int, int], batch_size: int
) -> "onnx.ModelProto":
    """Return a graph with fixed sizes that ends with `output`: "candidates" or "locations".

    Args: see `add_tensorrt`.
    """
    detector.output = output
    with tempfile.TemporaryDirectory() as temporary:
        save(Path(temporary))
        return to_onnx(graph_in(Path(temporary)), None, epsilon_of(detector.model), lengths=(batch_size, 3, *size))


def write_tensorrt(network: "onnx.ModelProto", path: Path, nms: MultiClassNMS, metadata: Mapping[str, str]) -> None:
    """Append NMS to a graph that ends with the candidates, and write it.

    Args:
        network: see `fixed_network`; it is changed.
        metadata: what the file says about itself.

    Raises:
        ExportError: the graph is not valid, or has what TensorRT's parser does not import.
    """
    import onnx
    from onnx import compose

    boxes, scores, *others = (value.name for value in network.graph.output)
    lengths = next(value for value in shapes(network) if value.name == scores).type.tensor_type.shape.dim
    tail = fixed_nms(nms, [dim.dim_value for dim in lengths], network.opset_import[0].version)
    network.ir_version = tail.ir_version
    del network.graph.value_info[:]
    # Two outputs: NMS compares the boxes that it returns.
    ends = [(boxes, "nms/boxes"), (scores, "nms/scores"), ((others or [boxes])[0], "nms/overlap_boxes")]
    tail = compose.add_prefix(tail, "nms/")
    rename_outputs(tail, OUTPUTS)
    merged = compose.merge_models(network, tail, io_map=ends, outputs=list(OUTPUTS))
    name_float32_layers(merged.graph)
    # merge_models lists the version of the operators twice, and itself as the producer.
    operators = merged.opset_import[:1]
    model = onnx.helper.make_model(
        merged.graph,
        opset_imports=operators,
        ir_version=onnx.helper.find_min_ir_version_for(operators),
        producer_name="ppdet",
        producer_version=ppdet.__version__,
    )
    require_importable(model)
    onnx.helper.set_model_props(model, dict(metadata))
    save_valid(model, path)


def name_float32_layers(graph: "onnx.GraphProto") -> None:
    """Give the nodes before the first and after the last convolution names that begin with `FLOAT32`.

    TensorRT names its layers by them, so that a pattern can keep normalization, decoding and NMS in float32. Nodes that
    convert to int8 and back are no such layers.
    """
    network = {name for node in network_of(graph.node) for name in node.output}
    nodes = [node for node in graph.node if network.isdisjoint(node.output) and node.op_type not in QUANTIZERS]
    bodies = [attribute.g for node in nodes for attribute in node.attribute if attribute.HasField("g")]
    for node in (*nodes, *(node for body in bodies for node in body.node)):
        node.name = FLOAT32 + node.output[0]


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
        "TOP_K": min(nms.nms_top_k, pairs) if nms.nms_top_k > 0 else pairs,
        "IOU": float(nms.nms_threshold),
        "SCORE": float(nms.score_threshold),
    }
    text = re.sub(rf"(?<= )({'|'.join(values)})(?=[],}}])", lambda found: str(values[found[1]]), read_text(NMS_TEXT))
    return parser.parse_model(text)


def run_checked(compare: Callable[[], Comparison], file: str = FILE) -> Comparison:
    """Return the result of a comparison with the trained model; raise ExportError where they differ."""
    try:
        return compare()
    except DeployError as error:
        raise ExportError(f"{file} is wrong in onnxruntime: {error}") from None


def compare_locations(
    network: "onnx.ModelProto", arrays: Arrays, expected: Sequence[np.ndarray], batch_size: int
) -> Comparison:
    """Compare the boxes and scores of all locations before NMS with the trained model's.

    Raises:
        DeployError: they differ.
    """
    names = [value.name for value in network.graph.output]
    found = fixed_runner(network.SerializeToString(), batch_size, names, FILE)(arrays)
    tolerance = tolerance_of("fp32")
    return compare_candidates(expected, found, tolerance).require_within(tolerance)
