"""Mosaic: boxes go where their pixels go, and what is lost is dropped."""

import cv2
import numpy as np
import pytest
from painted import BACKGROUND, frozen, painted_sample, painted_samples, seen_box

from ppdet.data.transforms import Mosaic
from ppdet.data.transforms.mixing.joining import put_image
from ppdet.utils.errors import DataError

STRAIGHT = {"degrees": [0, 0], "shear": [0, 0], "enable_mixup": False}
PLAIN = {**STRAIGHT, "translate": [0, 0], "scale": [1, 1]}
SEEDS = range(12)


def mosaic(seed, samples=None, **options):
    rng = np.random.default_rng(seed)
    options = {"input_dim": [96, 120], **options}
    return Mosaic(**options)(frozen(painted_samples(seed, 5)) if samples is None else samples, rng)


def check_fields(result, height=96, width=120):
    image, boxes = result["image"], result["gt_bbox"]
    assert image.shape == (height, width, 3) and image.dtype == np.uint8
    assert result["im_shape"].tolist() == [height, width] and result["im_shape"].dtype == np.float32
    assert boxes.dtype == np.float32 and boxes.shape == (len(result["gt_class"]), 4)
    assert result["gt_class"].shape == result["is_crowd"].shape == (len(boxes), 1)
    assert result["gt_class"].dtype == result["is_crowd"].dtype == np.int32
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (boxes >= 0).all() and (boxes <= [width, height, width, height]).all()
    # The second image's second rectangle, of class 4, is a crowd.
    assert result["is_crowd"][:, 0].tolist() == (result["gt_class"][:, 0] == 4).astype(int).tolist()
    regular = boxes[result["is_crowd"][:, 0] == 0]
    assert ((regular[:, 2:] - regular[:, :2]) >= 2).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_each_box_bounds_the_pixels_of_its_color(seed):
    result = mosaic(seed, scale=[0.5, 1.8], **STRAIGHT)
    check_fields(result)
    assert len(set(result["gt_class"][:, 0].tolist())) == len(result["gt_class"])
    for box, (label,) in zip(result["gt_bbox"], result["gt_class"]):
        seen = seen_box(result["image"], label)
        if seen is None:
            assert min(box[2:] - box[:2]) < 4  # so small that its color is blended with what surrounds it
        else:
            np.testing.assert_allclose(seen[0], box, atol=2)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_seen_has_a_box_and_nothing_else_has(seed):
    result = mosaic(seed, scale=[0.5, 1.8], **STRAIGHT)
    for label in range(12):
        seen = seen_box(result["image"], label)
        has_box = label in result["gt_class"]
        if seen is None:
            continue
        x1, y1, x2, y2 = seen[0]
        touches = x1 == 0 or y1 == 0 or x2 == 120 or y2 == 96
        # A rectangle that is not cut off is complete. One that is cut off may have lost nine tenths.
        assert has_box or touches or min(x2 - x1, y2 - y1) < 60, label


@pytest.mark.parametrize("seed", SEEDS)
def test_with_rotation_and_shear_each_box_contains_the_pixels_of_its_color(seed):
    result = mosaic(seed, degrees=[-25, 25], shear=[-8, 8], scale=[0.6, 1.4], enable_mixup=False)
    check_fields(result)
    for box, (label,) in zip(result["gt_bbox"], result["gt_class"]):
        seen = seen_box(result["image"], label)
        if seen is not None:
            assert (seen[0][:2] >= box[:2] - 1.5).all() and (seen[0][2:] <= box[2:] + 1.5).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_fifth_image_is_blended_in_half_and_half_with_its_boxes(seed):
    def samples():
        fifth = painted_sample(np.random.default_rng(seed), 12, size=(60, 80), count=1)
        fifth["image"] = np.where(fifth["image"] == BACKGROUND, 0, 250).min(axis=-1, keepdims=True).repeat(3, axis=-1)
        fifth["image"] = fifth["image"].astype(np.uint8)
        return frozen([*painted_samples(seed, 4), fifth])

    options = {**STRAIGHT, "scale": [0.6, 1.4]}
    without = mosaic(seed, samples(), **options)
    result = mosaic(seed, samples(), **{**options, "enable_mixup": True, "mixup_scale": [0.7, 1.4]})
    check_fields(result)
    count = len(without["gt_bbox"])
    np.testing.assert_array_equal(result["gt_bbox"][:count], without["gt_bbox"])
    # Half of the mosaic taken away leaves half of the other image.
    ys, xs = np.nonzero(2 * result["image"][..., 0].astype(int) - without["image"][..., 0] > 125)
    assert result["gt_class"][count:, 0].tolist() == [12] * bool(len(ys))
    if len(ys):
        seen = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        np.testing.assert_allclose(seen, result["gt_bbox"][count], atol=1)


def test_a_mosaic_without_boxes_gets_no_fifth_image_as_in_paddledetection():
    samples = [painted_sample(np.random.default_rng(0), 0, size=(60, 60), count=0) for _ in range(4)]
    samples.append(painted_sample(np.random.default_rng(0), 0, size=(60, 60), count=2))
    result = mosaic(0, frozen(samples))
    assert result["gt_bbox"].shape == (0, 4) and result["gt_class"].shape == (0, 1)
    assert set(np.unique(result["image"])) <= set(range(60, 115))  # background, gray, and blends of both


def test_a_plain_mosaic_is_the_upper_left_quarter_of_four_images_around_a_point():
    """Without movement, the result is what a canvas of twice the size shows there, pixel for pixel."""
    height, width = 40, 48
    values = (10, 80, 150, 220)
    samples = [
        {**painted_sample(np.random.default_rng(0), 0, size=(height, width), count=0), "image": filled}
        for filled in (np.full((height, width, 3), value, dtype=np.uint8) for value in values)
    ]
    for seed in range(6):
        result = mosaic(seed, [dict(sample) for sample in samples], input_dim=[height, width], **PLAIN)["image"]
        (ys, xs), corners = np.nonzero(result[..., 0] == values[0]), []
        x, y = xs.max() + 1, ys.max() + 1
        assert width // 2 <= x <= width and height // 2 <= y <= height
        canvas = np.full((3 * height, 3 * width, 3), 114, dtype=np.uint8)
        for value, right, low in zip(values, (0, 1, 0, 1), (0, 0, 1, 1)):
            left, top = width + x - width * (1 - right), height + y - height * (1 - low)
            corners.append((left, top))
            canvas[top : top + height, left : left + width] = value
        if x < width and y < height:  # else the point may be further away
            np.testing.assert_array_equal(result, canvas[height : 2 * height, width : 2 * width])


def test_a_box_goes_by_what_is_left_of_the_whole_of_it():
    """At the left edge of the upper left image, which the result cuts off: a tenth has to be left, and 2 pixels."""
    shares = []
    for seed in range(60):
        samples = [painted_sample(np.random.default_rng(0), 0, size=(96, 120), count=0) for _ in range(4)]
        for sample, value in zip(samples, (10, 200, 200, 200)):
            sample["image"] = np.full((96, 120, 3), value, dtype=np.uint8)
        box = {"gt_bbox": np.array([[0, 30, 40, 60]], np.float32), "gt_class": np.zeros((1, 1), np.int32)}
        samples[0] |= {**box, "is_crowd": np.zeros((1, 1), np.int32)}
        result = mosaic(seed, frozen(samples), **PLAIN)
        ys, xs = np.nonzero(result["image"][..., 0] == 10)
        left, top = 120 - xs.max() - 1, 96 - ys.max() - 1  # what is cut off, if this corner is in the result
        width, height = max(0, 40 - left), max(0, 60 - max(30, top))
        if left and top:
            shares.append(width * height / 1200)
            assert len(result["gt_bbox"]) == (shares[-1] >= 0.1 and min(width, height) >= 2), seed
    assert any(0 < share < 0.1 for share in shares) and max(shares) > 0.5


def test_pixels_are_averaged_where_an_image_becomes_smaller():
    """Of four columns one is white. An interpolation would see the two columns in the middle."""
    columns = np.tile(np.array([255, 0, 0, 0], np.uint8)[:, None], (8, 4, 3))
    canvas = np.zeros((2, 4, 3), np.uint8)
    put_image(canvas, {"image": columns}, (2, 4), (0, 0), (0, 0, 4, 2))
    assert (canvas == 64).all()


def test_translate_is_in_shares_of_width_and_height():
    for seed in range(3):
        still, moved = (mosaic(seed, **{**PLAIN, "translate": [share, share]})["image"] for share in (0, 0.25))
        np.testing.assert_array_equal(moved[24:, 30:], still[:-24, :-30])


def test_images_that_are_left_out_would_not_be_seen(monkeypatch):
    def results():
        return [mosaic(seed, degrees=[-25, 25], scale=[0.5, 2.0], enable_mixup=False) for seed in range(40)]

    found = results()
    monkeypatch.setattr("ppdet.data.transforms.mixing.mosaic._overlap", lambda area, box: True)
    for one, whole in zip(found, results()):
        np.testing.assert_array_equal(one["image"], whole["image"])
        np.testing.assert_array_equal(one["gt_bbox"], whole["gt_bbox"])


def test_images_that_are_not_seen_are_not_asked_for():
    class Recorded(list):
        def __init__(self, samples):
            super().__init__(samples)
            self.used = set()

        def __getitem__(self, index):
            self.used.add(index)
            return super().__getitem__(index)

    counts = {}
    for scale in (0.5, 2.0):
        used = []
        for seed in range(8):
            samples = Recorded(painted_samples(seed, 4))
            result = mosaic(seed, samples, **{**STRAIGHT, "scale": [scale, scale]})
            used.append(set(samples.used))
            # What was not asked for is not seen: its colors are nowhere.
            for number in {1, 2, 3} - used[-1]:
                for label in samples[number]["gt_class"][:, 0]:
                    assert seen_box(result["image"], label) is None
        counts[scale] = np.mean([len(one) for one in used])
    assert counts[0.5] == 4 and counts[2.0] < 2


def test_a_box_of_which_less_than_a_tenth_is_left_is_dropped_and_a_crowd_is_not():
    def boxes(crowd):
        sample = painted_sample(np.random.default_rng(0), 0, size=(100, 100), count=0)
        # Without movement, the upper left image ends at the point, and its left part is cut off.
        rows = [[0, y, 100, y + 8] for y in range(0, 96, 8)]
        sample["gt_bbox"] = np.array(rows, dtype=np.float32)
        sample["gt_class"] = np.zeros((len(rows), 1), dtype=np.int32)
        sample["is_crowd"] = np.full((len(rows), 1), crowd, dtype=np.int32)
        empty = [painted_sample(np.random.default_rng(0), 0, size=(100, 100), count=0) for _ in range(3)]
        options = {**PLAIN, "input_dim": 100, "translate": [-0.45, -0.45]}
        return [mosaic(seed, [{**sample}, *empty], **options)["gt_bbox"] for seed in range(30)]

    widths = [np.unique(one[:, 2] - one[:, 0]) for one in boxes(crowd=0) if len(one)]
    assert all((one >= 10).all() for one in widths) and len(widths) < 30
    crowds = [np.unique(one[:, 2] - one[:, 0]) for one in boxes(crowd=1) if len(one)]
    assert min(one.min() for one in crowds) < 10


def test_without_a_mosaic_the_image_stays_as_it_is():
    samples = frozen(painted_samples(1, 5))
    image = samples[0]["image"]
    assert mosaic(3, samples, prob=0.0)["image"] is image
    outcomes = {mosaic(seed, prob=0.5)["image"].shape == (96, 120, 3) for seed in range(20)}
    assert outcomes == {True, False}


def test_images_without_annotations_are_joined_too():
    samples = painted_samples(0, 5)
    for sample in samples:
        for field in ("gt_bbox", "gt_class", "is_crowd"):
            del sample[field]
    result = mosaic(0, frozen(samples))
    assert result["image"].shape == (96, 120, 3) and "gt_bbox" not in result


def test_size_follows_input_dim_then_input_size_then_640():
    assert (Mosaic().height, Mosaic().width) == (640, 640)
    assert (Mosaic(input_size=[320, 427]).height, Mosaic(input_size=[320, 427]).width) == (320, 427)
    assert (Mosaic(input_size=[320, 427], input_dim=100).height) == 100


def test_number_of_images():
    assert Mosaic().further_images == 4
    assert Mosaic(enable_mixup=False).further_images == Mosaic(mixup_prob=0.0).further_images == 3


def test_the_scale_of_the_own_image_is_told():
    samples = painted_samples(0, 5)
    height, width = samples[0]["image"].shape[:2]
    result = mosaic(0, samples, **{**STRAIGHT, "scale": [0.5, 0.5]})
    np.testing.assert_allclose(result["scale_factor"], [0.5 * min(96 / height, 120 / width)] * 2, rtol=1e-6)


def test_one_extreme_image_does_not_disturb_the_others():
    samples = painted_samples(0, 5)
    long = cv2.resize(samples[1]["image"], (3000, 2))
    samples[1] = {**samples[1], "image": long, "gt_bbox": np.array([[0, 0, 3000, 2]] * 3, dtype=np.float32)}
    for scale in (0.01, 20.0):
        result = mosaic(0, frozen([dict(sample) for sample in samples]), scale=[scale, scale])
        assert result["image"].shape == (96, 120, 3)
        assert (result["gt_bbox"][:, 2:] > result["gt_bbox"][:, :2]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prob": 1.5}, "Mosaic.prob is 1.5"),
        ({"mixup_prob": -1}, "Mosaic.mixup_prob is -1"),
        ({"input_dim": [0, 5]}, r"Mosaic.input_dim is \[0, 5\]"),
        ({"scale": [0, 1]}, r"Mosaic.scale is \[0, 1\]"),
        ({"scale": [1, 100]}, r"Mosaic.scale is \[1, 100\]"),
        ({"mixup_scale": [2, 1]}, r"Mosaic.mixup_scale is \[2, 1\]"),
        ({"degrees": [10, -10]}, r"Mosaic.degrees is \[10, -10\], expected \[low, high\] from -360 to 360"),
        ({"translate": [0, 3]}, r"Mosaic.translate is \[0, 3\]"),
        ({"shear": [-90, 90]}, r"Mosaic.shear is \[-90, 90\]"),
        ({"shear": [1]}, r"Mosaic.shear is \[1\]"),
        ({"input_dim": 10_000}, "Mosaic: .* is 20000 x 20000; it must be at most"),
        ({"input_dim": 1000, "mixup_scale": [1, 20]}, "Mosaic: .* is 20000 x 20000; it must be at most"),
    ],
)
def test_wrong_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        Mosaic(**options)


def test_it_comes_before_normalization():
    samples = painted_samples(0, 5)
    samples[0]["image"] = samples[0]["image"].astype(np.float32)
    with pytest.raises(DataError, match="Mosaic got a float32 image: list it before NormalizeImage"):
        mosaic(0, samples)
