"""Detections in the form of TensorRT's EfficientNMS: a fixed number for each image, padded by zeros."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnxruntime

OUTPUT = "fixed_count"  # what the file says of its outputs, where others say "detections"
OUTPUTS = ("num_dets", "det_boxes", "det_scores", "det_classes")


def rows_of_fixed_count(outputs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Convert the outputs of model_tensorrt.onnx, or of an engine made of it, to those of the other graphs.

    Args:
        outputs: num_dets (N, 1), det_boxes (N, K, 4) x1, y1, x2, y2, det_scores (N, K) and det_classes (N, K), in this
            order. The first num_dets detections of an image are valid, and sorted by score.

    Returns:
        Rows (M, 6) of [class from 0, score, x1, y1, x2, y2] as float32, image by image and within an image by class and
        then score; and the number of rows of each image (N,) as int32.
    """
    counts, boxes, scores, classes = outputs
    counts = counts.reshape(-1).astype(np.int32)
    parts = [np.zeros((0, 6), np.float32)]
    for count, *arrays in zip(counts, boxes, scores, classes):
        box, score, label = (array[:count] for array in arrays)
        order = np.argsort(label, kind="stable")
        parts.append(np.concatenate([label[:, None], score[:, None], box], axis=1)[order].astype(np.float32))
    return np.concatenate(parts), counts


def open_fixed(model: str | bytes) -> "onnxruntime.InferenceSession":
    """Load a graph of fixed sizes in ONNX Runtime on the CPU, which raises its own classes where it cannot.

    Where the graph says so, numbers are rounded to 8 bits. Convolutions then compute with the rounded numbers in
    float32, whose sums are as good as those of integers in TensorRT. ONNX Runtime's own kernels for 8 bits would
    overflow on processors without VNNI.

    Args:
        model: the path of an ONNX file, or its content.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # NMS would take a third more memory in the default order.
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_in_batches(
    session: "onnxruntime.InferenceSession", arrays: Mapping[str, np.ndarray], batch_size: int, names: Sequence[str]
) -> list[np.ndarray]:
    """Run a graph with a fixed batch size on any number of images, the last of which fills up the last batch.

    Args:
        arrays: inputs by name, with a row for each image.
        names: the outputs to return; each has a row for each image.
    """
    count, batches = len(arrays["image"]), []
    for start in range(0, count, batch_size):
        index = np.minimum(np.arange(start, start + batch_size), count - 1)
        batches.append(session.run(names, {name: array[index] for name, array in arrays.items()}))
    return [np.concatenate(values)[:count] for values in zip(*batches)]
