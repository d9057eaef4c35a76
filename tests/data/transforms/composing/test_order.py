"""Transforms that would silently do something else after NormalizeImage, Permute or PadBatch are refused there."""

import numpy as np
import pytest
from transform_samples import marked_sample

import ppdet.data.transforms as T
from ppdet.core.workspace import load_config
from ppdet.data.transforms.composing.order import check_order
from ppdet.utils.errors import ConfigError, DataError

STEPS = [T.NormalizeImage(), T.Permute(), T.PadBatch(pad_to_stride=32)]
SIZE = {"target_size": [40, 60]}
MEMBERS = [
    *(T.AutoAugment(), T.GridMask(), T.Mosaic(), T.Mixup(), T.Cutmix(), T.RandomAffine(), T.RandomPerspective()),
    *(T.RandomDistort(), T.RandomColorJitter(), T.RandomErasingCrop(), T.RandomGrayscale(), T.RandomGaussianBlur()),
    *(T.RandomExpand(), T.RandomCrop(), T.RandomFlip(), T.RandomVerticalFlip(), T.RandomRotate90()),
    *(T.Resize(**SIZE), T.RandomResize(**SIZE, random_size=False), T.BatchRandomResize(**SIZE, random_size=False)),
    *(T.RandomShortSideResize(short_side_sizes=[40]), T.RandomSizeCrop(min_size=30, max_size=40)),
    *(T.RandomResizeCrop(resizes=[40], cropsizes=[[20, 30]]), T.StrongAugImage(transforms=[T.RandomGrayscale()])),
    T.RandomSelect(transforms1=[T.RandomFlip()], transforms2=[T.RandomCrop()]),
]
NAMES = [type(one).__name__ for one in MEMBERS]
OTHERS = {"Albu", "Compose", "Decode", "Gt2FCOSTarget", "NormalizeImage", "PadBatch", "Permute", "Transform"}


def test_all_are_here():
    classes = {name for name in T.__all__ if isinstance(getattr(T, name), type)}
    assert classes == {*NAMES} | OTHERS
    assert T.Albu.listed_before == "NormalizeImage"  # it needs a package


@pytest.mark.parametrize("transform", MEMBERS, ids=NAMES)
def test_none_but_batch_random_resize_takes_images_after_permute(transform):
    if isinstance(transform, T.BatchRandomResize):
        check_order([*STEPS[:2], transform, STEPS[2]], "TrainReader")
        with pytest.raises(ValueError, match="BatchRandomResize comes after PadBatch: list it before PadBatch"):
            check_order([*STEPS, transform], "TrainReader")
        return
    check_order([transform, *STEPS], "TrainReader")
    name = type(transform).__name__
    with pytest.raises(ValueError, match=f"^TrainReader: {name} comes after Permute: list it before (Perm|Norm)"):
        check_order([STEPS[1], transform], "TrainReader")


def test_exactly_those_that_need_bytes_are_refused_after_normalize_image():
    """On a float image, each of the others gives the same pixels and boxes as on the bytes, up to rounding."""
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    for name, transform in zip(NAMES, MEMBERS):
        if transform.listed_before == "NormalizeImage":
            with pytest.raises(ValueError, match=f"{name} comes after NormalizeImage: list it before NormalizeImage"):
                check_order([STEPS[0], transform], "TrainReader")
            continue
        check_order([STEPS[0], transform], "TrainReader")
        results = []
        for pixels in (image, image.astype(np.float32) / 255):
            sample = {
                "image": pixels,
                "im_shape": np.array([48, 64], np.float32),
                "gt_bbox": np.ones((0, 4), np.float32),
            }
            sample["scale_factor"] = np.ones(2, np.float32)
            several = transform.takes_batch
            result = transform([sample] if several else sample, np.random.default_rng(3))
            results.append((result[0] if several else result)["image"])
        np.testing.assert_allclose(results[0] / 255, np.clip(results[1], 0, 1), atol=0.02, err_msg=name)


@pytest.mark.parametrize("transform", MEMBERS, ids=NAMES)
def test_those_that_move_objects_are_for_training_alone(transform):
    """For all others, `scale_factor` says where a box in the image of the file is."""
    moved = transform.further_images > 0
    for seed in range(20 * (not moved)):
        sample = marked_sample()
        boxes = sample["gt_bbox"]
        result = transform([sample] if transform.takes_batch else sample, np.random.default_rng(seed))
        result = result[0] if transform.takes_batch else result
        scaled = boxes * np.tile(result["scale_factor"][::-1], 2)
        moved |= len(result["gt_bbox"]) != len(boxes) or not np.allclose(result["gt_bbox"], scaled, atol=1e-3)
    assert transform.moves_objects == moved


def test_a_random_choice_comes_before_what_its_members_come_before():
    flips = T.RandomSelect(transforms1=[T.RandomFlip()], transforms2=[])
    colors = T.RandomSelect(transforms1=[T.RandomFlip()], transforms2=[T.RandomDistort()])
    anything = T.RandomSelect(transforms1=[lambda sample, rng: sample], transforms2=[])
    assert [one.listed_before for one in (flips, colors, anything)] == ["Permute", "NormalizeImage", ""]


def test_other_callables_and_second_steps():
    check_order([*STEPS, lambda samples, rng: samples, T.Gt2FCOSTarget()], "TrainReader")
    with pytest.raises(ValueError, match="EvalReader: NormalizeImage comes after Permute"):
        check_order([STEPS[1], STEPS[0]], "EvalReader")
    with pytest.raises(ValueError, match="Permute comes after Permute"):
        check_order([STEPS[1], STEPS[1]], "EvalReader")


def test_targets_come_after_what_changes_them():
    """The targets of another size of the image have another number of locations, or belong to other places."""
    normalize, permute, pad = STEPS
    targets = T.Gt2FCOSTarget()
    check_order([normalize, permute, pad, targets, lambda samples, rng: samples], "TrainReader")
    for late in (pad, T.BatchRandomResize(**SIZE, random_size=False)):
        kind = type(late).__name__
        with pytest.raises(ValueError, match=f"TrainReader: {kind} comes after Gt2FCOSTarget, whose targets it would"):
            check_order([normalize, permute, targets, late], "TrainReader")


def test_decode_comes_first():
    check_order([lambda sample, rng: sample, T.Decode(), T.Resize(**SIZE), *STEPS], "TrainReader")
    with pytest.raises(ValueError, match="TrainReader: Decode comes after Resize, which needs an image: list Decode"):
        check_order([T.Resize(**SIZE), T.Decode()], "TrainReader")
    with pytest.raises(DataError, match="RandomFlip got a sample without an image: list Decode first"):
        T.Compose([T.RandomFlip(prob=1)])({"im_file": "a.png"}, np.random.default_rng(0))


def test_lists_within_lists_have_the_same_order():
    late = [STEPS[0], T.RandomGrayscale()]
    for name, make in (
        (r"RandomSelect\.transforms1", lambda: T.RandomSelect(transforms1=late, transforms2=[])),
        (r"RandomSelect\.transforms2", lambda: T.RandomSelect(transforms1=[], transforms2=late)),
        (r"StrongAugImage\.transforms", lambda: T.StrongAugImage(transforms=late)),
    ):
        with pytest.raises(ValueError, match=f"^{name}: RandomGrayscale comes after NormalizeImage"):
            make()


def test_objects_are_not_moved_in_evaluation(tiny):
    """Detections would be mirrored, and AP low without a word."""
    path = tiny.with_name("flipped.yml")
    path.write_text("_BASE_: [tiny.yml]\nEvalReader: {sample_transforms: [Decode: {}, RandomFlip: {}, Permute: {}]}\n")
    config = load_config(path)
    with pytest.raises(ConfigError, match=r"EvalReader has RandomFlip, which moves objects.*: list it for training"):
        config.create("EvalReader", dataset=config.create("EvalDataset"))


FLIP_LAST = """_BASE_: [tiny.yml]
TrainReader:
  sample_transforms: [Decode: {}, NormalizeImage: {}, Permute: {}, RandomFlip: {}]
"""


def test_a_reader_says_where_to_list_it(tiny):
    """Without the check, a batch comes out whose images are flipped upside down, and whose boxes are not."""
    path = tiny.with_name("flip.yml")
    path.write_text(FLIP_LAST)
    config = load_config(path)
    with pytest.raises(ConfigError, match="TrainReader: RandomFlip comes after Permute: list it before Permute"):
        config.create("TrainReader", dataset=config.create("TrainDataset"))


def test_transforms_of_batches_are_no_sample_transforms(tiny):
    path = tiny.with_name("batch.yml")
    path.write_text(FLIP_LAST.replace("RandomFlip: {}", "PadBatch: {}"))
    config = load_config(path)
    with pytest.raises(ConfigError, match=r"TrainReader\.sample_transforms has PadBatch, which takes the samples of a"):
        config.create("TrainReader", dataset=config.create("TrainDataset"))
