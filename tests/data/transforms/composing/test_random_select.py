"""RandomSelect: the choice, its properties, and DETR's list as PaddleDetection's files have it."""

import numpy as np
import pytest

from ppdet.core.workspace import load_config
from ppdet.data.transforms import (
    NormalizeImage,
    PadBatch,
    RandomDistort,
    RandomErasingCrop,
    RandomFlip,
    RandomSelect,
    RandomShortSideResize,
    RandomSizeCrop,
    RandomVerticalFlip,
    Resize,
    Transform,
)
from ppdet.utils.errors import ConfigError

DETR = """architecture: FCOS
TrainReader:
  sample_transforms:
  - Decode: {}
  - RandomFlip: {prob: 0.5}
  - RandomSelect: { transforms1: [ RandomShortSideResize: { short_side_sizes: [ 40, 50 ], max_size: 90 } ],
                    transforms2: [
                        RandomShortSideResize: { short_side_sizes: [ 60, 70 ] },
                        RandomSizeCrop: { min_size: 20, max_size: 40 },
                        RandomShortSideResize: { short_side_sizes: [ 40, 50 ], max_size: 90 } ]
  }
"""


def sample_of(h=48, w=64):
    return {"image": np.random.default_rng(0).integers(0, 256, (h, w, 3), dtype=np.uint8)}


@pytest.mark.parametrize(("p", "low", "high"), [(0.0, 0, 0), (0.25, 70, 130), (1.0, 400, 400)])
def test_the_first_list_is_drawn_with_probability_p(p, low, high):
    select = RandomSelect(transforms1=[RandomFlip(prob=1.0)], transforms2=[RandomVerticalFlip(prob=1.0)], p=p)
    rng, image = np.random.default_rng(0), sample_of()["image"]
    results = [select(sample_of(), rng)["image"] for _ in range(400)]
    first = sum(np.array_equal(result, image[:, ::-1]) for result in results)
    assert low <= first <= high
    assert first + sum(np.array_equal(result, image[::-1]) for result in results) == 400


def test_an_empty_list_changes_nothing():
    select = RandomSelect(transforms1=[], transforms2=[Resize(target_size=8)])
    rng = np.random.default_rng(0)
    assert {select(sample_of(), rng)["image"].shape for _ in range(20)} == {(48, 64, 3), (6, 8, 3)}


@pytest.mark.parametrize(
    ("one", "other", "properties"),
    [
        ([RandomFlip()], [RandomSizeCrop(min_size=4, max_size=9)], {"keeps_uint8", "moves_pixels"}),
        ([RandomFlip()], [Resize(target_size=8)], {"keeps_uint8"}),
        ([RandomDistort()], [RandomErasingCrop()], {"keeps_uint8", "pixels_only"}),
        ([RandomDistort()], [RandomFlip()], {"keeps_uint8"}),
        ([RandomDistort()], [NormalizeImage()], {"pixels_only"}),
        ([RandomFlip()], [], {"keeps_uint8", "moves_pixels"}),
        ([lambda sample, rng: sample], [RandomFlip()], set()),
    ],
)
def test_properties_are_those_that_all_members_have(one, other, properties):
    for select in (
        RandomSelect(transforms1=one, transforms2=other),
        RandomSelect(transforms1=other, transforms2=[RandomSelect(transforms1=[], transforms2=one)]),
    ):
        names = ("takes_batch", "keeps_uint8", "moves_pixels", "pixels_only", "makes_targets")
        assert {name for name in names if getattr(select, name)} == properties


def test_the_list_of_detr(tmp_path):
    path = tmp_path / "detr.yml"
    path.write_text(DETR)
    select = load_config(path).component("TrainReader").create("sample_transforms")[2]
    first, second = select.transforms1.transforms, select.transforms2.transforms
    assert [type(one) for one in first] == [RandomShortSideResize]
    assert [type(one) for one in second] == [RandomShortSideResize, RandomSizeCrop, RandomShortSideResize]
    assert select.keeps_uint8 and not select.moves_pixels and select.p == 0.5
    shapes = {select(sample_of(), np.random.default_rng(seed))["image"].shape[:2] for seed in range(60)}
    assert {(40, 53), (50, 67)} < shapes and all(min(shape) in (40, 50) or max(shape) == 90 for shape in shapes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{transforms1: [PadBatch: {}], transforms2: []}", "RandomSelect has PadBatch, which takes several images"),
        ("{transforms1: [], transforms2: [], p: 2}", "RandomSelect.p is 2, expected a probability"),
        ("{transforms1: []}", "transforms2"),
        ("{transforms1: [RandomFlop: {}], transforms2: []}", "RandomFlop"),
    ],
)
def test_wrong_lists(tmp_path, text, message):
    path = tmp_path / "wrong.yml"
    path.write_text(f"architecture: FCOS\nTrainReader:\n  sample_transforms:\n  - RandomSelect: {text}\n")
    with pytest.raises(ConfigError, match=rf"wrong.yml:4: .*{message}"):
        load_config(path).component("TrainReader").create("sample_transforms")


def test_transforms_of_several_images_are_refused():
    class Mosaic(Transform):
        further_images = 3

    for transform in (PadBatch(), Mosaic()):
        with pytest.raises(ValueError, match=r"RandomSelect has \w+, which takes several images.* list it outside of"):
            RandomSelect(transforms1=[], transforms2=[transform])
