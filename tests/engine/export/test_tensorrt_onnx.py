"""model_tensorrt.onnx: fixed shapes, operators of TensorRT's parser, and the detections of Paddle's NMS."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import paddle
import pytest
import yaml
from noise import TWO_LEVELS, noisy, write_padded
from onnx import TensorProto, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

import ppdet
from ppdet.deploy.backends import export_command
from ppdet.deploy.engine_check import Export, run_further, summary
from ppdet.deploy.fixed_count import OUTPUTS, rows_of_fixed_count
from ppdet.deploy.further_files import further_files
from ppdet.engine.export import tensorrt_onnx
from ppdet.engine.export.check import ExportError
from ppdet.engine.export.graph import export_model
from ppdet.engine.export.tensorrt_onnx import fixed_nms
from ppdet.engine.export.tensorrt_parser import require_importable
from ppdet.modeling.nms import MultiClassNMS


def every_node(graph):
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from every_node(attribute.g)


@pytest.mark.parametrize("settings", [
    {},
    {"nms_top_k": 5, "keep_top_k": 7},
    {"nms_top_k": -1, "keep_top_k": -1, "score_threshold": 0.0},
    {"nms_threshold": 1.0, "keep_top_k": -1},
    {"nms_threshold": 0.0, "keep_top_k": -1},
    {"score_threshold": 1.0},
])  # fmt: skip
@pytest.mark.parametrize(("batch", "locations"), [(1, 60), (2, 60), (2, 2)])
def test_suppression_is_paddles(settings, batch, locations):
    """Crowded boxes, some of them equal, with many equal scores; also fewer boxes than can be kept."""
    rng = np.random.default_rng(batch)
    corner = rng.uniform(0, 60, (batch, locations, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 40, (batch, locations, 2))], axis=2).astype(np.float32)
    twins = locations // 6
    boxes[:, twins : 2 * twins] = boxes[:, :twins]
    scores = (rng.integers(0, 12, (batch, 3, locations)) / 12).astype(np.float32)
    scores[:, 1] = 0  # a class of which there is nothing
    nms = MultiClassNMS(**settings)
    rows, counts = (value.numpy() for value in nms(paddle.to_tensor(boxes), paddle.to_tensor(scores)))
    model = fixed_nms(nms, scores.shape, 17)
    onnx.checker.check_model(model, full_check=True)
    require_importable(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    outputs = session.run(OUTPUTS, {"boxes": boxes, "scores": scores, "overlap_boxes": boxes})
    kept = min(nms.keep_top_k if nms.keep_top_k > 0 else 3 * locations, 3 * locations)
    assert [array.shape for array in outputs] == [(batch, 1), (batch, kept, 4), (batch, kept), (batch, kept)]
    assert [array.dtype for array in outputs] == [np.int32, np.float32, np.float32, np.int32]
    for count, *padded in zip(counts, *outputs[1:]):
        assert not any(array[count:].any() for array in padded)
    found, found_counts = rows_of_fixed_count(outputs)
    assert found_counts.tolist() == counts.tolist() and np.array_equal(found, rows.reshape(-1, 6))


def in_float16(model):
    """The graph with every float32 value in float16."""
    for graph in (model.graph, *(a.g for node in model.graph.node for a in node.attribute if a.HasField("g"))):
        for value in (*graph.input, *graph.output):
            if value.type.tensor_type.elem_type == TensorProto.FLOAT:
                value.type.tensor_type.elem_type = TensorProto.FLOAT16
        for tensor in graph.initializer:
            if tensor.data_type == TensorProto.FLOAT:
                array = numpy_helper.to_array(tensor).astype(np.float16)
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        for attribute in (a for node in graph.node if node.op_type == "Cast" for a in node.attribute):
            if attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
    return model


@pytest.mark.parametrize("side", [1344, 10752])
def test_suppression_in_float16(side):
    """Of large, small and empty boxes, with corners and scores that float16 has exactly and overlaps off the threshold.

    The reference evaluator computes each operator in the types of its inputs, unlike ONNX Runtime on a CPU.
    """
    unit = side // 1344
    corners = np.array([[0, 0], [40, 24], [480, 640], [744, 944], [1320, 1336], [100, 100], [900, 100]])
    sizes = np.array([[600, 400], [600, 400], [600, 400], [600, 400], [8, 8], [0, 0], [0, 0]])
    corners = np.concatenate([corners, [[0, 0], [1322, 1336], [1322, 1330]]])
    sizes = np.concatenate([sizes, [[1344, 1344], [8, 8], [1, 1]]])
    boxes = (np.concatenate([corners, corners + sizes], axis=1) * unit).astype(np.float32)[None]
    scores = (1 - np.arange(boxes.shape[1], dtype=np.float32) / 16)[None, None]
    nms = MultiClassNMS(nms_threshold=0.5, keep_top_k=-1)
    (rows, _) = nms(paddle.to_tensor(boxes), paddle.to_tensor(scores))
    expected = rows.numpy()
    assert len(expected) == 8  # the second of the large boxes and of the small ones are suppressed
    run = ReferenceEvaluator(in_float16(fixed_nms(nms, scores.shape, 17)))
    inputs = {"boxes": boxes, "scores": scores, "overlap_boxes": boxes}
    with np.errstate(all="raise", under="ignore"):
        outputs = run.run(None, {name: array.astype(np.float16) for name, array in inputs.items()})
    assert outputs[1].dtype == np.float16
    np.testing.assert_array_equal(rows_of_fixed_count(outputs)[0], expected)


def require_int8(folder, log):
    """The same file in int8, in a folder that is otherwise one of float32, since no engine of a Detector has int8."""
    assert re.search(
        r"model_tensorrt_int8\.onnx in onnxruntime: AP [\d.]+ in float32, [\d.]+ in int8 \(1 images\)", log.text
    )
    assert "model_tensorrt_int8.onnx, for TensorRT, was checked in onnxruntime, not in TensorRT: " in log.text
    files = [folder / name for name in ("model_tensorrt.onnx", "model_tensorrt_int8.onnx")]
    whole, small = map(onnx.load, files)
    assert {p.key: p.value for p in small.metadata_props} == {p.key: p.value for p in whole.metadata_props}
    assert [value.SerializeToString() for value in (*small.graph.input, *small.graph.output)] == [
        value.SerializeToString() for value in (*whole.graph.input, *whole.graph.output)
    ]
    assert files[1].stat().st_size < 0.4 * files[0].stat().st_size
    assert yaml.safe_load((folder / "infer_cfg.yml").read_text())["precision"] == "fp32"
    assert further_files(folder) == [file.name for file in files]
    found = run_further(folder, files[1].name, "int8")
    assert (found.outcome, found.file, found.precision) == ("works", files[1].name, "int8")
    lines = summary(Export.read(folder), [found])
    assert any(line.startswith("not run in TensorRT: model_tensorrt_int8.onnx; the table says") for line in lines)
    assert export_command(folder, ["openvino"], "fp32").endswith("--precision int8 --target tensorrt")


def test_exported_graph(tmp_path, log):
    """Of any size, with top-k of levels; its batches of three hold the two images of the check and one twice."""
    cfg = noisy(write_padded(tmp_path, images=1), ["FCOSHead.level_top_k=20", "FCOSHead.last_pixel=true"])
    options = {"precision": "int8", "calibration": 1, "max_drop": 100}
    folder = export_model(cfg, str(tmp_path / "exported"), target="tensorrt", batch_size=3, **options)
    assert "model_tensorrt.onnx takes batches of 3 images of 160x160, in float32" in log.text
    assert re.search(r"checked in onnxruntime, not in TensorRT: \d{3} detections, none unmatched", log.text)
    require_int8(folder, log)
    model = onnx.load(folder / "model_tensorrt.onnx")
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    sizes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
             for value in (*inferred.input, *inferred.value_info, *inferred.output)}  # fmt: skip
    assert all(all(shape) for shape in sizes.values())
    assert {name for node in inferred.node for name in node.output} <= sizes.keys()
    assert sizes["image"] == [3, 3, 160, 160] and sizes["scale_factor"] == sizes["im_shape"] == [3, 2]
    assert [sizes[name] for name in OUTPUTS] == [[3, 1], [3, 100, 4], [3, 100], [3, 100]]
    said = {entry.key.removeprefix("ppdet."): entry.value for entry in model.metadata_props}
    assert said["output"] == "fixed_count" and json.loads(said["outputs"]) == [*OUTPUTS]
    assert json.loads(said["image_shape"]) == [3, 160, 160] and json.loads(said["batch_size"]) == 3
    assert json.loads(said["names"]) == ["red", "blue"] and said["score_threshold"] == "0.025"
    assert [entry.domain for entry in model.opset_import] == [""] and model.ir_version == 8
    assert (model.producer_name, model.producer_version) == ("ppdet", ppdet.__version__)
    nodes = list(every_node(model.graph))
    named = [node for node in nodes if node.name.startswith("float32/")]
    assert {"Sigmoid", "TopK", "Loop", "ReduceSum"} <= {node.op_type for node in named}
    assert not {"Conv", "InstanceNormalization", "MaxPool"} & {node.op_type for node in named}
    assert {"nms/iou", "nms/suppressors", "nms/order_long"} <= {name for node in named for name in node.output}
    kinds = {node.op_type for node in nodes}
    assert "Loop" in kinds and not {"Compress", "NonZero", "NonMaxSuppression", "Identity"} & kinds
    found = run_further(Path(folder), tensorrt_onnx.FILE, "fp32")
    assert (found.outcome, found.unmatched, found.why) == ("works", 0, "") and found.compared > 0
    path = Path(folder, tensorrt_onnx.FILE)
    path.write_bytes(path.read_bytes()[:-1000])
    found = run_further(Path(folder), tensorrt_onnx.FILE, "fp32")
    assert found.outcome == "fails" and found.why.startswith("model_tensorrt.onnx: ")


def test_all_locations_are_compared_where_the_model_detects_too_little(tmp_path, log, monkeypatch):
    """Of a fixed size, with normalization and deformable convolutions; another network is refused."""
    options = [*TWO_LEVELS, "FCOSHead.nms.score_threshold=0.99", "ResNet.dcn_v2_stages=[1]"]
    options += ["TestReader.fuse_normalize=true", "TestReader.inputs_def.image_shape=[3, 64, 96]"]
    cfg = noisy(write_padded(tmp_path, images=1), options)
    compare_locations, calls = tensorrt_onnx.compare_locations, []

    def compared(*arguments):
        calls.append(arguments)
        return compare_locations(*arguments)

    monkeypatch.setattr(tensorrt_onnx, "compare_locations", compared)
    folder = export_model(cfg, str(tmp_path / "exported"), target="tensorrt", batch_size=4)
    assert "checked in onnxruntime, not in TensorRT: 240 locations before NMS, none unmatched" in log.text
    model = onnx.load(folder / "model_tensorrt.onnx")
    assert {"DeformConv", "Loop"} <= {node.op_type for node in model.graph.node}
    assert [entry.version for entry in model.opset_import] == [19] and model.ir_version == 9
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said["ppdet.image_shape"] == "[3, 64, 96]" and said["ppdet.batch_size"] == "4"
    ((network, *rest),) = calls
    weights = next(tensor for tensor in network.graph.initializer if len(tensor.dims) == 4)
    weights.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weights), weights.name))
    with pytest.raises(ExportError, match="wrong in onnxruntime: its locations before NMS differ from the trained"):
        tensorrt_onnx.run_checked(lambda: compare_locations(network, *rest))
    del network.graph.node[0]
    with pytest.raises(
        ExportError, match=r"^model_tensorrt\.onnx: cannot run in onnxruntime: [^\n]*lower --batch_size[^\n]*$"
    ):
        tensorrt_onnx.run_checked(lambda: compare_locations(network, *rest))


@pytest.mark.parametrize(("signature", "text", "problem"), [
    ("(float[2, 3] x) => (float[2, 3] y)", "y = Identity (x)", None),
    ("(float[n, 3] x) => (float[n, 3] y)", "y = Identity (x)", "x has no fixed shape"),
    ("(double[2] x) => (double[2] y)", "y = Identity (x)", "x is DOUBLE"),
    ("(bool[2] x) => (bool[2] y)", "y = Compress <axis = 0> (x, x)", "operator Compress"),
    ("(int32[2] x) => (float[2] y)", "z = Cast <to = 1> (x)\n y = Sqrt (z)", None),
    ("(float[4000] x, int64[1] k) => (float[2] y)", "y, i = TopK <axis = 0> (x, k)", "TopK with the computed k"),
    ("(float[4000] x) => (float[3840] y, int64[3840] i) <int64[1] k = {3840}>", "y, i = TopK <axis = 0> (x, k)",
     "TopK of more than 3839"),
    ("(float[4, 23171, 23171] x) => (float[4, 23171, 23171] y)", "y = Relu (x)",
     "x has more than 2,147,483,647 values: take a smaller batch or image"),
    ("(float[1, 1, 9, 9] x) => (float[1, 1, 5, 5] y)", "y = MaxPool <kernel_shape = [3, 3], dilations = [2, 2]> (x)",
     r"MaxPool with dilations \[2, 2\]"),
    ("(float[1, 1, 9, 9] x) => (float[1, 1, 7, 7] y)", "y = MaxPool <kernel_shape = [3, 3], dilations = [1, 1]> (x)",
     None),
    ("(float[1, 1, 4, 4] x) => (float[1, 1, 8, 8] y) <float[4] s = {1, 1, 2, 2}>",
     'y = Resize <mode = "cubic"> (x, , s)', "Resize with mode b'cubic'"),
    ("(float[1, 1, 4, 4] x) => (float[1, 1, 8, 8] y) <float[4] s = {1, 1, 2, 2}>",
     'y = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric"> (x, , s)', None),
    ("(float[9] x) => (float[2] y, int64[2] i) <int64[1] k = {2}>", "y, i = TopK <axis = 0, sorted = 0> (x, k)",
     "TopK with sorted 0"),
    ("(float[1, 1, 4, 4] x, float[1, 1, 1, 1] w, float[1, 2, 5, 4] o) => (float[1, 1, 5, 4] y)",
     "y = DeformConv <pads = [1, 0, 0, 0], kernel_shape = [1, 1]> (x, w, o)",
     r"DeformConv with pads \[1, 0, 0, 0\]"),
    ("(int32[1, 1, 2, 2] x) => (int32[1, 1, 2, 2] y)", "y = MatMul (x, x)", "MatMul of INT32"),
    ("(float[2] x) => (float[2] y) <int64 n = {3}, bool go = {1}>",
     "y = Loop <body = b (int64 i, bool on, float[2] v) => (bool o, float[2] w) <float[2] c = {1.0, 2.0}>"
     " { o = Identity (on)\n w = Add (c, v) }> (n, go, x)", None),
    ("(float[2] x) => (float[2] y) <int64 n = {3}, bool go = {1}>",
     "y = Loop <body = b (int64 i, bool on, float[2] v) => (bool o, float[2] w) <double[2] c = {1.0, 2.0}>"
     " { o = Identity (on)\n d = Cast <to = 1> (c)\n w = Add (d, v) }> (n, go, x)", "c is DOUBLE"),
])  # fmt: skip
def test_what_the_parser_does_not_import(signature, text, problem):
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["": 19]> g {signature} {{ {text} }}')
    if problem is None:
        require_importable(model)
        return
    with pytest.raises(ExportError, match=f"TensorRT would not import the graph: .*{problem}"):
        require_importable(model)


WEIGHTS = "int8[3, 2] w = {1, 2, 3, 4, 5, 6}, float[3] s = {1.0, 2.0, 3.0}, int8[3] z = {0, 0, 0}"


@pytest.mark.parametrize(("constants", "text", "problem"), [
    ("float s = {0.5}, int8 z = {0}", "q = QuantizeLinear (x, s, z)\n y = DequantizeLinear (q, s, z)", None),
    ("float s = {0.5}, int8 z = {0}", "q = QuantizeLinear (x, s, z)\n y = DequantizeLinear (q, s)", None),
    ("float s = {0.5}, uint8 z = {0}", "q = QuantizeLinear (x, s, z)\n y = DequantizeLinear (q, s, z)", "z is UINT8"),
    ("float s = {0.5}", "q = QuantizeLinear (x, s)\n y = DequantizeLinear (q, s)", "q is UINT8"),
    ("float s = {0.5}, int8 z = {3}", "q = QuantizeLinear (x, s, z)\n y = DequantizeLinear (q, s, z)",
     "QuantizeLinear with a zero point other than 0"),
    ("float s = {0.0}, int8 z = {0}", "q = QuantizeLinear (x, s, z)\n y = DequantizeLinear (q, s, z)",
     "QuantizeLinear with a scale that is not positive"),
    ("float t = {0.5}, int8 z = {0}", "s = Abs (t)\n q = QuantizeLinear (x, s, z)\n y = DequantizeLinear (q, s, z)",
     "QuantizeLinear with a computed scale or zero point"),
    ("float s = {0.5}, int8 z = {0}",
     "q = QuantizeLinear (x, s, z)\n r = Reshape <allowzero = 0> (q, h)\n y = DequantizeLinear (r, s, z)",
     "Reshape of INT8"),
    ("float[2] s = {1.0, 2.0}, int8[2] z = {0, 0}",
     "q = QuantizeLinear <axis = 1> (x, s, z)\n y = DequantizeLinear <axis = 1> (q, s, z)",
     "QuantizeLinear with 2 scales for x"),
    (WEIGHTS, "v = DequantizeLinear <axis = 0> (w, s, z)\n y = Add (x, v)", None),
    (WEIGHTS.replace("3] s = {1.0, 2.0, 3.0}, int8[3] z = {0, 0, 0}", "2] s = {1.0, 2.0}, int8[2] z = {0, 0}"),
     "v = DequantizeLinear (w, s, z)\n y = Add (x, v)", "DequantizeLinear with 2 scales for w"),
    (WEIGHTS.replace("3] z = {0, 0, 0}", "1] z = {0}"), "v = DequantizeLinear <axis = 0> (w, s, z)\n y = Add (x, v)",
     "DequantizeLinear with 1 zero points for 3 scales"),
])  # fmt: skip
def test_what_the_parser_takes_of_int8(constants, text, problem):
    """As its function QuantDequantLinearHelper; an axis that is not named would be 0 there, and 1 in ONNX."""
    constants = f"{constants}, int64[2] h = {{3, 2}}"
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17]> g (float[3, 2] x) => (float[3, 2] y) <{constants}> {{ {text} }}'
    )
    if problem is None:
        require_importable(model)
        return
    with pytest.raises(ExportError, match=f"TensorRT would not import the graph: .*{problem}"):
        require_importable(model)
