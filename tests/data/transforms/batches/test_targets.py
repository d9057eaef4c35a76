"""Gt2FCOSTarget against a plain reading of the papers' definition, all locations x all boxes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdet.data.transforms import Gt2FCOSTarget

STRIDES = (8, 16, 32, 64, 128)
BOUNDS = ((-1, 64), (64, 128), (128, 256), (256, 512), (512, np.inf))


LEVELS = tuple(zip(STRIDES, BOUNDS))


def plain_targets(
    boxes,
    classes,
    height,
    width,
    radius=1.5,
    shift=0.5,
    in_strides=True,
    inclusive=False,
    least=0,
    even=False,
    levels=LEVELS,
):
    """Labels, distances and centerness, location by location."""
    labels, distances, centerness = [], [], []
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    for stride, (low, high) in levels:
        rows, columns = -(-height // stride), -(-width // stride)
        step_y, step_x = (height // rows, width // columns) if even else (stride, stride)
        for i in range(rows):
            for j in range(columns):
                point = np.array([(j + shift) * step_x, (i + shift) * step_y], dtype=np.float32)
                sides = np.concatenate([point - boxes[:, :2], boxes[:, 2:] - point], axis=1)
                longest = sides.max(axis=1)
                good = (sides > 0).all(axis=1) & (longest > low) & (longest < high)
                if inclusive:
                    good |= (sides > 0).all(axis=1) & ((longest == low) | (longest == high))
                good &= ~(areas < least)
                if radius > 0:
                    region_low = np.maximum(boxes[:, :2], centers - np.float32(radius * stride))
                    region_high = np.minimum(boxes[:, 2:], centers + np.float32(radius * stride))
                    good &= ((point > region_low) & (point < region_high)).all(axis=1)
                if not good.any():
                    labels.append(0), distances.append(np.zeros(4)), centerness.append(0)
                    continue
                best = min(np.flatnonzero(good), key=lambda k: (areas[k], k))
                left, top, right, bottom = sides[best].astype(float)
                labels.append(classes[best] + 1)
                distances.append(sides[best] / (stride if in_strides else 1))
                centerness.append(np.sqrt(min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom)))
    return np.array(labels), np.array(distances), np.array(centerness)


def check(boxes, height, width, radius=1.5, shift=0.5, in_strides=True, inclusive=False, least=0.0, even=False):
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    classes = np.arange(len(boxes)) % 80
    assigner = Gt2FCOSTarget(
        center_sampling_radius=radius,
        num_shift=shift,
        norm_reg_targets=in_strides,
        inclusive_bounds=inclusive,
        min_box_area=least,
        even_locations=even,
    )
    labels, distances, centerness = assigner.assign(boxes, classes[:, None], height, width)
    wanted = (
        plain_targets(boxes, classes, height, width, radius, shift, in_strides, inclusive, least, even)
        if len(boxes)
        else [np.zeros_like(labels), np.zeros_like(distances), np.zeros_like(centerness)]
    )
    assert (labels.dtype, distances.dtype, centerness.dtype) == (np.int32, np.float32, np.float32)
    assert np.array_equal(labels, wanted[0])
    assert np.allclose(distances, wanted[1], rtol=1e-5, atol=1e-4)
    assert np.allclose(centerness, wanted[2], atol=1e-4)


# Quarters of pixels: many locations lie exactly on sides, bounds and center regions, many areas are equal.
coordinate = st.integers(-200, 1200).map(lambda n: n / 4)
free_box = st.tuples(coordinate, coordinate, st.integers(0, 1200), st.integers(0, 1200)).map(
    lambda box: (box[0], box[1], box[0] + box[2] / 4, box[1] + box[3] / 4)
)
grid_box = st.tuples(*[st.integers(0, 20)] * 4).map(
    lambda box: (box[0] * 8, box[1] * 8, (box[0] + box[2]) * 8, (box[1] + box[3]) * 8)
)


@settings(max_examples=60, deadline=None)
@given(
    boxes=st.lists(st.one_of(free_box, grid_box), max_size=8),
    height=st.sampled_from([7, 64, 100, 256]),
    width=st.sampled_from([1, 96, 256]),
    radius=st.sampled_from([1.5, 0, 1, 2.25]),
    shift=st.sampled_from([0.5, 0.0]),
    in_strides=st.booleans(),
    inclusive=st.booleans(),
    least=st.sampled_from([0.0, 64.0, 1000.5]),
    even=st.booleans(),
)
def test_equals_the_definition(boxes, height, width, radius, shift, in_strides, inclusive, least, even):
    check(boxes, height, width, radius, shift, in_strides, inclusive, least, even)


def test_even_locations():
    """800 pixels have 7 rows of stride 128, which torchvision lays 800 // 7 = 114 apart; the corner of the fourth
    location is at 342, where this box is, and at 384 otherwise."""
    boxes = np.array([[-358, -358, 1042, 1042]], np.float32)
    for even, place in ((False, [384, 384]), (True, [342, 342])):
        assigner = Gt2FCOSTarget(center_sampling_radius=0.4, num_shift=0.0, norm_reg_targets=False, even_locations=even)
        labels, distances, _ = assigner.assign(boxes, np.zeros((1, 1)), 800, 800)
        (at,) = labels.nonzero()[0]
        assert at == len(labels) - 49 + 3 * 7 + 3
        assert (distances[at, :2] + boxes[0, :2]).tolist() == place


def test_a_box_on_a_bound_belongs_to_two_levels_or_none():
    # The largest distance is 64 from (4, 12) in the first box, at stride 8; from (8, 56) in the other, at stride 16.
    boxes = np.array([[0, 0, 68, 20], [0, 40, 72, 100]], dtype=np.float32)
    stride = np.repeat(STRIDES, [16 * 16, 8 * 8, 4 * 4, 2 * 2, 1])
    taken = []
    for inclusive in (False, True):
        assigner = Gt2FCOSTarget(center_sampling_radius=0, inclusive_bounds=inclusive, norm_reg_targets=False)
        labels, distances, _ = assigner.assign(boxes, np.zeros((2, 1)), 128, 128)
        taken.append(set(stride[(labels > 0) & (distances.max(axis=1) == 64)].tolist()))
    assert taken == [set(), {8, 16}]


def test_small_boxes_are_ignored():
    boxes = np.array([[0, 0, 60, 60], [24, 24, 32, 29], [40, 40, 48, 44.5]], dtype=np.float32)  # 3600, 40 and 36
    classes = np.array([[0], [1], [2]])
    labels = [
        Gt2FCOSTarget(center_sampling_radius=0, min_box_area=least).assign(boxes, classes, 64, 64)[0]
        for least in (0, 36, 36.5, 3601)
    ]
    assert [set(one.tolist()) for one in labels] == [{0, 1, 2, 3}, {0, 1, 2, 3}, {0, 1, 2}, {0}]
    # The location of the ignored box takes the one around it.
    assert (labels[2][labels[0] == 3] == 1).all() and (labels[0] == 3).sum() == 1


def test_awkward_boxes():
    check([], 64, 64)
    check([[20, 20, 20, 20], [20, 10, 20, 40]], 64, 64)
    check([[-100, -100, -50, -50], [500, 500, 600, 600], [-50, -50, 300, 300]], 64, 96)
    check([[0, 0, 2000, 10], [900, 2, 1100, 8], [0, 0, 2000, 10]], 32, 2048)
    check([[0, 0, 64, 64], [0, 0, 128, 128]] * 2, 128, 128)


def test_a_level_of_stride_4():
    """Its locations lie at 2, 6, 10, …; it takes boxes of up to some 64 pixels, whose largest distance is below 32."""
    rng = np.random.default_rng(0)
    corners, sizes = rng.uniform(0, 200, (30, 2)), rng.uniform(2, 150, (30, 2))
    boxes, classes = np.concatenate([corners, corners + sizes], axis=1).astype(np.float32), np.arange(30)
    target = Gt2FCOSTarget(object_sizes_boundary=[32, 64, 128, 256, 512], downsample_ratios=[4, *STRIDES])
    found = target.assign(boxes, classes[:, None], 256, 256)
    levels = [(4, (-1, 32)), (8, (32, 64)), *zip(STRIDES[1:], BOUNDS[1:])]
    for ours, expected in zip(found, plain_targets(boxes, classes, 256, 256, levels=levels)):
        assert np.allclose(ours, expected, rtol=1e-5, atol=1e-4)
    assert 0 < (found[0][: 64 * 64] > 0).sum() < (found[0] > 0).sum()

    # The center of this box, (8, 8), lies in the middle of four cells of stride 4, each location 2 pixels away.
    labels, distances, centerness = target.assign(np.array([[4, 2, 12, 14]], np.float32), np.zeros((1, 1)), 64, 64)
    (at,) = np.nonzero(labels[: 16 * 16] > 0)
    assert [divmod(place, 16) for place in at.tolist()] == [(r, c) for r in (0, 1, 2, 3) for c in (1, 2) if r in (1, 2)]
    assert distances[at[0]].tolist() == [0.5, 1.0, 1.5, 2.0]  # 2, 4, 6 and 8 pixels
    assert centerness[at[0]] == pytest.approx(np.sqrt(2 / 6 * 4 / 8))


def test_first_of_two_equal_boxes_wins():
    labels, _, _ = Gt2FCOSTarget().assign(np.array([[8, 8, 48, 48]] * 2), np.array([[5], [6]]), 64, 64)
    assert set(labels.tolist()) == {0, 6}


def test_small_box_wins_over_large():
    boxes = np.array([[0, 0, 60, 60], [24, 24, 40, 40]], dtype=np.float32)
    labels, _, _ = Gt2FCOSTarget(center_sampling_radius=0).assign(boxes, np.array([[0], [1]]), 64, 64)
    finest = labels[:64].reshape(8, 8)
    assert (finest[3:5, 3:5] == 2).all() and finest[0, 0] == 1 and (finest == 2).sum() == 4


def test_float32_decides_at_the_edges():
    # 0.1 has no exact binary form: location 4.0 against sides that float32 rounds to either side of it.
    check([[3.9999999, 0, 20, 20], [4.0000002, 0, 20, 20], [0.1, 0.1, 64.1, 64.1]], 64, 64)


def test_sample_gets_the_padded_images_locations():
    sample = {
        "image": np.zeros((3, 256, 384), np.float32),
        "gt_bbox": np.zeros((0, 4), np.float32),
        "gt_class": np.zeros((0, 1), np.int32),
    }
    (sample,) = Gt2FCOSTarget()([sample])
    locations = 32 * 48 + 16 * 24 + 8 * 12 + 4 * 6 + 2 * 3
    assert sample["target_labels"].shape == sample["target_centerness"].shape == (locations,)
    assert sample["target_distances"].shape == (locations, 4)


def test_wrong_number_of_bounds():
    with pytest.raises(ValueError, match="one bound less") as error:
        Gt2FCOSTarget(object_sizes_boundary=[64, 128])
    for setting in ("ResNet.return_idx", "FPN.extra_stage", "FCOSHead.fpn_stride", "Gt2FCOSTarget.downsample_ratios"):
        assert setting in str(error.value)


def test_last_pixels():
    """An image of half its size: a box of 40 pixels ends at 40 / 2, and its last pixel, the 39th, at 39 / 2."""
    batch = [{"image": np.zeros((3, 64, 64), np.float32), "scale_factor": np.array([0.5, 0.5], np.float32)}]
    batch[0].update(gt_bbox=np.array([[0, 0, 20, 20]], np.float32), gt_class=np.zeros((1, 1)))
    for last_pixel, end in ((False, 20), (True, 19.5)):
        target = Gt2FCOSTarget(norm_reg_targets=False, center_sampling_radius=0, last_pixel=last_pixel)
        sample = target([dict(batch[0])])[0]
        assert sample["target_distances"][0].tolist() == [4, 4, end - 4, end - 4]
        assert sample["gt_bbox"][0].tolist() == [0, 0, 20, 20]
