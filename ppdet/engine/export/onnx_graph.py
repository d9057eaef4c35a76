"""Making ONNX graphs small, converting them to float16, and checking that they are valid."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ppdet.engine.export.check import ExportError
from ppdet.utils.logger import get_logger

if TYPE_CHECKING:
    import onnx

logger = get_logger(__name__)
LARGEST_FOLDED = 2**20  # bytes of a tensor that may be computed at export and stored in the file
CONVOLUTIONS = ("Conv", "DeformConv")
LARGEST_HALF = float(np.finfo(np.float16).max)


def simplified(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Return the graph without identities, with constants folded and batch norms merged into convolutions.

    Inputs, outputs and the names of their free sizes stay. `model` may be changed.
    """
    import onnx
    import onnxslim

    before = len(model.graph.node)
    slim = onnxslim.slim(model, size_threshold=LARGEST_FOLDED)
    logger.info("the ONNX graph has %d nodes, simplified from %d", len(slim.graph.node), before)
    # onnxslim leaves several entries for each tensor, in an order that depends on the process: files would differ.
    del slim.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(slim)


def save_valid(model: "onnx.ModelProto", path: Path) -> None:
    """Write an ONNX file that the full checker and strict shape inference accept.

    Raises:
        ExportError: the graph is not valid; nothing is written.
    """
    import onnx

    try:
        onnx.checker.check_model(model, full_check=True)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{path.name} would not be valid ONNX: {' '.join(str(error).split())}") from None
    onnx.save(model, str(path))


def half_precision(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Convert the network to float16, from its first to its last convolutions.

    Inputs, outputs, normalization, decoding and NMS stay float32: above 2048 pixels, not every whole number is exact in
    float16. Values cross between the two in a Cast.

    Args:
        model: a graph whose constants are initializers, see `simplified`; it is not changed.
    """
    import onnx
    from onnx import TensorProto, helper

    half = onnx.ModelProto()
    half.CopyFrom(onnx.shape_inference.infer_shapes(model))
    graph = half.graph
    values = (*graph.value_info, *graph.input, *graph.output)
    floats = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    weights = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    network = {name for node in network_of(graph.node) for name in node.output}
    made_half = network & floats
    nodes: list[onnx.NodeProto] = []
    made: set[str] = set()  # names of casts' results and of converted weights

    # A float32 value or weight "x" is called "x/half" in float16.
    def cast(source: str, target: str, to: int) -> None:
        if target not in made:
            made.add(target)
            nodes.append(helper.make_node("Cast", [source], [target], name=f"cast/{target}", to=to))

    def in_network(name: str) -> str:
        if name not in floats and name not in weights:
            return name
        if name in weights and f"{name}/half" not in made:
            made.add(f"{name}/half")
            graph.initializer.append(weight_in_half(weights[name], f"{name}/half"))
        elif name not in made_half and name not in weights:
            cast(name, f"{name}/half", TensorProto.FLOAT16)
        return f"{name}/half"

    for node in list(graph.node):
        if not network.isdisjoint(node.output):
            node.input[:] = [in_network(name) for name in node.input]
            node.output[:] = [f"{name}/half" if name in made_half else name for name in node.output]
            for attribute in node.attribute:
                if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                    attribute.i = TensorProto.FLOAT16
        elif node.op_type == "Shape":  # the shape is the same, and a large map need not be converted for it
            node.input[:] = [f"{name}/half" if name in made_half else name for name in node.input]
        else:
            for name in made_half.intersection(node.input):
                cast(f"{name}/half", name, TensorProto.FLOAT)
        nodes.append(node)
    for value in graph.output:
        if value.name in made_half:
            cast(f"{value.name}/half", value.name, TensorProto.FLOAT)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    for field, content in ((graph.node, nodes), (graph.initializer, kept), (graph.value_info, [])):
        del field[:]
        field.extend(content)
    return half


def network_of(nodes: "Sequence[onnx.NodeProto]") -> "list[onnx.NodeProto]":
    """Return the convolutions, and the nodes between them: those that depend on one and that one depends on.

    Computations with shapes do not count. The last one comes first.
    """
    after: set[str] = set()  # values that depend on a convolution
    for node in nodes:
        if node.op_type in CONVOLUTIONS or (node.op_type != "Shape" and not after.isdisjoint(node.input)):
            after.update(node.output)
    before: set[str] = set()  # values that a convolution depends on
    network = []
    for node in reversed(nodes):
        if node.op_type in CONVOLUTIONS or not before.isdisjoint(node.output):
            before.update(node.input)
            if not after.isdisjoint(node.output):
                network.append(node)
    return network


def weight_in_half(tensor: "onnx.TensorProto", name: str) -> "onnx.TensorProto":
    """Return a float32 tensor in float16; what is too large becomes the largest number of float16."""
    from onnx import numpy_helper

    values = np.clip(numpy_helper.to_array(tensor), -LARGEST_HALF, LARGEST_HALF)
    return numpy_helper.from_array(values.astype(np.float16), name)
