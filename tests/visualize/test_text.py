"""Names in any script are legible in pictures, with every version of OpenCV."""

import warnings

import cv2
import numpy as np
import pytest

from ppdet.engine.runs.analysis import Run, draw_curves
from ppdet.visualize import draw_detections
from ppdet.visualize.text import is_legible, put_text, text_size

# Noto Sans CJK lacks Hebrew and Arabic; DejaVu Sans, which comes with Matplotlib, has them.
NAMES = ["红色", "蓝色车辆", "한국어", "日本", "Ёлка", "naïve", "חתול", "قطة"]
UNASSIGNED = "\u0378\u0379"  # code points that Unicode gives to no character


def drawn(name):
    rows = np.array([[0, 0.9, 50, 80, 200, 180]])
    return draw_detections(np.full((200, 300, 3), 128, np.uint8), rows, [name])


def ink(text):
    """The pixels that `put_text` changes on black, and the box that `text_size` returns."""
    width, height, below = text_size(text, 1.0, 1)
    image = np.zeros((120, 400, 3), np.uint8)
    put_text(image, text, (20, 60), 1.0, (255, 255, 255), 1)
    return np.argwhere(image[..., 0] > 127), (60 - height, 20, 60 + below, 20 + width)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_not_left_to_opencv(name, monkeypatch):
    def only_ascii(image, text, *rest):
        assert text.isascii(), "OpenCV 4 draws question marks"

    monkeypatch.setattr(cv2, "putText", only_ascii)
    pictures = [drawn(other) for other in (name, "?" * len(name), UNASSIGNED)]
    assert is_legible(name)
    assert not (pictures[0] == pictures[1]).all() and not (pictures[0] == pictures[2]).all()


def test_names_can_be_told_apart():
    assert len({drawn(name).tobytes() for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("text", [*NAMES, "cat 0.90"])
def test_text_lies_in_its_box(text):
    pixels, (top, left, bottom, right) = ink(text)
    assert len(pixels) > 30
    # A pixel for smoothed edges.
    assert pixels.min(axis=0)[0] >= top - 1 and pixels.min(axis=0)[1] >= left - 1
    assert pixels.max(axis=0)[0] <= bottom + 1 and pixels.max(axis=0)[1] <= right + 1


def test_a_glyph_is_the_one_that_freetype_draws():
    from cvttf_NotoSansCJK_Regular import get_TTF_path
    from matplotlib.ft2font import FT2Font

    font = FT2Font(get_TTF_path())
    font.set_size(30, 72)
    font.set_text("红", 0)
    font.draw_glyphs_to_bitmap()
    expected = np.argwhere(np.asarray(font.get_image()) > 127)
    pixels, _ = ink("红")
    assert len(pixels) == pytest.approx(len(expected), rel=0.2)
    assert np.abs(np.ptp(pixels, axis=0) - np.ptp(expected, axis=0)).max() <= 2


def test_characters_that_no_font_has_leave_the_class_index():
    assert not is_legible(UNASSIGNED)
    assert (drawn(UNASSIGNED) == drawn("0")).all()
    assert (drawn("two\nlines 红") == drawn("two lines 红")).all()


def test_curves_of_a_run_with_a_chinese_name(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Matplotlib warns of characters that it has no glyph for
        draw_curves([Run("实验一", {1: {"AP": 0.5}}, [])], tmp_path / "curves.png")
    assert cv2.imread(str(tmp_path / "curves.png")) is not None
