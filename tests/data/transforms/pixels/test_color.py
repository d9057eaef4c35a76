import colorsys

import numpy as np
import pytest

from ppdet.data.transforms import NormalizeImage, Permute, RandomDistort

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
OFF = (0, 0, 0.0)


def noise(h=30, w=40, low=0, high=256):
    return np.random.default_rng(0).integers(low, high, (h, w, 3), dtype=np.uint8)


@pytest.mark.parametrize("is_scale", [True, False])
@pytest.mark.parametrize("norm_type", ["mean_std", "none"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_normalize(is_scale, norm_type, dtype):
    image = noise().astype(dtype)
    normalize = NormalizeImage(mean=MEAN, std=STD, is_scale=is_scale, norm_type=norm_type)
    result = normalize({"image": image.copy()})["image"]
    expected = image.astype(np.float64) / (255 if is_scale else 1)
    if norm_type == "mean_std":
        expected = (expected - MEAN) / STD
    assert result.dtype == np.float32 and result.shape == (30, 40, 3)
    assert np.allclose(result, expected, rtol=1e-6, atol=1e-6)


CAFFE = {"mean": [102.9801, 115.9465, 122.7717], "std": [1.0, 1.0, 1.0], "is_scale": False}  # blue, green, red


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("options", [CAFFE, {"mean": [0.4, 0.5, 0.6], "std": [0.1, 0.2, 0.3]}, {"norm_type": "none"}])
def test_bgr_is_rgb_with_channels_reversed(dtype, options):
    image = noise().astype(dtype)
    before = image.copy()
    bgr = NormalizeImage(channel_order="bgr", **options)({"image": image})["image"]
    assert np.array_equal(image, before)
    reverse = {name: value[::-1] if name in ("mean", "std") else value for name, value in options.items()}
    assert np.array_equal(bgr, NormalizeImage(**reverse)({"image": image})["image"][..., ::-1])
    assert np.array_equal(bgr, NormalizeImage(**options)({"image": image[..., ::-1].copy()})["image"])
    if options is CAFFE:
        assert np.allclose(bgr[3, 4], image[3, 4, ::-1].astype(np.float64) - CAFFE["mean"], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("channel_order", ["rgb", "bgr"])
def test_permute_costs_nothing_after_normalize(channel_order):
    sample = Permute()(NormalizeImage(channel_order=channel_order)({"image": noise()}))
    assert sample["image"].shape == (3, 30, 40) and sample["image"].flags.c_contiguous


def test_wrong_std():
    with pytest.raises(ValueError, match=r"^NormalizeImage\.std is 0\.0; it must be at least 1e-06"):
        NormalizeImage(std=[0.2, 0.0, 0.2])
    with pytest.raises(ValueError, match=r"^NormalizeImage\.mean is \[0\.2, 0\.1\], expected three numbers$"):
        NormalizeImage(mean=[0.2, 0.1])


def distort(image, seed=0, **options):
    off = {"hue": OFF, "saturation": OFF, "contrast": OFF, "brightness": OFF}
    sample = RandomDistort(**{**off, **options})({"image": image}, np.random.default_rng(seed))
    assert sample["image"].dtype == np.uint8 and sample["image"].shape == image.shape
    return sample["image"].astype(float)


def gray(image):
    return image @ [0.299, 0.587, 0.114]


def colorful():
    """Pixels whose luma (BT.601) is on average far from the mean of their channels, with room for changes."""
    image = noise(low=0, high=24) + np.array([90, 60, 120], np.uint8)
    assert gray(image).mean() < image.mean() - 8
    return image


def change(image, name, value):
    """One distortion by its definition, on floats (H, W, 3) of RGB."""
    if name == "brightness":
        return image * value
    if name == "contrast":
        return value * image + (1 - value) * gray(image).mean()
    if name == "saturation":
        return value * image + (1 - value) * gray(image)[..., None]
    basis = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])  # RGB to YIQ
    cosine, sine = np.cos(np.deg2rad(value)), np.sin(np.deg2rad(value))
    turn = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    return image @ (np.linalg.inv(basis) @ turn @ basis).T


VALUES = {"brightness": 0.8, "contrast": 1.4, "saturation": 0.6, "hue": 12.0}


@pytest.mark.parametrize("name", VALUES)
def test_one_distortion_of_colors_with_another_luma_than_mean(name):
    value = VALUES[name]
    image = colorful()
    assert np.abs(distort(image, **{name: (value, value, 1.0)}) - change(image, name, value)).max() <= 0.7


def in_turn(image, names):
    image = image.astype(float)
    for name in names:
        image = change(image, name, VALUES[name])
    return image


@pytest.mark.parametrize("seed", range(8))
def test_distortions_after_each_other(seed):
    """Each applies to what the one before made: contrast to the mean of a darker image, say. Pixels are rounded once.

    Without saturated pixels the four may come in any order.
    """
    image = colorful()
    result = distort(image, seed, **{name: (value, value, 1.0) for name, value in VALUES.items()})
    assert np.abs(result - in_turn(image, VALUES)).max() <= 0.8
    two = distort(image, seed, brightness=(0.5, 0.5, 1.0), contrast=(2.5, 2.5, 1.0))
    assert np.abs(two - change(image * 0.5, "contrast", 2.5)).max() <= 0.8


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_fixed_orders_and_their_first(count):
    image, found = colorful(), set()
    orders = [tuple(VALUES), ("brightness", "saturation", "hue", "contrast")]
    for seed in range(20):
        options = {name: (value, value, 1.0) for name, value in VALUES.items()}
        result = distort(image, seed, random_apply=False, count=count, **options)
        found.update(names[:count] for names in orders if np.abs(result - in_turn(image, names[:count])).max() <= 0.8)
    assert found == {names[:count] for names in orders}


def test_each_distortion_does_what_its_name_says():
    image = noise(low=60, high=120)
    assert np.abs(distort(image, brightness=(2, 2, 1.0)) - image * 2.0).max() <= 1
    assert np.abs(distort(image, saturation=(0, 0, 1.0)) - gray(image)[..., None]).max() <= 1
    assert np.abs(distort(image, contrast=(0, 0, 1.0)) - gray(image).mean()).max() <= 1
    assert np.abs(distort(image, contrast=(1, 1, 1.0)) - image).max() <= 1
    assert np.abs(distort(image, hue=(360, 360, 1.0)) - image).max() <= 1
    turned = distort(image, hue=(18, 18, 1.0))
    assert np.abs(gray(turned) - gray(image)).max() <= 1.5, "hue keeps the luma"


def test_hue_turns_red_towards_its_neighbors_and_back():
    red = np.full((2, 2, 3), (180, 80, 80), dtype=np.uint8)
    hues = [colorsys.rgb_to_hsv(*distort(red, hue=(angle, angle, 1.0))[0, 0] / 255)[0] for angle in (-18, 18)]
    steps = sorted((hue + 0.5) % 1 - 0.5 for hue in hues)
    assert -0.1 < steps[0] < -0.02 and 0.02 < steps[1] < 0.1


def test_values_saturate():
    assert distort(noise(), brightness=(10, 10, 1.0)).max() == 255


def test_probability_and_count():
    image = noise(low=60, high=120)
    options = {"brightness": (2, 2, 0.5)}
    changed = [not np.array_equal(distort(image, seed, **options), image) for seed in range(200)]
    assert 70 < sum(changed) < 130
    assert np.array_equal(distort(image, count=0, brightness=(2, 2, 1.0)), image)
    assert np.array_equal(distort(image, prob=0.0, brightness=(2, 2, 1.0)), image)


def test_fixed_order_starts_with_brightness():
    image = noise(low=60, high=120)
    for seed in range(10):
        result = distort(image, seed, random_apply=False, count=1, brightness=(2, 2, 1.0), contrast=(0, 0, 1.0))
        assert np.abs(result - image * 2.0).max() <= 1


def test_channels_are_shuffled():
    image = np.full((2, 2, 3), (10, 20, 30), dtype=np.uint8)
    orders = {tuple(distort(image, seed, random_channel=True)[0, 0]) for seed in range(100)}
    assert len(orders) == 6 and all(sorted(order) == [10, 20, 30] for order in orders)


def test_defaults_vary_and_leave_the_original_alone():
    image = noise()
    before = image.copy()
    results = [RandomDistort()({"image": image}, np.random.default_rng(seed))["image"] for seed in range(20)]
    assert len({result.tobytes() for result in results}) > 10
    assert np.array_equal(image, before)


def test_wrong_range():
    with pytest.raises(ValueError, match="hue"):
        RandomDistort(hue=[5, -5, 0.5])
    with pytest.raises(ValueError, match=r"^RandomDistort\.contrast is \[nan, 2, 0\.5\], expected"):
        RandomDistort(contrast=[float("nan"), 2, 0.5])
