"""The page of a data check: its pictures."""

from types import SimpleNamespace

import cv2
import numpy as np

from ppdet.data.checking.found import Example
from ppdet.engine.data_page import _picture
from ppdet.visualize.draw import class_color


def test_labels_are_legible_in_the_thumbnail_of_a_large_image(tmp_path):
    """An image of 960 pixels becomes 480, which the gallery shows in a width of 280."""
    path = str(tmp_path / "a.png")
    cv2.imwrite(path, np.full((720, 960, 3), 90, np.uint8))
    split = SimpleNamespace(name="train", dataset=SimpleNamespace(class_names=["H"]))
    example = Example(path, "train", np.array([[200.0, 300, 400, 500]]), np.array([0]))
    [(_, drawn)] = _picture([split], example, "kind").panels
    assert drawn.shape == (360, 480, 3)
    label = (drawn[:150, 100] == class_color(0)).all(axis=1).sum()
    assert 10.5 <= label * 280 / 480 <= 14
