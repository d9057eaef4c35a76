"""Soft-NMS in a graph: every engine detects what evaluation detects. No network comes before it."""

import numpy as np
import onnxruntime
import openvino
import paddle
import pytest
from paddle import inference, nn
from paddle.static import InputSpec

from ppdet.engine.export.onnx import graph_in, to_onnx
from ppdet.modeling.soft_nms import SoftNMS

CLASSES = 3


class Suppression(nn.Layer):
    """Only NMS, and a factor of 1, since a graph has to have a weight."""

    def __init__(self, method):
        super().__init__()
        self.suppress = method
        self.factor = self.create_parameter([1], default_initializer=nn.initializer.Constant(1.0))

    @paddle.jit.not_to_static
    def forward(self, boxes, scores):
        return self.suppress(boxes, scores * self.factor)[:2]


def save(layer, folder):
    folder.mkdir()
    specs = [InputSpec([None, None, 4], "float32", "boxes"), InputSpec([None, CLASSES, None], "float32", "scores")]
    paddle.jit.save(paddle.jit.to_static(layer, input_spec=specs, full_graph=True), str(folder / "model"))
    return graph_in(folder)


def scenes():
    """Arrays (N, R, 4) and (N, C, R): more candidates than enter, fewer than are kept, and none."""
    rng = np.random.default_rng(1)
    for images, count, power in ((2, 90, 3), (1, 1, 1), (2, 30, 40)):
        corner = rng.uniform(0, 150, (images, count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(20, 60, (images, count, 2))], axis=2)
        yield boxes.astype(np.float32), (rng.uniform(0, 0.9, (images, CLASSES, count)) ** power).astype(np.float32)


def check(run, nms):
    """Compare what `run` returns for each scene with what evaluation detects."""
    found = []
    for boxes, scores in scenes():
        rows, counts = run(boxes, scores)
        expected, per_image = nms(paddle.to_tensor(boxes), paddle.to_tensor(scores))
        assert counts.tolist() == per_image.tolist()
        np.testing.assert_allclose(rows, expected.numpy(), rtol=1e-5, atol=1e-6)
        found.append(len(rows))
    assert found[0] == 2 * nms.keep_top_k and 0 < found[1] < nms.keep_top_k


def soft_nms(method):
    return SoftNMS(method=method, score_threshold=0.05, nms_top_k=100, keep_top_k=6)


@pytest.mark.parametrize(("method", "onednn"), [("gaussian", True), ("linear", False)])
def test_paddle_inference(tmp_path, method, onednn):
    nms = soft_nms(method)
    graph = save(Suppression(nms), tmp_path / "graph")
    config = inference.Config(str(graph), str(graph.with_name("model.pdiparams")))
    config.disable_glog_info()
    config.disable_gpu()
    if onednn:
        config.enable_mkldnn()
    elif hasattr(config, "disable_mkldnn"):
        config.disable_mkldnn()
    predictor = inference.create_predictor(config)

    def run(boxes, scores):
        for name, array in (("boxes", boxes), ("scores", scores)):
            predictor.get_input_handle(name).copy_from_cpu(array)
        predictor.run()
        return [predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()]

    check(run, nms)


def test_onnx_runtime_and_openvino(tmp_path):
    nms = soft_nms("gaussian")
    graph = save(Suppression(nms.select), tmp_path / "graph")
    model = to_onnx(graph, nms, 0.0, simplify=False).SerializeToString()
    session = onnxruntime.InferenceSession(model)
    check(lambda boxes, scores: session.run(["bbox", "bbox_num"], {"boxes": boxes, "scores": scores}), nms)
    core = openvino.Core()
    network = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    check(lambda boxes, scores: [*network({"boxes": boxes, "scores": scores}).values()], nms)
