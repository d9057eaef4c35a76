"""Strong augmentations, against their definitions written once more in floats."""

import colorsys
import itertools
import json

import cv2
import numpy as np
import pytest

from ppdet.core.workspace import load_config
from ppdet.data.transforms import (
    NormalizeImage,
    RandomColorJitter,
    RandomDistort,
    RandomErasingCrop,
    RandomFlip,
    RandomGaussianBlur,
    RandomGrayscale,
    StrongAugImage,
)
from ppdet.utils.errors import ConfigError, DataError

COLORS = ("brightness", "contrast", "saturation", "hue")
OFF = {"prob": 1.0, **dict.fromkeys(COLORS, 0.0)}
PUBLISHED = """- StrongAugImage: {transforms: [
      RandomColorJitter: {prob: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1},
      RandomErasingCrop: {},
      RandomGaussianBlur: {prob: 0.5, sigma: [0.1, 2.0]},
      RandomGrayscale: {prob: 0.2},
    ]}"""


def chain():
    """The published chain of augmentations, which equals the defaults."""
    parts = (RandomColorJitter, RandomErasingCrop, RandomGaussianBlur, RandomGrayscale)
    return StrongAugImage(transforms=[part() for part in parts])


ALWAYS = [
    RandomColorJitter(prob=1.0),
    RandomErasingCrop(prob=[1.0, 1.0, 1.0]),
    RandomGaussianBlur(prob=1.0, sigma=[2.0, 9.0]),
    RandomGrayscale(prob=1.0),
]


def noise(h=30, w=40, low=0, high=256):
    return np.random.default_rng(0).integers(low, high, (h, w, 3), dtype=np.uint8)


def apply(transform, image, seed=0):
    rng = seed if isinstance(seed, Scripted) else np.random.default_rng(seed)
    return transform({"image": image}, rng)["image"]


class Scripted:
    """Draws what a test wants: always apply, in a given order, at a given place between low and high."""

    def __init__(self, place, order=None):
        self.place, self.order = place, order

    def random(self):
        return 0.0

    def permutation(self, n):
        return np.arange(n) if self.order is None else np.array(self.order)

    def uniform(self, low, high):
        return low + self.place * (high - low)


def gray(image):
    return image @ [0.299, 0.587, 0.114]


def reference(image, name, value):
    """One step of torchvision's ColorJitter on floats of 0..255."""
    if name == "brightness":
        image = image * value
    elif name == "contrast":
        image = value * image + (1 - value) * gray(image).mean()
    elif name == "saturation":
        image = value * image + (1 - value) * gray(image)[..., None]
    else:
        for pixel in image.reshape(-1, 3):
            h, s, v = colorsys.rgb_to_hsv(*pixel)
            pixel[:] = colorsys.hsv_to_rgb((h + value) % 1, s, v)
    return np.clip(image, 0, 255)


@pytest.mark.parametrize("place", [0.0, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("name", COLORS)
def test_each_color_change(name, place):
    pure = np.array(list(itertools.product((0, 128, 255), repeat=3)), dtype=np.uint8)
    image = np.concatenate([noise().reshape(-1, 3), pure]).reshape(3, 409, 3)
    change = 0.5 if name == "hue" else 0.4
    value = -change + 2 * change * place if name == "hue" else 1 - change + 2 * change * place
    result = apply(RandomColorJitter(**{**OFF, name: change}), image, Scripted(place))
    assert result.dtype == np.uint8 and result.shape == image.shape
    assert np.abs(result - reference(image.astype(float), name, value)).max() <= 1.01


@pytest.mark.parametrize("name", ["contrast", "saturation"])
def test_gray_is_the_luma_and_not_the_mean_of_the_channels(name):
    image = noise() // 4 + np.array([90, 40, 140], np.uint8)
    assert gray(image).mean() < image.mean() - 20
    result = apply(RandomColorJitter(**{**OFF, name: 0.4}), image, Scripted(0.0))
    assert np.abs(result - reference(image.astype(float), name, 0.6)).max() <= 1.01


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_color_changes_in_turn(order):
    image = noise(12, 16)
    result = apply(RandomColorJitter(hue=0.3), image, Scripted(0.9, order))
    expected = image.astype(float)
    for i in order:
        expected = reference(expected, COLORS[i], 0.24 if COLORS[i] == "hue" else 1.32)
    wrong = np.abs(result - expected)
    assert wrong.max() <= 4 and np.quantile(wrong, 0.99) <= 2.5 and wrong.mean() <= 0.4, "four roundings"


def test_all_orders_are_drawn():
    class RandomOrder(Scripted):
        def permutation(self, n):
            return rng.permutation(n)

    rng, image = np.random.default_rng(0), noise(12, 16)
    results = {apply(RandomColorJitter(hue=0.3), image, RandomOrder(0.9)).tobytes() for _ in range(300)}
    assert len(results) > 20


def test_factors_are_uniform_and_never_negative():
    image = np.full((2, 2, 3), 100, dtype=np.uint8)
    for change, low, high in ((0.4, 60, 140), (1.5, 0, 250)):
        jitter = RandomColorJitter(**{**OFF, "brightness": change})
        values = np.array([apply(jitter, image, seed)[0, 0, 0] for seed in range(1000)])
        assert low <= values.min() < low + 3 and high - 3 < values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 0.03 * (high - low)


def test_hue_of_a_large_image_is_turned_everywhere():
    image = cv2.resize(noise(), (1001, 77))
    jitter = RandomColorJitter(**{**OFF, "hue": 0.5})
    whole = apply(jitter, image, Scripted(0.3))
    rows = [apply(jitter, image[y : y + 1], Scripted(0.3)) for y in range(77)]
    assert np.array_equal(whole, np.concatenate(rows)) and not np.array_equal(whole, image)


def erase_one(i, image, seed=0, **options):
    prob = [float(i == k) for k in range(3)]
    return (apply(RandomErasingCrop(prob=prob, **options), image, seed) != image).any(axis=2)


@pytest.mark.parametrize(("i", "low", "high"), [(0, 0.3, 3.3), (1, 0.1, 6.0), (2, 0.05, 8.0)])
def test_erased_rectangles(i, low, high):
    h, w = 120, 120
    image = np.full((h, w, 3), 128, dtype=np.uint8)
    areas, ratios = [], []
    for seed in range(300):
        erased = erase_one(i, image, seed)
        ys, xs = erased.any(axis=1).nonzero()[0], erased.any(axis=0).nonzero()[0]
        assert erased[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1].all(), "a whole rectangle"
        areas.append(len(ys) * len(xs) / (h * w))
        ratios.append(len(ys) / len(xs))
    assert 0.95 * 0.05 < min(areas) < 0.06 and 0.17 < max(areas) < 1.05 * 0.2
    assert low * 0.9 < min(ratios) < low * 1.5 and high / 1.7 < max(ratios) < high * 1.1
    if i == 0:  # the others have ratios at which many areas do not fit
        assert 0.4 < np.mean(np.array(ratios) < 1) < 0.6, "uniform in the logarithm"


def test_places_of_erased_rectangles():
    image = np.full((60, 60, 3), 128, dtype=np.uint8)
    often = np.mean([erase_one(0, image, seed) for seed in range(400)], axis=0)
    assert often[[0, -1]].any(axis=1).all() and often[:, [0, -1]].any(axis=0).all(), "the borders are reached"
    assert np.abs(often - often[::-1, ::-1]).max() < 0.12, "no side is preferred"


def test_noise_is_uniform():
    options = {"area": [[0.5, 0.5]] * 3, "aspect": [[1.0, 1.0]] * 3}
    image = np.zeros((300, 300, 3), dtype=np.uint8)
    erased = erase_one(0, image, **options)
    assert erased.sum() == pytest.approx(45000, rel=0.01)
    result = apply(RandomErasingCrop(prob=[1.0, 0.0, 0.0], **options), image)[erased].astype(float)
    counts = np.bincount(result.ravel().astype(int), minlength=256)
    assert counts.min() > 400 and counts.max() < 660, "135,000 values, 527 of each"
    assert np.abs(np.corrcoef(result.T) - np.eye(3)).max() < 0.03, "channels know nothing of one another"


def test_a_rectangle_that_does_not_fit_is_left_out():
    strip = noise(3, 500)
    assert not erase_one(0, strip, aspect=[[1.0, 3.3]] * 3).any()
    assert erase_one(0, strip, aspect=[[0.01, 0.02]] * 3).any()
    # Half of the draws fit: ten attempts find one nearly always.
    square, options = noise(), {"area": [[0.2, 0.2]] * 3, "aspect": [[1.0, 64.0]] * 3}
    assert sum(erase_one(0, square, seed, **options).any() for seed in range(100)) > 95


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("size", [(30, 40), (3, 500)])
def test_blur(place, size):
    image = noise(*size)
    sigma = 0.1 + 1.9 * place
    radius = (round(6 * sigma + 1) | 1) // 2
    distance = np.arange(-radius, radius + 1)
    kernel = np.exp(-(distance**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    expected = image.astype(float)
    for axis in (0, 1):
        padded = np.pad(expected, [(radius * (k == axis),) * 2 for k in range(3)], mode="reflect")
        parts = [np.take(padded, range(k, k + size[axis]), axis=axis) * kernel[k] for k in range(len(kernel))]
        expected = np.sum(parts, axis=0)
    result = apply(RandomGaussianBlur(prob=1.0, sigma=[0.1, 2.0]), image, Scripted(place))
    wrong = np.abs(result - expected)
    assert wrong.max() <= 2 and wrong.mean() <= 0.5, "OpenCV's weights are fractions of 256"


def test_grayscale():
    image = noise()
    assert np.abs(apply(RandomGrayscale(prob=1.0), image) - gray(image)[..., None]).max() <= 1


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (RandomColorJitter(prob=0.8), 0.8),
        (RandomGaussianBlur(prob=0.5, sigma=[2, 2]), 0.5),
        (RandomGrayscale(prob=0.2), 0.2),
        (RandomErasingCrop(prob=[0.7, 0.0, 0.0]), 0.7),
        (RandomErasingCrop(prob=[0.0, 0.5, 0.0]), 0.5),
        (RandomErasingCrop(prob=[0.0, 0.0, 0.3]), 0.3),
        (RandomErasingCrop(), 1 - 0.3 * 0.5 * 0.7),
        (chain(), 1 - 0.2 * (0.3 * 0.5 * 0.7) * 0.5 * 0.8),
    ],
)
def test_probability(transform, expected):
    image, rng = noise(20, 20), np.random.default_rng(1)
    count = 4000 if expected < 0.95 else 1000  # nearly certain: fewer draws tell as much
    changed = [transform({"image": image}, rng)["image"] is not image for _ in range(count)]
    deviation = np.sqrt(expected * (1 - expected) / count)
    assert np.mean(changed) == pytest.approx(expected, abs=3.2 * deviation)


@pytest.mark.parametrize("size", [(30, 40), (1, 1), (3, 500), (500, 3)])
@pytest.mark.parametrize("transform", [chain(), *ALWAYS], ids=lambda t: type(t).__name__)
def test_only_the_image_is_replaced(transform, size):
    image = noise(*size)
    image.setflags(write=False)
    boxes = np.array([[1, 2, 3, 4]], dtype=np.float32)
    shape = np.array(size, dtype=np.float32)
    for seed in range(10):
        sample = {"image": image, "gt_bbox": boxes, "im_shape": shape, "curr_iter": 7}
        result = transform(dict(sample), np.random.default_rng(seed))
        assert result.keys() == sample.keys() and all(result[k] is sample[k] for k in sample if k != "image")
        assert result["image"].dtype == np.uint8 and result["image"].shape == (*size, 3)
        assert np.array_equal(result["image"], apply(transform, image, seed)), "the seed decides"
    assert np.array_equal(image, noise(*size)) and boxes.tolist() == [[1, 2, 3, 4]]
    assert transform.keeps_uint8 and transform.pixels_only


def test_strong_image_of_parts():
    class Floats:
        pixels_only = True

        def __call__(self, sample, rng):
            return {**sample, "image": sample["image"].astype(np.float32)}

    assert StrongAugImage(transforms=[RandomDistort(), chain()]).keeps_uint8
    unknown = StrongAugImage(transforms=[RandomGrayscale(prob=1.0), Floats()])
    assert not unknown.keeps_uint8 and apply(unknown, noise()).dtype == np.float32
    with pytest.raises(ValueError, match=r"StrongAugImage\.transforms has RandomFlip"):
        StrongAugImage(transforms=[RandomGrayscale(), RandomFlip()])
    with pytest.raises(DataError, match="StrongAugImage got a float32 image: list it before NormalizeImage"):
        apply(chain(), NormalizeImage()({"image": noise()})["image"])


@pytest.mark.parametrize(
    ("transform", "options", "message"),
    [
        (RandomColorJitter, {"prob": 1.1}, ".prob is 1.1"),
        (RandomColorJitter, {"contrast": -0.1}, ".contrast is -0.1"),
        (RandomColorJitter, {"hue": 0.6}, ".hue is 0.6"),
        (RandomErasingCrop, {"prob": [0.7, -0.5, 0.3]}, ".prob.1 is -0.5"),
        (RandomErasingCrop, {"prob": [0.7, 0.5]}, " has 2 prob, 3 area and 3 aspect"),
        (RandomErasingCrop, {"area": [[0.1, 0.2]] * 2 + [[0.2, 1.1]]}, r".area.2 is \[0.2, 1.1\]"),
        (RandomErasingCrop, {"aspect": [[2, 1]] * 3}, r".aspect.0 is \[2, 1\]"),
        (RandomGaussianBlur, {"prob": float("nan")}, ".prob is nan"),
        (RandomGaussianBlur, {"sigma": [2.0, 0.1]}, r".sigma is \[2.0, 0.1\]"),
        (RandomGaussianBlur, {"sigma": [0.0, 1.0]}, r".sigma is \[0.0, 1.0\]"),
        (RandomGrayscale, {"prob": -0.2}, ".prob is -0.2"),
    ],
)
def test_wrong_parameters(transform, options, message):
    with pytest.raises(ValueError, match=f"{transform.__name__}{message}"):
        transform(**options)


def published(tiny, text=PUBLISHED):
    """The reader of a YAML file with `text` among its transforms."""
    path = tiny.with_name("strong.yml")
    rest = "- RandomFlip: {}\n  - NormalizeImage: {}\n  - Permute: {}\n"
    path.write_text(f"_BASE_: [tiny.yml]\nTrainReader:\n  sample_transforms:\n  - Decode: {{}}\n  {text}\n  {rest}")
    config = load_config(path)
    return config.create("TrainReader", dataset=config.create("TrainDataset"))


def test_published_yaml(tiny):
    reader = published(tiny)
    strong = reader.sample_transforms[1]
    assert type(strong) is StrongAugImage and len(strong.members) == 4
    for made, expected in zip(strong.members, chain().members):
        assert type(made) is type(expected)
        assert json.dumps(vars(made)) == json.dumps(vars(expected)), "tuples and lists alike"
    batch = next(iter(reader))
    assert batch["image"].shape == [2, 3, 96, 128]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("RandomGrayscale: {prob: 0.2}", "RandomFlip: {}", "StrongAugImage.transforms has RandomFlip"),
        ("[0.1, 2.0]", "[2.0, 0.1]", r"RandomGaussianBlur.sigma is \[2.0, 0.1\]"),
        ("Crop: {}", "Crop: {prob: 0.7}", "prob: expected list of float"),
    ],
)
def test_mistakes_in_yaml(tiny, old, new, message):
    with pytest.raises(ConfigError, match=rf"strong.yml:\d+: TrainReader.sample_transforms.1.*{message}"):
        published(tiny, PUBLISHED.replace(old, new))
