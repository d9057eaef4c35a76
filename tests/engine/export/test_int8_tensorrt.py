"""model_tensorrt_int8.onnx: what TensorRT takes, how its scales come about, and which nodes stay in float32."""

import re

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from ppdet.deploy.fixed_count import open_fixed
from ppdet.engine.export.accuracy import Calibration
from ppdet.engine.export.check import ExportError
from ppdet.engine.export.int8 import quantizing
from ppdet.engine.export.int8_onnx import keep_worst, quantize
from ppdet.engine.export.int8_tensorrt import FOR_TENSORRT, write_tensorrt_int8
from ppdet.engine.export.prepared_images import FixedBatches
from ppdet.engine.export.tensorrt_onnx import write_tensorrt
from ppdet.modeling.nms import MultiClassNMS

SIZE, BATCH = (8, 12), 2
# A stem, two towers that read the same values, and the last convolutions of a head for two classes.
NETWORK = """
<ir_version: 9, opset_import: ["": 19]>
g (float[2, 3, 8, 12] image, float[2, 2] im_shape, float[2, 2] scale_factor)
  => (float[2, 96, 4] boxes, float[2, 2, 96] p)
<int64[3] flat_boxes = {2, 4, 96}, int64[3] flat_scores = {2, 2, 96}>
{
    a = Conv <pads = [1, 1, 1, 1], kernel_shape = [3, 3]> (image, stem_w, stem_b)
    b = Relu (a)
    c = Conv <pads = [1, 1, 1, 1], kernel_shape = [3, 3]> (b, left_w, left_b)
    d = Relu (c)
    e = Conv <pads = [1, 1, 1, 1], kernel_shape = [3, 3]> (b, right_w, right_b)
    f = Conv <kernel_shape = [1, 1]> (d, reg_w, reg_b)
    h = Conv <kernel_shape = [1, 1]> (e, cls_w, cls_b)
    i = Reshape (f, flat_boxes)
    boxes = Transpose <perm = [0, 2, 1]> (i)
    s = Sigmoid (h)
    p = Reshape (s, flat_scores)
}
"""
CHANNELS = {"stem": (4, 3, 3), "left": (4, 4, 3), "right": (4, 4, 3), "reg": (4, 4, 1), "cls": (2, 4, 1)}


@pytest.fixture(scope="module")
def network():
    model, rng = parser.parse_model(NETWORK), np.random.default_rng(1)
    for name, (out, channels, side) in CHANNELS.items():
        weights = rng.normal(0, 0.3, (out, channels, side, side)).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weights, f"{name}_w"))
        model.graph.initializer.append(numpy_helper.from_array(rng.normal(size=out).astype(np.float32), f"{name}_b"))
    for node in model.graph.node:
        node.name = node.input[1][:-2] if node.op_type == "Conv" else node.output[0]
    return onnx.shape_inference.infer_shapes(model)


@pytest.fixture(scope="module")
def images():
    """Three images, one of them smaller than the graph's, of which the second batch has the last one twice."""
    rng = np.random.default_rng(2)
    sizes = [(8, 12), (6, 12), (8, 8)]
    return [
        {
            "image": rng.normal(size=(1, 3, *size)).astype(np.float32),
            "im_shape": np.array([size], np.float32),
            "scale_factor": np.ones((1, 2), np.float32),
        }
        for size in sizes
    ]


@pytest.fixture(scope="module")
def quantized(network, images, tmp_path_factory):
    """The network in int8, without NMS, by the names of its convolutions."""
    source = tmp_path_factory.mktemp("network") / "network.onnx"
    target = source.with_name("network_int8.onnx")
    onnx.save(network, source)
    quantize(source, target, FixedBatches(images, SIZE, BATCH), scheme=FOR_TENSORRT)
    return onnx.load(target)


def convolutions(model):
    return {node.name: node for node in model.graph.node if node.op_type == "Conv"}


def constants(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_images_are_padded_and_batches_filled_up(images):
    first, second = FixedBatches(images, SIZE, BATCH)
    assert len(FixedBatches(images, SIZE, BATCH)) == 2 and first["image"].shape == (2, 3, 8, 12)
    assert np.array_equal(first["image"][1, :, :6], images[1]["image"][0]) and not first["image"][1, :, 6:].any()
    assert np.array_equal(second["image"][0], second["image"][1]) and second["im_shape"].tolist() == [[8, 8]] * 2


def test_weights_activations_and_biases_are_what_tensorrt_takes(quantized, network, images):
    """Symmetric, a scale for each output channel of 127 steps, and one for the largest value of each input."""
    floats, integers = constants(network), constants(quantized)
    made_by = {node.output[0]: node for node in quantized.graph.node}
    for name in ("stem", "left", "right"):
        node = convolutions(quantized)[name]
        data, weights = (made_by[value] for value in node.input[:2])
        assert {data.op_type, weights.op_type} == {"DequantizeLinear"}
        values, scale, zero = (integers[value] for value in weights.input)
        expected = abs(floats[f"{name}_w"]).max(axis=(1, 2, 3)) / 127
        np.testing.assert_allclose(scale, expected, rtol=1e-6)
        assert values.dtype == zero.dtype == np.int8 and not zero.any() and abs(values).max() == 127
        np.testing.assert_array_equal(values, np.rint(floats[f"{name}_w"] / scale[:, None, None, None]))
        assert [attribute.i for attribute in weights.attribute if attribute.name == "axis"] == [0]
        np.testing.assert_array_equal(integers[node.input[2]], floats[f"{name}_b"])
        zero = integers[data.input[2]]
        assert zero.dtype == np.int8 and not zero.any() and made_by[data.input[0]].op_type == "QuantizeLinear"
    stem = made_by[convolutions(quantized)["stem"].input[0]]
    np.testing.assert_allclose(integers[stem.input[1]], max(abs(x["image"]).max() for x in images) / 127, rtol=1e-6)


def test_outputs_are_not_quantized_and_pairs_not_shared(quantized):
    """The last convolutions stay as they are."""
    nodes = quantized.graph.node
    assert sorted(node.input[0] for node in nodes if node.op_type == "QuantizeLinear") == ["b", "b", "image"]
    left, right, cls, reg = (convolutions(quantized)[name] for name in ("left", "right", "cls", "reg"))
    assert left.input[0] != right.input[0]
    assert [*cls.input, *reg.input] == ["e", "cls_w", "cls_b", "d", "reg_w", "reg_b"]


def test_onnx_runtime_computes_what_the_nodes_say(quantized, images):
    """As ONNX's own evaluator, operator by operator: no kernel for 8 bits, whose sums may overflow, takes part."""
    batch = next(iter(FixedBatches(images, SIZE, BATCH)))
    expected = ReferenceEvaluator(quantized).run(None, {"image": batch["image"]})
    found = open_fixed(quantized.SerializeToString()).run(["boxes", "p"], batch)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)


class Validation:
    """AP as the test wants it: before, and after each attempt."""

    def __init__(self, images, values):
        self.images, self.values, self.notes = images, list(values), []

    def average_precision(self, run, title, batches):
        for arrays in batches:
            rows, counts = run(arrays)
            assert rows.shape[1] == 6 and len(counts) == BATCH
        return self.values.pop(0)

    def logged_loss(self, name, before, after, note):
        assert name == "model_tensorrt_int8.onnx in onnxruntime"
        self.notes.append(note)
        return before - after


@pytest.fixture
def written(network, images, tmp_path):
    """A function that writes both files for given AP, and returns the graph in int8 and the notes of the log."""

    def write(values):
        validation = Validation(images, values) if values else None

        def append(model, path):
            write_tensorrt(model, path, MultiClassNMS(keep_top_k=5), {"ppdet.names": "[]"})

        model = onnx.ModelProto()
        model.CopyFrom(network)
        append(model, tmp_path / "model_tensorrt.onnx")
        write_tensorrt_int8(model, append, tmp_path, Calibration(images, validation, 0.5), SIZE, BATCH)
        return onnx.load(tmp_path / "model_tensorrt_int8.onnx"), validation.notes if validation else []

    return write


def test_the_file_ends_with_nms_and_names_no_node_of_int8_as_one_of_float32(written):
    model, _ = written([])
    onnx.checker.check_model(model, full_check=True)
    assert {"Loop", "QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in model.graph.node}
    named = [node for node in model.graph.node if node.name.startswith("float32/")]
    kinds, outputs = ({getattr(node, key) for node in named} for key in ("op_type", "name"))
    assert {"Sigmoid", "Loop"} <= kinds and not {"QuantizeLinear", "DequantizeLinear", "Conv"} & kinds
    assert {"float32/s", "float32/boxes"} <= outputs and not {"float32/b", "float32/d"} & outputs
    assert [(entry.key, entry.value) for entry in model.metadata_props] == [("ppdet.names", "[]")]
    assert model.producer_name == "ppdet" and [entry.domain for entry in model.opset_import] == [""]


def test_nodes_that_cost_too_much_stay_in_float32(written):
    """The AP in float32 is computed once, and 0.5 may be lost."""
    model, notes = written([0.6, 0.59, 0.596])
    assert notes == ["", "; 1 of 3 nodes stay in float32"]
    assert [node.op_type for node in model.graph.node].count("QuantizeLinear") == 2


@pytest.mark.parametrize(
    ("losses", "kept"), [([0.5], [0]), ([0.6, 0.5], [0, 1]), ([9, 9, 9, 0.1], [0, 1, 2, 4]), ([9] * 5, [0, 1, 2, 4, 5])]
)
def test_more_and_more_nodes_stay_in_float32(losses, kept):
    found, left = [], list(losses)

    def control():
        keep_worst(
            found.append,
            loss=lambda note: left.pop(0),
            rank=lambda: list("edcba"),
            max_drop=0.5,
            engine="model_tensorrt_int8.onnx",
        )

    if losses[-1] > 0.5:
        with pytest.raises(
            ExportError, match=r"^int8 costs 9\.0 AP in model_tensorrt_int8\.onnx: allow more with --max_"
        ):
            control()
    else:
        control()
    assert [len(names) for names in found] == kept and list(found[-1]) == list("edcba")[: kept[-1]]


def test_errors_of_the_quantizer_name_the_argument():
    message = "--target tensorrt: the graph cannot be quantized to int8: no"
    with pytest.raises(ExportError, match=re.escape(message)), quantizing("--target tensorrt"):
        raise RuntimeError("first\nno")
    with pytest.raises(OSError, match="full"), quantizing("--target tensorrt"):
        raise OSError("full")
