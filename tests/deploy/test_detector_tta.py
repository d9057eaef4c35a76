"""An exported model with test-time augmentation; what the model detects in each view is known."""

import cv2
import numpy as np
import pytest
from toy import BOX, KEEPS_RATIO, write_toy

from ppdet.cli import detect
from ppdet.deploy.detector import Detector
from ppdet.deploy.slicing import Slicing
from ppdet.deploy.tta import TTA, Suppression
from ppdet.utils.errors import DeployError, ImageError

FLIPPED = TTA((1.0,), merge="nms")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Detects BOX, which lies in pixels of the network's input, in every view; images are resized to 64 x 128."""
    nms = {"score_threshold": 0.1, "nms_threshold": 0.6, "keep_top_k": 2}
    return write_toy(tmp_path_factory.mktemp("toy"), KEEPS_RATIO, nms=nms)


def image(height=128, width=256):
    """Gray, and half as large as the network's input."""
    return np.full((height, width, 3), 102, np.uint8)


def test_boxes_of_all_views(model, tmp_path):
    """Of scales 1 and 2, the box is 2 BOX and BOX, from the left and from the right."""
    x1, y1, x2, y2 = BOX
    for tta, expected in {
        FLIPPED: [[2 * x1, 2 * y1, 2 * x2, 2 * y2], [256 - 2 * x2, 2 * y1, 256 - 2 * x1, 2 * y2]],
        TTA((1.0, 2.0), "none", "nms"): [[x1, y1, x2, y2], [2 * x1, 2 * y1, 2 * x2, 2 * y2]],
        TTA((2.0,), "vertical", "nms"): [[x1, 128 - y2, x2, 128 - y1], [x1, y1, x2, y2]],
    }.items():
        detector = Detector(model, threads=1, tta=tta)
        assert detector.suppression == Suppression(0.1, 0.6, 2)
        found = detector.predict(image())
        assert sorted(found.boxes.tolist()) == sorted(expected) and found.names == ["bright"] * 2
        np.testing.assert_allclose(found.scores, 0.4, atol=1e-3)
        cv2.imwrite(str(tmp_path / "a.png"), image())
        (tmp_path / "b.png").write_bytes(b"no")
        paths = [str(tmp_path / name) for name in ("a.png", "b.png", "a.png")]
        assert [place for place, rows in detector.detect(paths, 2) if np.array_equal(rows, found.rows)] == [0, 2]
        data = (tmp_path / "a.png").read_bytes()
        assert all(np.array_equal(one.rows, found.rows) for one in detector.predict([data, image()]))


def test_more_views_than_the_model_keeps(model):
    found = Detector(model, threads=1, tta=TTA((1.0,), "both", "nms")).predict(image())
    assert len(found) == 2


def test_images_of_several_sizes(model):
    """Each one is flipped back with its own width, and gets what it gets alone."""
    detector = Detector(model, threads=1, tta=TTA((1.0, 0.5), merge="weighted"))
    images = [image(), image(128, 200), image(256, 128)]
    together = detector.predict(images)
    for one, found in zip(images, together):
        np.testing.assert_allclose(found.rows, detector.predict(one).rows, atol=1e-4)
    assert not np.array_equal(together[0].rows, together[1].rows)


def test_what_cannot_be_done(model, tmp_path):
    with pytest.raises(ImageError):
        Detector(model, threads=1, tta=FLIPPED).predict(b"no")
    detector = Detector(model, threads=1, tta=FLIPPED)
    with pytest.raises(DeployError, match="takes whole images"):
        detector.predict_sliced(image(), Slicing())
    with pytest.raises(DeployError, match="takes whole images"):
        list(detector.detect(["a.jpg"], slicing=Slicing()))
    with pytest.raises(DeployError, match="scales of TTA must be at most 1"):
        Detector(model, "paddle", device="gpu", tensorrt=True, tta=TTA((1.0, 1.5)))
    fixed = {"use_dynamic_shape": False, "image_shape": [3, 64, 128]}
    folder = write_toy(tmp_path, KEEPS_RATIO, **fixed, nms={"nms_threshold": 2})
    with pytest.raises(DeployError, match=r"takes images of 64x128 only, so that scales \(--tta_scales\) must be 1"):
        Detector(folder, threads=1, tta=TTA((1.0, 0.5)))
    with pytest.raises(DeployError, match="nms_threshold 2: export the model again"):
        Detector(folder, threads=1, tta=FLIPPED)
    assert len(Detector(folder, threads=1).predict(image())) == 1  # without views, nobody looks at it
    folder = write_toy(tmp_path, KEEPS_RATIO, **fixed)
    assert len(Detector(folder, threads=1, tta=FLIPPED).predict(image())) == 2


@pytest.mark.parametrize("tta", [True, False, {}, "flip"])
def test_what_is_no_tta(model, tta):
    with pytest.raises(DeployError, match=r"tta is .*, expected ppdet.deploy.tta.TTA, such as TTA\(\)"):
        Detector(model, threads=1, tta=tta)


@pytest.mark.parametrize(
    ("text", "message"),
    [("--tta --run_benchmark", "leave --tta out"), ("--tta --slice_infer", "leave --slice_infer out")],
)
def test_command(text, message, capsys):
    with pytest.raises(SystemExit):
        detect.main(["--model_dir", "m", "--image_file", "i.jpg", *text.split()])
    assert message in capsys.readouterr().err
