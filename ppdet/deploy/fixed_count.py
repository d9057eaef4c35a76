"""Detections in the form of TensorRT's EfficientNMS: a fixed number for each image, padded by zeros."""

from collections.abc import Sequence

import numpy as np

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
