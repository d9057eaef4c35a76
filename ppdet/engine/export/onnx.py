"""Converting Paddle's static graph to ONNX, and ONNX to OpenVINO.

paddle2onnx 2.1 converts the network and the decoding. It makes two mistakes that are corrected here: it writes an
uninitialized number as the epsilon of a group norm, and its NMS keeps other boxes than Paddle's. Here the graph is
converted without NMS, which is then appended in ONNX's own operators.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from paddle import nn

import ppdet
from ppdet.engine.export.onnx_graph import half_precision, save_valid, simplified
from ppdet.engine.export.paddle2onnx_call import convert_file
from ppdet.modeling.architectures.base import DenseDetector
from ppdet.modeling.nms import MultiClassNMS
from ppdet.utils.disk.files import read_text
from ppdet.utils.errors import ConfigError
from ppdet.utils.extras import require_extras
from ppdet.utils.process.child import ChildError, call_in_child

if TYPE_CHECKING:
    import onnx

OPSET = 17  # paddle2onnx uses a later one where the network needs it
EVERYTHING = 2**31 - 1

# Paddle's multiclass_nms3 in ONNX's text format. The TOP_K highest-scoring candidates of each class enter
# NMS; then the KEEP highest-scoring detections per image are kept. They are sorted by image, then class, then score,
# highest first. n images, c classes, r locations, m detections.
NMS_TEXT = Path(__file__).with_name("nms.onnxtxt")


def write_formats(
    source: Path,
    target: Path,
    model: DenseDetector,
    formats: Sequence[str],
    precision: str,
    *,
    with_nms: bool = True,
    names: Sequence[str] = (),
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write model.onnx, or model.xml and model.bin, to the folder `target`; with precision fp16 also model_fp16.*.

    Args:
        source: folder of the model's static graph that ends with "candidates", see `ExportedDetector`.
        formats: "onnx", "openvino".
        with_nms: append NMS; False: the graphs end with the candidates.
        names: new names of the outputs of a graph without NMS.
        metadata: what the files say about themselves, see `metadata_of`.

    Raises:
        ConfigError: packages are not installed, or the network cannot be converted.
        ExportError: a graph would not be valid ONNX.
    """
    require_extras(ConfigError, "onnx", *(name for name in formats if name == "openvino"))
    import onnx

    converted = to_onnx(graph_in(source), model.nms if with_nms else None, epsilon_of(model))
    rename_outputs(converted, names)
    name_dimensions(converted)
    converted.producer_name, converted.producer_version = "ppdet", ppdet.__version__
    converted.ir_version = onnx.helper.find_min_ir_version_for(converted.opset_import)
    if "openvino" in formats:  # it would write the texts of an ONNX file a second time, under other names
        save_valid(converted, source / "model.onnx")
        write_openvino(source / "model.onnx", target / "model.xml", metadata, half=False)
        if precision == "fp16":
            write_openvino(source / "model.onnx", target / "model_fp16.xml", metadata, half=True)
    if "onnx" in formats:
        onnx.helper.set_model_props(converted, dict(metadata))
        save_valid(converted, target / "model.onnx")
        if precision == "fp16":
            save_valid(half_precision(converted), target / "model_fp16.onnx")


def graph_in(folder: Path) -> Path:
    """Return the path of Paddle's graph in a folder."""
    return next(path for path in folder.iterdir() if path.suffix in (".json", ".pdmodel"))


def epsilon_of(model: DenseDetector) -> float:
    """Return the epsilon of all group norms of a network, 0 if it has none.

    Raises:
        ConfigError: they are different.
    """
    epsilons = {layer._epsilon for layer in model.sublayers() if isinstance(layer, nn.GroupNorm)}
    if len(epsilons) > 1:
        raise ConfigError("group norms with different epsilon cannot be converted to ONNX")
    return next(iter(epsilons), 0.0)


def to_onnx(
    graph: Path,
    nms: MultiClassNMS | None,
    epsilon: float,
    *,
    lengths: Sequence[int] = (),
    simplify: bool = True,
) -> "onnx.ModelProto":
    """Convert a graph that ends with "candidates", append NMS, and simplify the result.

    The inputs keep their names. The outputs are bbox (M, 6) and bbox_num (N,) int32, as Paddle's; without `nms` they
    are the candidates. Batch size and image size stay dynamic if they are dynamic in the graph.

    Args:
        graph: model.json or model.pdmodel, with model.pdiparams beside it.
        epsilon: the epsilon of all group norms of the network.
        lengths: fixed (N, 3, H, W) of the images.
        simplify: False leaves out the last step.

    Raises:
        ConfigError: paddle2onnx cannot convert the network.
    """

    network = convert(graph)
    correct_group_norms(network, epsilon)
    for value in network.graph.input:
        free = ("batch", None, "height", "width")
        for dim, name in zip(value.type.tensor_type.shape.dim, free):
            if name and not dim.dim_value:
                dim.dim_param = name
        for dim, length in zip(value.type.tensor_type.shape.dim, lengths if value.name == "image" else lengths[:1]):
            dim.dim_value = length
    if lengths:  # sizes that were free are recorded as such, and would stay so
        del network.graph.value_info[:]
        for value in network.graph.output:
            value.type.tensor_type.ClearField("shape")
    if nms is not None:
        append_nms(network, nms)
    return simplified(network) if simplify else network


def correct_group_norms(network: "onnx.ModelProto", epsilon: float) -> None:
    """Write the epsilon of group norms, and let them normalize arrays (N, groups, pixels, 1).

    paddle2onnx writes group norm as an instance norm of (N, groups, pixels) between two reshapes. Of instance norms,
    pnnx only converts those of four dimensions for ncnn.
    """
    import onnx

    nodes = network.graph.node
    made_by = {name: node for node in nodes for name in node.output}
    for norm in [node for node in nodes if node.op_type == "InstanceNormalization"]:
        del norm.attribute[:]
        norm.attribute.append(onnx.helper.make_attribute("epsilon", epsilon))
        reshape, scale = made_by[norm.input[0]], made_by[norm.input[1]]
        groups = onnx.helper.get_node_attr_value(scale, "value").dims[0]
        shape = onnx.numpy_helper.from_array(np.array([0, groups, -1, 1]), f"{norm.output[0]}/shape")
        network.graph.initializer.append(shape)
        reshape.input[1] = shape.name


def rename_outputs(network: "onnx.ModelProto", names: Sequence[str]) -> None:
    """Give the outputs of a graph these names, one for each output; none for no names."""
    new = dict(zip((value.name for value in network.graph.output), names, strict=True)) if names else {}
    for node in network.graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    for value in [*network.graph.output, *network.graph.value_info]:
        value.name = new.get(value.name, value.name)


def name_dimensions(network: "onnx.ModelProto") -> None:
    """Name the free dimensions of outputs: "batch" is the first one, and "locations" those of boxes and scores.

    paddle2onnx numbers them all, so that the images of an input and of an output seem to be different numbers.
    """
    free = {"boxes": ("batch", "locations"), "scores": ("batch", "", "locations")}
    for value in network.graph.output:
        names = dict(enumerate(free.get(value.name, ("batch",))))
        for place, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_param.startswith("DynamicDimension"):
                dim.dim_param = names.get(place, "")


def append_nms(network: "onnx.ModelProto", nms: MultiClassNMS) -> None:
    """Connect the graph of `nms_graph` to the outputs of a network."""
    outputs = [value.name for value in network.graph.output]
    tail = nms_graph(nms, network.opset_import[0].version)
    # Two outputs: NMS compares the boxes that it returns.
    names = dict(zip(("boxes", "scores", "overlap_boxes"), (*outputs, outputs[0])))
    names.update((value.name, value.name) for value in tail.graph.output)
    for node in tail.graph.node:
        node.input[:] = [names.get(name, f"nms/{name}") for name in node.input]
        node.output[:] = [names.get(name, f"nms/{name}") for name in node.output]
    network.ir_version = tail.ir_version
    network.graph.node.extend(tail.graph.node)
    del network.graph.output[:], network.graph.value_info[:]
    network.graph.output.extend(tail.graph.output)
    network.graph.output[1].type.tensor_type.shape.dim[0].dim_param = "batch"


def nms_graph(nms: MultiClassNMS, opset: int) -> "onnx.ModelProto":
    """Return `NMS_TEXT` with the thresholds of `nms`: boxes (N, R, 4), scores (N, C, R) and overlap boxes to rows."""
    from onnx import parser

    values = {
        "OPSET": opset,
        "TOP_K": nms.nms_top_k if nms.nms_top_k > 0 else EVERYTHING,
        "KEEP": nms.keep_top_k if nms.keep_top_k > 0 else EVERYTHING,
        "IOU": float(nms.nms_threshold),
        "SCORE": float(nms.score_threshold),
    }
    text = read_text(NMS_TEXT)
    for name, value in values.items():
        text = text.replace(f" {name}", f" {value}")
    return parser.parse_model(text)


def convert(graph: Path) -> "onnx.ModelProto":
    """Convert a graph with paddle2onnx, in another process, since an operator that it does not know aborts it.

    Raises:
        ConfigError: it cannot convert the graph.
    """
    import onnx

    target = graph.with_name("converted.onnx")
    try:
        call_in_child(convert_file, {"graph": str(graph), "target": str(target), "opset": OPSET})
    except ChildError as error:
        said = [line.strip() for line in error.output.splitlines() if "[ERROR]" in line or "what()" in line]
        raise ConfigError(
            f"paddle2onnx cannot convert this network: {said[0] if said else f'its process {error}'}"
        ) from None
    return onnx.load(str(target))


def write_openvino(model: Path, target: Path, metadata: Mapping[str, str], *, half: bool) -> None:
    """Convert an ONNX file to OpenVINO's IR: `target` (.xml), and .bin beside it.

    Args:
        metadata: what the file says about itself; the text "ppdet.stride" gets the path ["ppdet", "stride"] in rt_info.
        half: store the weights in float16.

    Raises:
        ConfigError: OpenVINO cannot convert the network.
    """
    import openvino

    try:
        # openvino.convert_model would do it too, but reports usage over the network from a forked process.
        network = openvino.Core().read_model(str(model))
        for key, value in metadata.items():
            network.set_rt_info(value, key.split(".", 1))
        openvino.save_model(network, str(target), compress_to_fp16=half)
    except Exception as error:  # OpenVINO raises classes of its own
        lines = [line.strip(" -") for line in str(error).splitlines() if "No conversion rule" in line]
        raise ConfigError(f"OpenVINO cannot convert this network: {(lines or [repr(error)])[-1]}") from None
