"""Thresholds by class: from infer_cfg.yml to what is drawn and counted."""

import cv2
import numpy as np
import pytest
from commands import call
from toy import write_toy

from ppdet.deploy.detector import Detector
from ppdet.deploy.preprocess import read_infer_cfg
from ppdet.utils.class_thresholds import is_kept, thresholds_of
from ppdet.utils.errors import DeployError
from ppdet.visualize import draw_detections


def test_each_class_has_its_threshold():
    scores, classes = np.array([0.2, 0.2, 0.6, 0.4]), np.array([0, 1, 2, 2])
    # The last class has no name and no threshold of its own.
    assert is_kept(scores, classes, np.array([0.2, 0.3])).tolist() == [True, False, True, False]
    assert is_kept(scores, classes, 0.4).tolist() == [False, False, True, True]
    # 0.7 in float32 is less than 0.7, and reaches it, whether it counts for all classes or for one, also in a picture.
    single = np.array([0.7], np.float32)
    for least in (0.7, np.array([0.7])):
        assert is_kept(single, np.zeros(1), least).all() and is_kept(single.astype(float), np.zeros(1), least).all()
    assert thresholds_of({"draw_threshold": 0.25, "class_thresholds": {7: 0.5}}, ["a", "7"]).tolist() == [0.25, 0.5]
    assert thresholds_of({}, ["a"]) == 0.5 and thresholds_of({"draw_threshold": 0.25}, ["a"]) == 0.25
    image = np.zeros((40, 40, 3), np.uint8)
    row = [[1, 0.4, 5, 5, 30, 30]]
    assert draw_detections(image, row, ["a", "b"], np.array([0.9, 0.3])).any()
    assert not draw_detections(image, row, ["a", "b"], np.array([0.1, 0.5])).any()


def test_an_exported_model_is_used_with_its_thresholds(tmp_path, log):
    folder = write_toy(tmp_path, class_thresholds={"bright": 0.3})
    cv2.imwrite(str(tmp_path / "gray.png"), np.full((64, 128, 3), 102, np.uint8))  # found with a score of 0.4
    detector = Detector(folder)
    assert detector.thresholds.tolist() == [0.5, 0.3]
    assert len(detector.predict(str(tmp_path / "gray.png")).above(detector.thresholds)) == 1
    common = ("deploy/python/infer.py", "--model_dir", folder, "--image_file", tmp_path / "gray.png")
    for options, told in (
        ((), "1 detection with at least the score threshold of their class"),
        (("--threshold", "0.5"), "0 detections with a score of at least 0.5"),
    ):
        log.clear()
        call(*common, "--output_dir", tmp_path / "out", *options)
        assert told in log.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class_thresholds: [0.5]", "expected a number for each class"),
        ("class_thresholds: {a: high}", "class_thresholds.a is 'high'; expected a number from 0 to 1"),
        ("class_thresholds: {b: 0.5}", "class_thresholds names 'b', which is not in label_list"),
        ("draw_threshold: 7", "draw_threshold is 7; expected a number from 0 to 1"),
    ],
)
def test_wrong_thresholds_are_one_line(tmp_path, text, message):
    (tmp_path / "infer_cfg.yml").write_text(f"Preprocess: []\nlabel_list: [a]\n{text}\n")
    with pytest.raises(DeployError, match=message):
        read_infer_cfg(tmp_path)
