"""GridMask against its definition: a grid that repeats, whose squares are removed."""

import numpy as np
import pytest

from ppdet.data.transforms import Decode, GridMask, NormalizeImage, RandomDistort, RandomSelect, StrongAugImage
from ppdet.data.transforms.base import growing
from ppdet.utils.errors import DataError

ALWAYS = {"prob": 1.0, "upper_iter": 0}
MEAN_COLOR = [124, 116, 104]  # 255 * [0.485, 0.456, 0.406]


def removed(seed=0, h=120, w=160, **options):
    """(h, w) booleans: which pixels of a white image a mask removes."""
    image = np.full((h, w, 3), 255, dtype=np.uint8)
    result = GridMask(**{**ALWAYS, **options})({"image": image}, np.random.default_rng(seed))["image"]
    assert result.dtype == np.uint8 and result.shape == image.shape and (image == 255).all()
    gone = (result != 255).any(axis=2)
    assert (result[gone] == MEAN_COLOR).all()
    return gone


def runs(line):
    """Lengths of the runs of true in (N,) booleans that touch neither end."""
    edges = np.flatnonzero(np.diff(np.r_[False, line, False].astype(int)))
    starts, ends = edges[::2], edges[1::2]
    return [int(end - start) for start, end in zip(starts, ends) if start > 0 and end < len(line)]


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.8])
def test_squares_are_removed(ratio):
    """In the paper's words: the kept stripes have the share `ratio` of a unit, and a square of the rest is removed."""
    periods = set()
    for seed in range(20):
        gone = removed(seed, ratio=ratio)
        rows, columns = gone.any(axis=1), gone.any(axis=0)
        assert np.array_equal(gone, rows[:, None] & columns), "squares"
        kept = set(runs(~rows) + runs(~columns))
        lost = set(runs(rows) + runs(columns))
        assert len(kept) <= 1 and len(lost) <= 1, "all of one size"
        if kept and lost:
            period = kept.pop() + lost.pop()
            assert set(runs(~rows)) <= {min(max(int(period * ratio + 0.5), 1), period - 1)}
            periods.add(period)
    assert min(periods) < 25 and max(periods) > 45, "of different sizes"


def test_mode_0_removes_the_stripes():
    for seed in range(10):
        assert np.array_equal(removed(seed, mode=0), ~removed(seed, mode=1))


def test_stripes_of_one_direction():
    for seed in range(10):
        rows, columns = removed(seed, use_w=False), removed(seed, use_h=False)
        assert (rows == rows[:, :1]).all() and (columns == columns[:1]).all()
        assert np.array_equal(removed(seed), rows & columns)


def test_rotation():
    """A rotated grid of stripes is periodic along an oblique line, and its removed share is that of the ratio."""
    straight = [removed(seed, use_w=False, rotate=1) for seed in range(20)]
    turned = [removed(seed, use_w=False, rotate=90) for seed in range(20)]
    assert all((mask == mask[:, :1]).all() for mask in straight)
    assert sum((mask == mask[:, :1]).all() for mask in turned) <= 2
    shares = [removed(seed, h=60, w=60, rotate=360).mean() for seed in range(100)]
    assert 0.2 < np.mean(shares) < 0.3, "a quarter: half of each direction"
    corners = np.mean([removed(seed, h=30, w=100, rotate=360)[:3, :3] for seed in range(200)])
    assert 0.17 < corners < 0.33, "the corners of a long image are reached too"


@pytest.mark.parametrize("seed", range(8))
def test_a_rotated_grid_is_the_grid_of_turned_points(seed):
    """The same random numbers, with points as complex numbers, which a factor of length 1 turns."""
    rng = np.random.default_rng(seed)
    rng.random()
    period = int(rng.integers(2, 60))
    start_y, start_x = rng.integers(period, size=2)
    y, x = np.mgrid[:60, :80]
    points = (x - 39.5 + 1j * (y - 29.5)) * np.exp(-1j * np.deg2rad(rng.integers(90)))
    width = min(max(round(period / 2 + 1e-9), 1), period - 1)
    kept = ((points.imag - start_y) % period < width) | ((points.real - start_x) % period < width)
    assert (removed(seed, h=60, w=80, rotate=90) != kept).mean() > 0.999  # but for rounding at the edges of stripes


def test_removed_pixels_are_zero_after_the_usual_normalization():
    """There the published code applies the mask: multiplied by 0, or with offset by noise from -1 to 1."""
    image = np.full((120, 160, 3), 255, dtype=np.uint8)
    normalize = NormalizeImage(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    gone = removed(3)
    for offset in (False, True):
        masked = GridMask(offset=offset, **ALWAYS)({"image": image}, np.random.default_rng(3))
        values = normalize(masked)["image"][gone]
        half_a_level = 0.5 / 255 / 0.224
        if offset:
            assert values.min() < -0.98 and values.max() > 0.98 and np.abs(values).max() < 1 + half_a_level
            assert np.abs(values - values[:, :1]).max() < 2.1 * half_a_level, "one number for all channels"
            assert abs(values.mean()) < 0.03 and abs(values.std() - 3**-0.5) < 0.02, "uniform"
        else:
            assert np.abs(values).max() <= half_a_level


@pytest.mark.parametrize(
    ("step", "upper", "expected"),
    [(0, 1000, 0.0), (500, 1000, 0.4), (1000, 1000, 0.8), (5000, 1000, 0.8), (0, 0, 0.8), (None, 1000, 0.8)],
)
def test_the_probability_grows_with_the_steps(step, upper, expected):
    mask, rng = GridMask(prob=0.8, upper_iter=upper), np.random.default_rng(0)
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    sample = {"image": image} if step is None else {"image": image, "curr_iter": step}
    changed = [mask(dict(sample), rng)["image"] is not image for _ in range(800)]
    assert np.mean(changed) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("size", [(1, 1), (2, 50), (3, 3), (500, 3)])
def test_only_pixels_change(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    image.setflags(write=False)
    boxes = np.array([[0, 0, 1, 1]], dtype=np.float32)
    strong = StrongAugImage(transforms=[GridMask(rotate=360, **ALWAYS)])
    assert strong.keeps_uint8 and strong.pixels_only, "it may be a strong view"
    for seed in range(10):
        results = [strong({"image": image, "gt_bbox": boxes}, np.random.default_rng(seed)) for _ in range(2)]
        assert results[0]["gt_bbox"] is boxes and results[0]["image"].shape == image.shape
        assert np.array_equal(results[0]["image"], results[1]["image"]), "the seed decides"


def test_after_normalization_it_is_an_error():
    """PaddleDetection's GridMask takes the image after Permute."""
    normalized = NormalizeImage()({"image": np.zeros((8, 8, 3), dtype=np.uint8)})
    with pytest.raises(DataError, match="GridMask got a float32 image: list it before NormalizeImage"):
        GridMask(**ALWAYS)(normalized, np.random.default_rng(0))


def test_it_is_found_within_other_transforms():
    assert growing([Decode(), RandomDistort(), GridMask(upper_iter=0)]) == {}
    for grid in (
        GridMask(upper_iter=7),
        StrongAugImage(transforms=[RandomDistort(), GridMask(upper_iter=7)]),
        RandomSelect(transforms1=[], transforms2=[GridMask(upper_iter=7)]),
    ):
        assert growing([Decode(), grid]) == {"GridMask": 7}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_h": False, "use_w": False}, "use_h and use_w are both false"),
        ({"rotate": 0}, r"GridMask\.rotate is 0"),
        ({"ratio": 1.0}, r"GridMask\.ratio is 1.0"),
        ({"ratio": 0.0}, r"GridMask\.ratio is 0.0"),
        ({"mode": 2}, r"GridMask\.mode is 2"),
        ({"prob": 1.5}, r"GridMask\.prob is 1.5"),
        ({"upper_iter": -1}, r"GridMask\.upper_iter is -1"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ValueError, match=message):
        GridMask(**options)
