"""Transforms of Albumentations: which a file may name, and what happens to pixels, boxes and random numbers."""

import inspect
import os
import pickle

import cv2
import numpy as np
import pytest

from ppdet.core.workspace import load_config
from ppdet.data.transforms import Albu, StrongAugImage
from ppdet.data.transforms.albu.named_transforms import GROUPS, MOVES, PIXELS, load_albumentations
from ppdet.utils import extras
from ppdet.utils.errors import ConfigError, DataError

IMAGE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8), (0, 0), 2)
BOXES = np.array([[10, 10, 30, 40], [0, 0, 80, 60], [50, 5, 79.5, 20.25]], dtype=np.float32)


@pytest.fixture(scope="module", autouse=True)
def library():
    if extras.absent_packages("albumentations"):
        pytest.skip("albumentations is not installed: pip install albumentations")


def sample(boxes=BOXES, crowd=None, image=IMAGE):
    count = len(boxes)
    return {
        "image": image,
        "im_shape": np.array(image.shape[:2], dtype=np.float32),
        "gt_bbox": boxes,
        "gt_class": np.arange(count, dtype=np.int32)[:, None] + 7,
        "is_crowd": np.array(crowd or [0] * count, dtype=np.int32).reshape(-1, 1),
    }


def apply(transforms, seed=0, options=None, **fields):
    return Albu(transforms=transforms, **(options or {}))(sample(**fields), np.random.default_rng(seed))


# Parameters of transforms that hardly change an image otherwise.
STRONGER = {
    "Affine": {"rotate": [10, 20]},
    "BBoxSafeRandomCrop": {"erosion_rate": 0.5},
    "FancyPCA": {"alpha": 100.0},
    "UnsharpMask": {"threshold": 0},
    "XYMasking": {"num_masks_x": 2, "mask_x_length": 10},
}


def always(name):
    """A transform that is applied for certain."""
    return {name: {"p": 1.0, **STRONGER.get(name, {})}}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(PIXELS | MOVES))
def test_every_transform_that_may_be_named(name):
    """It keeps uint8, writes into nothing, draws from the sample's generator only, and keeps boxes and labels whole."""
    transform = Albu(transforms=[always(name)])
    assert transform.keeps_uint8 and transform.pixels_only == (name in PIXELS)
    image, boxes = IMAGE.copy(), BOXES.copy()
    image.setflags(write=False)
    changed = False
    for seed in range(3):
        results = []
        for _ in range(2):
            np.random.seed(seed + len(results))  # the global generator must not matter
            results.append(transform(sample(boxes, image=image), np.random.default_rng(seed)))
        first, second = results
        assert all(np.array_equal(first[key], second[key]) for key in first), "the seed decides"
        assert np.array_equal(image, IMAGE) and np.array_equal(boxes, BOXES)
        h, w = first["image"].shape[:2]
        assert first["image"].dtype == np.uint8 and first["im_shape"].tolist() == [h, w] and h * w <= 60 * 80
        found = first["gt_bbox"]
        assert found.dtype == np.float32 and (found >= 0).all() and (found <= [w, h, w, h]).all()
        assert (found[:, 2:] > found[:, :2]).all() and len(found) == len(first["gt_class"]) == len(first["is_crowd"])
        if name in PIXELS:
            assert found is boxes and (h, w) == (60, 80)
        changed |= not np.array_equal(first["image"], image)
        nothing = transform(sample(BOXES[:0], image=image), np.random.default_rng(seed))
        assert nothing["gt_bbox"].shape == (0, 4) and nothing["gt_class"].shape == (0, 1)
        bare = transform({"image": image}, np.random.default_rng(seed))
        assert "gt_bbox" not in bare and bare["image"].dtype == np.uint8
    assert changed


def mirrored(boxes):
    return np.stack([80 - boxes[:, 2], boxes[:, 1], 80 - boxes[:, 0], boxes[:, 3]], axis=1)


def test_boxes_follow():
    flipped = apply([always("HorizontalFlip")])
    assert np.array_equal(flipped["image"], IMAGE[:, ::-1]) and np.allclose(flipped["gt_bbox"], mirrored(BOXES))
    turned = apply([always("Transpose")])
    assert np.array_equal(turned["image"], IMAGE.transpose(1, 0, 2)) and turned["im_shape"].tolist() == [80, 60]
    assert np.allclose(turned["gt_bbox"], BOXES[:, [1, 0, 3, 2]])
    moved = apply([{"Affine": {"translate_px": {"x": [45, 45], "y": [0, 0]}, "p": 1.0}}])
    assert np.allclose(moved["gt_bbox"], [[55, 10, 75, 40], [45, 0, 80, 60]], atol=1e-4)
    assert moved["gt_class"].tolist() == [[7], [8]], "the third one has left the image"


def test_min_visibility_spares_crowds():
    """Moved by 45 pixels, 35/80 of the second box is left, and nothing of the third."""
    move = [{"Affine": {"translate_px": {"x": [45, 45], "y": [0, 0]}, "p": 1.0}}]
    half = {"min_visibility": 0.5}
    assert apply(move, options=half)["gt_class"].tolist() == [[7]]
    assert apply(move, options={"min_visibility": 0.4})["gt_class"].tolist() == [[7], [8]]
    crowd = apply(move, options=half, crowd=[0, 1, 1])
    assert crowd["gt_class"].tolist() == [[7], [8]] and crowd["is_crowd"].tolist() == [[0], [1]]
    assert np.allclose(crowd["gt_bbox"], [[55, 10, 75, 40], [45, 0, 80, 60]], atol=1e-4)
    assert np.array_equal(crowd["image"], apply(move, options=half)["image"])


def test_transforms_of_a_list_do_not_draw_the_same_numbers():
    half = [{"HorizontalFlip": {"p": 0.5}}, {"VerticalFlip": {"p": 0.5}}]
    ways = [IMAGE, IMAGE[:, ::-1], IMAGE[::-1], IMAGE[::-1, ::-1]]
    results = [apply(half, seed)["image"] for seed in range(60)]
    counts = [sum(np.array_equal(result, way) for result in results) for way in ways]
    assert sum(counts) == 60 and min(counts) >= 6, counts


def test_groups():
    inner = [always("HorizontalFlip"), always("VerticalFlip")]
    one = {apply([{"OneOf": {"transforms": inner, "p": 1.0}}], seed)["image"].tobytes() for seed in range(20)}
    assert one == {IMAGE[:, ::-1].tobytes(), IMAGE[::-1].tobytes()}
    both = apply([{"type": "Sequential", "transforms": [{"type": "HorizontalFlip", "p": 1}, inner[1]], "p": 1.0}])
    assert np.array_equal(both["image"], IMAGE[::-1, ::-1])
    nested = [{"OneOf": {"p": 1.0, "transforms": [{"SomeOf": {"n": 2, "p": 1.0, "transforms": inner}}]}}]
    assert np.array_equal(apply(nested)["image"], IMAGE[::-1, ::-1])
    assert not Albu(transforms=nested).pixels_only
    blur = [{"OneOf": {"transforms": [{"Blur": {}}, {"CLAHE": {}}]}}]
    assert StrongAugImage(transforms=[Albu(transforms=blur)]).keeps_uint8, "a strong view"


def test_workers_get_it_as_a_pickle():
    transforms = [{"RandomGamma": {"p": 0.9}}, {"Rotate": {"limit": 20, "p": 0.9}}]
    albu = Albu(transforms=transforms, min_visibility=0.2)
    copy = pickle.loads(pickle.dumps(albu))
    for seed in range(3):
        first, second = (one(sample(), np.random.default_rng(seed)) for one in (albu, copy))
        assert all(np.array_equal(first[key], second[key]) for key in first)


def test_nothing_that_may_be_named_takes_functions_files_or_metadata():
    """The parameters of all transforms that may be named, as the installed version annotates them."""
    albumentations = load_albumentations()
    for name in PIXELS | MOVES:
        for parameter in inspect.signature(getattr(albumentations, name)).parameters.values():
            described = f"{parameter.name} {parameter.annotation}".lower()
            assert not any(word in described for word in ("path", "file", "metadata", "read_fn")), (name, described)
            # Equalize's mask may be a function; a plain value of a file is none.
            assert "callable" not in described or (name, parameter.name) == ("Equalize", "mask")
    assert not (PIXELS | MOVES | GROUPS) & {"Lambda", "FDA", "TemplateTransform", "TextImage", "OverlayElements"}


def test_it_does_not_ask_the_network(monkeypatch):
    """Albumentations looks for a newer version when it is imported, unless this variable is set."""
    monkeypatch.delenv("NO_ALBUMENTATIONS_UPDATE", raising=False)
    library = load_albumentations()
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"
    assert 'getenv("NO_ALBUMENTATIONS_UPDATE"' in inspect.getsource(library)


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        (
            [{"Lambda": {"image": "x"}}],
            r"^Albu\.transforms\.0 is 'Lambda', expected one of the Albumentations transforms",
        ),
        ([{"RandomGama": {}}], "did you mean 'RandomGamma'"),
        ([{"type": ["Blur"]}], r"Albu\.transforms\.0 is \['Blur'\]"),
        ([{"TextImage": {"font_path": "/etc/passwd"}}], "is 'TextImage', expected one of"),
        ([{"PadIfNeeded": {"min_height": 10}}], "is 'PadIfNeeded', expected one of"),
        (["Blur"], r"Albu\.transforms\.0 is 'Blur', expected a transform such as \{Blur: \{p: 0\.1\}\}"),
        ([{"Blur": {}, "CLAHE": {}}], "expected a transform such as"),
        ([{"Blur": 3}], r"Albu\.transforms\.0\.Blur is 3, expected its parameters as a mapping"),
        ([{"RandomGamma": {"gama_limit": 3}}], "RandomGamma has no parameter 'gama_limit'; did you mean 'gamma_limit'"),
        ([{"Affine": {"fit_output": True}}], "Affine has no parameter 'fit_output'"),
        ([{"RandomGamma": {"gamma_limit": "x"}}], r"Albu\.transforms\.0\.RandomGamma: .*gamma_limit.*valid number"),
        ([{"MotionBlur": {"blur_limit": [3, 100001]}}], r"blur_limit is 100001, expected numbers from -1000 to 1000"),
        ([{"ToGray": {"num_output_channels": 1}}], "ToGray has no parameter 'num_output_channels'"),
        ([{"ThinPlateSpline": {"num_control_points": 60}}], "num_control_points is 60, expected numbers from -5 to 5"),
        ([{"GridDropout": {"holes_number_xy": [2, 1000]}}], "holes_number_xy is 1000, expected numbers .* to 100"),
        ([{"RandomShadow": {"num_shadows_limit": [1, 900]}}], "num_shadows_limit is 900, expected numbers .* to 20"),
        ([{"RandomSunFlare": {"num_flare_circles_range": [6, 900]}}], "range is 900, expected numbers .* to 50"),
        (
            [{"SomeOf": {"n": 1000, "replace": True, "transforms": [{"Blur": {}}]}}],
            r"Albu\.transforms\.0\.SomeOf\.n is 1000, but its list has 1 transforms",
        ),
        ([{"Affine": {"scale": {"x": float("nan")}}}], r"Affine\.scale is nan"),
        ([{"Blur": {"blur_limit": print}}], r"Blur\.blur_limit is <built-in function print>, expected plain values"),
        ([{"OneOf": {"transforms": [{"Lambda": {}}]}}], r"Albu\.transforms\.0\.OneOf\.transforms\.0 is 'Lambda'"),
        ([{"OneOf": {"transforms": "Blur"}}], r"OneOf\.transforms: expected a list of transforms"),
        (
            [{"OneOf": {"p": 1.0}}],
            r"^Albu\.transforms\.0\.OneOf\.transforms is empty, expected at least one",
        ),
        ([{"Blur": {}}] * 101, "more than 100 transforms"),
        (
            [{"Sequential": {"transforms": [{"Blur": {}}] * 100}}],
            "more than 100 transforms",
        ),
    ],
)
def test_mistakes(transforms, message):
    with pytest.raises(ValueError, match=message) as error:
        Albu(transforms=transforms)
    assert "\n" not in str(error.value)


def test_what_only_an_image_shows_is_one_line():
    with pytest.raises(DataError, match=r"^Albu\.transforms cannot change an image of \d+ x \d+ pixels: ") as error:
        apply([{"CoarseDropout": {"fill": 1000, "p": 1.0}}])
    assert "\n" not in str(error.value)


def test_deep_lists_are_refused():
    deep = [{"Blur": {}}]
    for _ in range(50):
        deep = [{"OneOf": {"transforms": deep}}]
    with pytest.raises(ValueError, match="at most 4 lists within each other"):
        Albu(transforms=deep)
    with pytest.raises(ValueError, match=r"Albu\.min_visibility is 2"):
        Albu(transforms=[], min_visibility=2)


def test_without_the_library(monkeypatch):
    find = extras.importlib.util.find_spec
    monkeypatch.setattr(
        extras.importlib.util, "find_spec", lambda name, *more: None if name == "albumentations" else find(name, *more)
    )
    with pytest.raises(ConfigError, match="albumentations is not installed: pip install albumentations"):
        Albu(transforms=[{"Blur": {}}])


IN_A_FILE = """_BASE_: [tiny.yml]
TrainReader:
  sample_transforms:
  - Decode: {}
  - Albu:
      transforms:
      - RandomBrightnessContrast: {brightness_limit: [-0.3, 0.1], p: 0.3}
      - OneOf: {p: 0.2, transforms: [Blur: {}, {type: CLAHE, p: 1.0}]}
      - HorizontalFlip: {p: 0.5}
      min_visibility: 0.1
  - NormalizeImage: {}
  - Permute: {}
"""


def test_in_a_file(tiny):
    path = tiny.with_name("albu.yml")
    path.write_text(IN_A_FILE)
    config = load_config(path)
    reader = config.create("TrainReader", dataset=config.create("TrainDataset"))
    assert type(reader.sample_transforms[1]) is Albu
    batch = next(iter(reader))
    assert batch["image"].shape == [2, 3, 96, 128]
    path.write_text(IN_A_FILE.replace("Blur: {}", "Lambda: {}"))
    with pytest.raises(ConfigError, match=r"albu.yml:\d+: TrainReader.sample_transforms.1.*transforms.0 is 'Lambda'"):
        load_config(path).create("TrainReader", dataset=config.create("TrainDataset"))
