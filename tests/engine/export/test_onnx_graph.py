"""Float16 graphs are valid, exact outside of the network, and in the order in which they are computed."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

from ppdet.engine.export.check import ExportError
from ppdet.engine.export.onnx_graph import half_precision, save_valid, simplified

# Before the first convolution and after the last one, 4099 and its sums are exact in float32, but not in float16. The
# second convolution's weight is too large for float16.
NETWORK = """<ir_version: 8, opset_import: ["": 17]>
network (float[n, 1, h, w] image) => (float[n, 1, h, w] map, float[n, 1, h, w] far, int64[4] size)
<float[1, 1, 1, 1] one = {1.0}, float[1, 1, 1, 1] huge = {100000.0}, float[1] far_away = {4099.0},
 float[1] quarter = {0.25}>
{
    near = Sub (image, far_away)
    same = Identity (near)
    first = Conv (same, one)
    negative = Neg (first)
    rectified = Relu (negative)
    quartered = Mul (rectified, quarter)
    size = Shape (quartered)
    map = Conv (quartered, huge)
    unit = Div (map, map)
    far = Add (unit, far_away)
}"""


def test_only_the_network_is_in_float16(tmp_path):
    model = simplified(parser.parse_model(NETWORK))
    assert "Identity" not in {node.op_type for node in model.graph.node}
    half = half_precision(model)
    save_valid(half, tmp_path / "half.onnx")
    types = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert types["far_away"] == onnx.TensorProto.FLOAT and types["huge/half"] == onnx.TensorProto.FLOAT16
    assert "huge" not in types
    image = np.full((2, 1, 3, 4), 4098.0, np.float32)  # 4099 and 4098 are 4100 and 4098 in float16
    session = onnxruntime.InferenceSession(tmp_path / "half.onnx")
    found, far, size = session.run(["map", "far", "size"], {"image": image})
    assert found.dtype == np.float32 and size.tolist() == [2, 1, 3, 4]
    assert np.unique(far) == [4100.0]
    whole = onnxruntime.InferenceSession(model.SerializeToString()).run(["map"], {"image": image})[0]
    assert np.unique(whole) == [25000.0] and np.unique(found) == [0.25 * 65504]
    kinds = [node.op_type for node in half.graph.node]
    assert kinds.count("Cast") == 2 and kinds.index("Cast") < kinds.index("Conv")


def test_shapes_are_written_once_so_that_files_of_one_model_are_equal():
    """The simplifier's own entries are several for each tensor, in an order that changes from process to process."""
    known = parser.parse_model(NETWORK)
    known = onnx.shape_inference.infer_shapes(known)
    known.graph.value_info.extend(list(known.graph.value_info))
    graph = simplified(known).graph
    names = [value.name for value in graph.value_info]
    between = {name for node in graph.node for name in node.output} - {value.name for value in graph.output}
    assert sorted(names) == sorted(between)


def test_an_invalid_graph_is_not_written(tmp_path):
    model = parser.parse_model(NETWORK)
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    with pytest.raises(ExportError, match=r"half.onnx would not be valid ONNX: Nodes in a graph must be topologically"):
        save_valid(model, tmp_path / "half.onnx")
    assert not list(tmp_path.iterdir())
