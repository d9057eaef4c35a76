"""The evaluator around models that detect what a test tells them to."""

import threading

import paddle
import pytest
from oracle import Oracle

from ppdet.core.workspace import load_config
from ppdet.deploy.slicing import Slicing
from ppdet.engine.evaluator import Evaluator


def test_all_batches_are_collected_and_perfect_detections_score_one(tiny):
    evaluator = Evaluator(load_config(str(tiny), ["EvalReader.batch_size=3"]))
    for _ in range(2):
        numbers = evaluator(Oracle(evaluator))
        assert numbers["AP"] == pytest.approx(1.0) and numbers["AR100"] == pytest.approx(1.0)
        assert sorted(evaluator.metric.image_ids) == sorted(int(r["im_id"].item()) for r in evaluator.dataset.records)


def test_an_error_while_collecting_ends_the_evaluation(tiny):
    evaluator = Evaluator(load_config(str(tiny), ["EvalReader.batch_size=3"]))
    threads = threading.active_count()
    with pytest.raises(ValueError, match="num_classes does not fit"):
        evaluator(Oracle(evaluator, label=99))
    assert threading.active_count() <= threads


class Corners(paddle.nn.Layer):
    """Detects in each window a box of its first pixels, and notes the size of batches."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, batch):
        self.sizes.append(len(batch["im_id"]))
        row = paddle.to_tensor([[0.0, 0.9, 0.0, 0.0, 10.0, 5.0]])
        return row.tile([self.sizes[-1], 1]), paddle.ones([self.sizes[-1]], "int32")


def test_windows_are_counted_by_image_and_put_together(tiny, bars):
    """8 images of 96 x 128 in 2 x 3 windows of 64 x 50; batches take windows of several images."""
    evaluator = Evaluator(load_config(str(tiny), ["EvalReader.batch_size=5"]), slicing=Slicing((64, 50), (0.0, 0.0)))
    model = Corners()
    for _ in range(2):
        evaluator(model)
        assert len(evaluator.metric.image_ids) == 8
        found = evaluator.metric.detections
        first = found[found["image_id"] == found["image_id"][0]]
        places = [[x, y, 10, 5] for x in (0, 50, 78) for y in (0, 32)]
        assert sorted(first["bbox"].tolist()) == places and len(found) == 8 * 6
    assert model.sizes == [5] * 9 + [3] + [5] * 9 + [3]
    assert [(bar.n, bar.total, bar.unit) for bar in bars] == [(8, 8, "image")] * 2
