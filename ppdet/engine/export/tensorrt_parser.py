"""What TensorRT's ONNX parser imports according to its documentation, to check a graph without TensorRT."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ppdet.engine.export.check import ExportError

if TYPE_CHECKING:
    import onnx

# From docs/operators.md of https://github.com/onnx/onnx-tensorrt at commit 96e781103cfc4adf4a6bb557e94bac8e693f6f4c
# (version 10.1), by the types of data: floating point; also integers; also Booleans; Booleans only. Left out are
# operators that exports do not have, and NonZero and NonMaxSuppression, whose outputs have no fixed shape.
FLOAT, INTEGER, BOOLEAN = {"FLOAT", "FLOAT16", "BFLOAT16"}, {"INT32", "INT64"}, {"BOOL"}
QUANTIZED = {"INT8"}  # which only these two take or give
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
OPERATORS = {
    name: types
    for names, types in (
        (
            "AveragePool BatchNormalization Ceil Clip Conv ConvTranspose CumSum DeformConv Exp Floor GlobalAveragePool",
            FLOAT,
        ),
        (
            "GroupNormalization InstanceNormalization Log MatMul MaxPool Pow Reciprocal Resize Sigmoid Softmax Sqrt",
            FLOAT,
        ),
        (
            "Abs Add ArgMax ArgMin Div Equal Greater GreaterOrEqual Less LessOrEqual Max Min Mod Mul Neg",
            FLOAT | INTEGER,
        ),
        ("Pad Range ReduceMax ReduceMean ReduceMin ReduceSum Relu Sub Sum TopK", FLOAT | INTEGER),
        ("Cast Concat ConstantOfShape Expand Flatten Gather GatherElements GatherND", FLOAT | INTEGER | BOOLEAN),
        ("Identity Loop Reshape Shape Slice Split Squeeze Tile Transpose Unsqueeze Where", FLOAT | INTEGER | BOOLEAN),
        ("And Not Or Xor", BOOLEAN),
        ("QuantizeLinear", FLOAT),
        ("DequantizeLinear", QUANTIZED),
    )
    for name in names.split()
}
# The inputs that have to be initializers, by their place.
INITIALIZERS = {"TopK": 1, "Slice": 3, "Squeeze": 1, "Unsqueeze": 1, "CumSum": 1, "Pad": 3} | dict.fromkeys(
    ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"), 1
)
# The values that attributes may have; pads of DeformConv also have to be the same at both ends.
ATTRIBUTES: dict[str, dict[str, set[Any]]] = {
    "AveragePool": {"dilations": {1}},
    "MaxPool": {"dilations": {1}},
    "Resize": {
        "mode": {b"nearest", b"linear"},
        "nearest_mode": {b"floor", b"ceil", b"round_prefer_floor", b"round_prefer_ceil"},
        "coordinate_transformation_mode": {
            *(b"half_pixel", b"pytorch_half_pixel", b"tf_half_pixel_for_nn", b"asymmetric", b"align_corners")
        },
        "keep_aspect_ratio_policy": {b"stretch"},
        "antialias": {0},
    },
    "TopK": {"sorted": {1}},
}
OPSETS = range(9, 21)
LARGEST_K = 3839  # of TopK: "less than 3840"
LARGEST_VOLUME = 2**31 - 1  # of a tensor; TensorRT's nvinfer1::ITensor: "less than 2^31 elements"


def require_importable(model: "onnx.ModelProto") -> None:
    """Check a graph against the table above, and that every value has a type of TensorRT and a fixed shape.

    Raises:
        ExportError: it has something that the parser does not import; the message names the first three.
    """
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    found = [*problems(inferred.graph, {}, {})]
    version = next(entry.version for entry in inferred.opset_import if not entry.domain)
    if version not in OPSETS:
        found.insert(0, f"opset {version}")
    if found:
        raise ExportError(f"TensorRT would not import the graph: {'; '.join(found[:3])}")


def problems(
    graph: "onnx.GraphProto", outside: dict[str, str], constants: "dict[str, onnx.TensorProto]"
) -> Iterator[str]:
    """Yield what TensorRT does not import, in a graph with inferred shapes and in the bodies of its loops.

    Args:
        outside: types of the values of the graph around it, by name. constants: initializers of the graphs around it.
    """
    from onnx import TensorProto, numpy_helper

    constants = {**constants, **{tensor.name: tensor for tensor in graph.initializer}}
    types = dict(outside)
    types |= {name: TensorProto.DataType.Name(tensor.data_type) for name, tensor in constants.items()}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        types[value.name] = TensorProto.DataType.Name(tensor.elem_type)
        if not tensor.HasField("shape") or any(dim.dim_value < 1 for dim in tensor.shape.dim):
            yield f"{value.name} has no fixed shape"
        elif math.prod(dim.dim_value for dim in tensor.shape.dim) > LARGEST_VOLUME:
            yield f"{value.name} has more than {LARGEST_VOLUME:,} values: take a smaller batch or image"
    for name, kind in types.items():
        if name not in outside and kind not in FLOAT | INTEGER | BOOLEAN | QUANTIZED:
            yield f"{name} is {kind}"
    for node in graph.node:
        if node.op_type not in OPERATORS or node.domain:
            yield f"operator {node.op_type}"
            continue
        data = node.input[1:] if node.op_type == "Where" else node.input[:1]
        for name in data:
            if types.get(name) not in OPERATORS[node.op_type] and node.op_type != "ConstantOfShape":
                yield f"{node.op_type} of {types.get(name)}"
        yield from (f"{name} has no known type" for name in node.output if name and name not in types)
        place = INITIALIZERS.get(node.op_type, len(node.input))
        if place < len(node.input) and node.input[place] and node.input[place] not in constants:
            yield f"{node.op_type} with the computed {node.input[place]}"
        elif node.op_type == "TopK" and numpy_helper.to_array(constants[node.input[1]]).item() > LARGEST_K:
            yield f"TopK of more than {LARGEST_K}"
        yield from attribute_problems(node)
        if node.op_type in QUANTIZERS:
            yield from quantization_problems(node, constants)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from problems(attribute.g, types, constants)


def attribute_problems(node: "onnx.NodeProto") -> Iterator[str]:
    """Yield the attributes of a node whose values TensorRT does not import."""
    from onnx import helper

    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        values = value if isinstance(value, list) else [value]
        allowed = ATTRIBUTES.get(node.op_type, {}).get(attribute.name)
        unequal = node.op_type == "DeformConv" and attribute.name == "pads" and value[: len(value) // 2] * 2 != value
        if unequal or (allowed is not None and not allowed.issuperset(values)):
            yield f"{node.op_type} with {attribute.name} {value}"


def quantization_problems(node: "onnx.NodeProto", constants: "dict[str, onnx.TensorProto]") -> Iterator[str]:
    """Yield what a QuantizeLinear or DequantizeLinear has that TensorRT does not import.

    Scales are positive, one for a tensor, or one for each output channel of weights. Zero points are as many zeros.
    These are conditions of `QuantDequantLinearHelper` in the parser's onnxOpImporters.cpp.
    """
    from onnx import helper, numpy_helper

    data, scale_name, zero_name = (*node.input, "")[:3]
    if scale_name not in constants or (zero_name and zero_name not in constants):
        yield f"{node.op_type} with a computed scale or zero point"
        return
    scale = numpy_helper.to_array(constants[scale_name])
    zero = numpy_helper.to_array(constants[zero_name]) if zero_name else np.zeros(scale.shape)
    shape = constants[data].dims if data in constants else ()
    # Without the attribute, the parser takes axis 0 and ONNX axis 1: with several scales it has to be there.
    axis = next((helper.get_attribute_value(item) for item in node.attribute if item.name == "axis"), len(shape))
    if zero.size != scale.size:
        yield f"{node.op_type} with {zero.size} zero points for {scale.size} scales"
    if zero.any():
        yield f"{node.op_type} with a zero point other than 0"
    if not (scale > 0).all():
        yield f"{node.op_type} with a scale that is not positive"
    if scale.size != 1 and not (0 <= axis < len(shape) and shape[axis] == scale.size):
        yield f"{node.op_type} with {scale.size} scales for {data}"
