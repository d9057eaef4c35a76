"""Test-time augmentation in evaluation and inference, with a detector that treats all views of an image alike."""

import cv2
import numpy as np
import paddle
import pytest

from ppdet.core.workspace import load_config
from ppdet.deploy.slicing import Slicing
from ppdet.deploy.tta import TTA
from ppdet.engine.evaluator import Evaluator
from ppdet.engine.predictor import Predictor
from ppdet.modeling.nms import MultiClassNMS
from ppdet.utils.errors import DeployError

SIX = {"scales": (0.5, 1.0, 2.0), "flip": "horizontal"}


class Brightest(paddle.nn.Layer):
    """Detects the smallest box around the brightest pixels of each image, with the score 0.8.

    Flipped images give flipped boxes. `sizes` are those of the batches.
    """

    trained_classes = None

    def __init__(self):
        super().__init__()
        self.nms = MultiClassNMS()
        self.sizes = []

    def forward(self, batch):
        self.sizes.append(tuple(batch["image"].shape))
        rows = []
        for image, (scale_y, scale_x) in zip(batch["image"].numpy(), batch["scale_factor"].numpy()):
            y, x = np.nonzero(image[0] > 0.5 * image[0].max())
            sides = x.min() / scale_x, y.min() / scale_y, (x.max() + 1) / scale_x, (y.max() + 1) / scale_y
            rows.append([0, 0.8, *sides])
        return paddle.to_tensor(rows, "float32"), paddle.ones([len(rows)], "int32")


@pytest.fixture
def bright(tiny):
    """The tiny data set, where images are black but for one white rectangle; image id -> x1, y1, x2, y2 of it."""
    rng, boxes = np.random.default_rng(0), {}
    for path in sorted((tiny.parent / "data" / "images").iterdir()):
        corner = 4 * rng.integers(0, 10, 2)
        x1, y1, x2, y2 = boxes[int(path.stem)] = [*corner, *(corner + 4 * rng.integers(5, 12, 2))]
        image = np.zeros((96, 128, 3), np.uint8)
        image[y1:y2, x1:x2] = 255
        cv2.imwrite(str(path), image)
    return tiny, boxes


@pytest.mark.parametrize("tta", [None, TTA((1.0,)), TTA(**SIX), TTA((1.0, 2.0), "both", "nms")])
def test_views_that_agree_change_nothing(bright, tta):
    config, boxes = bright
    evaluator = Evaluator(load_config(str(config), ["EvalReader.batch_size=3"]), tta=tta)
    model = Brightest()
    evaluator(model)
    found = evaluator.metric.detections
    assert found["image_id"].tolist() == evaluator.metric.image_ids == list(boxes)
    for one in found:
        x1, y1, x2, y2 = boxes[one["image_id"]]
        np.testing.assert_allclose(one["bbox"], [x1, y1, x2 - x1, y2 - y1], atol=1e-4)
        assert one["score"] == pytest.approx(0.8)
    assert set(evaluator.metric.sizes.values()) == {(96, 128)}


def test_views_come_one_after_the_other_and_images_are_counted(bright, bars, log):
    evaluator = Evaluator(load_config(str(bright[0]), ["EvalReader.batch_size=5"]), tta=TTA((1.0, 2.0), merge="nms"))
    model = Brightest()
    evaluator(model)
    plain, large = (96, 128), (192, 256)
    assert model.sizes == [(count, 3, *size) for count in (5, 3) for size in (plain, plain, large, large)]
    assert [(bar.n, bar.total, bar.unit) for bar in bars] == [(8, 8, "image")]
    assert "test-time augmentation: 4 views, scales 1 2, flip horizontal, merged by nms" in log.text
    assert "evaluated 8 images in" in log.text


def test_limits_are_those_of_the_model(bright):
    """What one of two views has loses score, by the square root of 2, and falls to the model's threshold."""

    class Half(Brightest):
        def forward(self, batch):
            rows, counts = super().forward(batch)
            rows[:, 0] = float(len(self.sizes) % 2)  # another class in each view
            return rows, counts

    model = Half()
    model.nms = MultiClassNMS(score_threshold=0.4, keep_top_k=1)
    for threshold, count in ((0.57, 0), (0.56, 8)):
        model.nms.score_threshold = threshold
        evaluator = Evaluator(load_config(str(bright[0]), ["EvalReader.batch_size=8"]), tta=TTA((1.0,)))
        evaluator(model)
        found = evaluator.metric.detections
        assert len(found) == count and found["score"].tolist() == pytest.approx([0.8 * 0.5**0.5] * count)


def test_predictor(bright, monkeypatch):
    config, boxes = bright
    monkeypatch.setattr("ppdet.engine.predictor.build_trained_model", lambda cfg: Brightest())
    paths = [str(path) for path in sorted((config.parent / "data" / "images").iterdir())]
    predictor = Predictor(load_config(str(config)), tta=TTA(**SIX))
    found = dict(predictor.detect(paths))
    assert list(found) == list(range(8))
    for place, box in enumerate(boxes.values()):
        np.testing.assert_allclose(found[place], [[0, 0.8, *box]], atol=1e-4)
    with pytest.raises(DeployError, match="takes whole images"):
        list(predictor.detect(paths, Slicing()))
    with pytest.raises(DeployError, match="takes whole images"):
        Evaluator(load_config(str(config)), tta=TTA(), slicing=Slicing())
    with pytest.raises(DeployError, match="tta is True, expected"):
        Evaluator(load_config(str(config)), tta=True)
