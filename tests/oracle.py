"""A model that knows the answers, to look at what happens around models."""

import numpy as np
import paddle


class Oracle(paddle.nn.Layer):
    """Detects the annotated boxes of each image, all of them as `label` if that is given."""

    def __init__(self, evaluator, label=None):
        super().__init__()
        self.boxes = {int(r["im_id"].item()): r for r in evaluator.dataset.records}
        self.label = label

    def forward(self, batch):
        rows, counts = [np.zeros((0, 6))], []
        for image_id in batch["im_id"].flatten().tolist():
            record = self.boxes[image_id]
            classes = record["gt_class"].reshape(-1, 1) if self.label is None else self.label
            classes = np.broadcast_to(classes, (len(record["gt_bbox"]), 1))
            rows.append(np.concatenate([classes, np.full_like(classes, 0.9, float), record["gt_bbox"]], axis=1))
            counts.append(len(rows[-1]))
        return paddle.to_tensor(np.concatenate(rows).astype("float32")), paddle.to_tensor(counts)
