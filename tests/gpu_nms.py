"""What Paddle's GPU kernel of NMS asks for and gives, around the CPU's kernel.

From paddle/phi/kernels/gpu/multiclass_nms3_kernel.cu of Paddle 3; the same conditions, with their messages, are in the
binary of paddlepaddle-gpu 2.6.2.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paddle

MOST = 4096
ATTRIBUTES = ("score_threshold", "nms_top_k", "keep_top_k", "nms_threshold", "normalized", "nms_eta")
OPERATOR = "multiclass_nms3"


def is_left_to_cpu(shape, nms_top_k, keep_top_k, nms_eta):
    """Of scores of a shape (N, C, R); the CPU's kernel then gets them from the device's memory."""
    return not (len(shape) == 3 and 0 <= nms_top_k <= MOST and keep_top_k >= 0 and nms_eta == 1.0)


def check(boxes, shape, nms_top_k, keep_top_k, nms_eta):
    """AssertionError where the GPU kernel would raise, or read or launch what is not there; whether it computes."""
    if is_left_to_cpu(shape, nms_top_k, keep_top_k, nms_eta):
        return False
    assert nms_top_k <= boxes, f"Expect nms_top_k ({nms_top_k}) <= num of boxes per batch ({boxes})."
    assert keep_top_k <= nms_top_k, f"Expect keep_top_k ({keep_top_k}) <= nms_top_k ({nms_top_k})."
    assert nms_top_k > 0, "there is no kernel number -1"
    assert keep_top_k > 0, "nonzero launches a kernel of 0 blocks"
    return True


class GPUKernel:
    """Takes the place of `paddle._C_ops.multiclass_nms3`. `calls`: whether a GPU would have computed it itself."""

    def __init__(self, patch):
        self.on_cpu = paddle._C_ops.multiclass_nms3
        self.calls = []
        patch.setattr(paddle._C_ops, "multiclass_nms3", self)

    def __call__(self, boxes, scores, rois_num, *attributes):
        if not paddle.in_dynamic_mode():  # it is recorded; `inputs_of_nms` looks at the graph
            return self.on_cpu(boxes, scores, rois_num, *attributes)
        assert boxes.dtype == scores.dtype == paddle.float32, "the GPU has it for float32 alone"
        assert rois_num is None and attributes[-1] == -1
        _, nms_top_k, keep_top_k, _, _, nms_eta = attributes[:6]
        computes = check(boxes.shape[1], scores.shape, nms_top_k, keep_top_k, nms_eta)
        self.calls.append(computes)
        rows, index, counts = self.on_cpu(boxes, scores, rois_num, *attributes)
        assert rows.shape[0] > 0, "gathers 0 rows, which launches a kernel of 0 blocks: CUDA error 9 in the next call"
        if not computes:
            return rows, index, counts
        # Of an image, the best first, of all classes; of equal ones, the first class's and in it the first box.
        image = np.repeat(np.arange(len(counts)), counts.numpy())
        order = paddle.to_tensor(np.lexsort((-rows[:, 1].numpy(), image)))
        return rows.gather(order), index.gather(order), counts


def inputs_of_nms(folder, arrays):
    """Of an exported graph that takes `arrays`: what its NMS operator gets and gives for them, and the graph's outputs.

    boxes: (N, R, 4). scores: (N, C, R). rows: (M, 6). attributes: by name. outputs: list of arrays.
    """
    paddle.enable_static()
    try:
        with paddle.static.scope_guard(paddle.static.Scope()):
            executor = paddle.static.Executor(paddle.CPUPlace())
            program, feeds, outputs = paddle.static.load_inference_model(str(Path(folder) / "model"), executor)
            operator = next(op for op in program.global_block().ops if name_of(op).endswith(OPERATOR))
            if hasattr(operator, "operands_source"):
                for fetch in [op for op in program.global_block().ops if name_of(op) == "pd_op.fetch"]:
                    program.global_block().remove_op(fetch)  # what is fetched besides would take their numbers
                tensors = [*operator.operands_source()[:2], operator.results()[0]]
                attributes = {name: operator.attrs()[name] for name in ATTRIBUTES}
            else:
                names = [operator.input("BBoxes"), operator.input("Scores"), operator.output("Out")]
                tensors = [program.global_block().var(name) for (name,) in names]
                attributes = {name: operator.attr(name) for name in ATTRIBUTES}
            fed = {name: arrays[name] for name in feeds}
            results = executor.run(program, feed=fed, fetch_list=[*outputs, *tensors])
    finally:
        paddle.disable_static()
    *outputs, boxes, scores, rows = results
    return SimpleNamespace(boxes=boxes, scores=scores, rows=rows, attributes=attributes, outputs=outputs)


def name_of(operator):
    return operator.name() if hasattr(operator, "operands_source") else operator.type


def check_graph(folder, arrays):
    """Run an exported graph with the checks of `GPUKernel`; whether a GPU would compute its NMS, and what it gives."""
    found = inputs_of_nms(folder, arrays)
    limits = [found.attributes[name] for name in ("nms_top_k", "keep_top_k", "nms_eta")]
    computes = check(found.boxes.shape[1], found.scores.shape, *limits)
    assert found.rows.shape[0] > 0, "gathers 0 rows"
    return computes, found.outputs
