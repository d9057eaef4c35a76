import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transform_samples import assert_boxes_follow_pixels, marked_sample

from ppdet.data.transforms import Resize


@pytest.mark.parametrize(
    ("size", "target", "expected", "factor"),
    [
        ((480, 640), [800, 1333], (800, 1067), (800 / 480, 1067 / 640)),
        ((480, 640), [1333, 800], (800, 1067), (800 / 480, 1067 / 640)),
        ((480, 640), 320, (240, 320), (0.5, 0.5)),
        ((640, 480), [256, 416], (341, 256), (341 / 640, 256 / 480)),
        ((10, 2000), [800, 1333], (7, 1333), (0.7, 1333 / 2000)),
        ((2000, 10), [800, 1333], (1333, 7), (1333 / 2000, 0.7)),
        ((1, 5000), [800, 1333], (1, 1333), (1.0, 1333 / 5000)),
        ((1, 1), [800, 1333], (800, 800), (800.0, 800.0)),
    ],
)
def test_resize_sizes(size, target, expected, factor):
    sample = Resize(target_size=target)({"image": np.zeros((*size, 3), np.uint8)})
    assert sample["image"].shape == (*expected, 3)
    assert sample["im_shape"].tolist() == list(expected)
    assert np.allclose(sample["scale_factor"], factor)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 1500), st.integers(1, 1500), st.integers(1, 300), st.integers(1, 300))
def test_resize_reaches_one_limit_and_passes_none(h, w, one, other):
    sample = Resize(target_size=[one, other])({"image": np.zeros((h, w, 3), np.uint8)})
    new_h, new_w = sample["image"].shape[:2]
    short, long = sorted([one, other])
    assert min(new_h, new_w) <= short and max(new_h, new_w) <= long
    assert min(new_h, new_w) == short or max(new_h, new_w) == long


@pytest.mark.parametrize("interp", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("target", [[96, 128], [24, 32], [50, 40]])
def test_resize_moves_boxes_with_pixels(target, interp):
    sample = Resize(target_size=target, keep_ratio=False, interp=interp)(marked_sample())
    assert sample["image"].shape[:2] == tuple(target) and sample["image"].dtype == np.uint8
    assert_boxes_follow_pixels(sample)
    assert np.allclose(sample["scale_factor"], [target[0] / 48, target[1] / 64])


def test_two_resizes_multiply_their_factors():
    sample = Resize(target_size=24)(Resize(target_size=[48, 32], keep_ratio=False)(marked_sample()))
    assert np.allclose(sample["scale_factor"], [24 / 48, 16 / 64])


def test_resize_without_boxes():
    sample = marked_sample()
    sample["gt_bbox"] = np.zeros((0, 4), np.float32)
    assert Resize(target_size=10)(sample)["gt_bbox"].shape == (0, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Resize(target_size=[1, 2, 3]), "one or two"),
        (lambda: Resize(target_size=0), "positive"),
        (lambda: Resize(target_size=8, interp=9), "bilinear"),
    ],
)
def test_wrong_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()
