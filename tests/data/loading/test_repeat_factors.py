"""Repeat factors of images with rare classes, and epochs that follow them."""

import json
from collections import Counter

import numpy as np
import pytest
from tiny import write_tiny_coco

from ppdet.core.workspace import load_config
from ppdet.data.loading.reader import EvalReader, TrainReader
from ppdet.data.loading.repeat_factors import class_factors, class_presence, description, image_factors
from ppdet.data.loading.sampler import RepeatSampler
from ppdet.data.sources import COCODataSet
from ppdet.data.transforms import Decode, Gt2FCOSTarget, NormalizeImage, PadBatch, Permute, RandomFlip

# Of 16 images all have class 0, four class 1, one class 2, none class 3; the last image has no boxes.
PRESENCE = np.zeros((17, 4), bool)
PRESENCE[:16, 0] = PRESENCE[:4, 1] = PRESENCE[0, 2] = True


def test_factors_are_those_of_the_paper():
    """max(1, sqrt(t / f)) with f = 16/17, 4/17, 1/17; an image has the largest of its classes."""
    by_class = class_factors(PRESENCE, 0.5)
    np.testing.assert_allclose(by_class, [1, (0.5 * 17 / 4) ** 0.5, (0.5 * 17) ** 0.5, 1])
    np.testing.assert_allclose(image_factors(PRESENCE, by_class), [8.5**0.5, *[2.125**0.5] * 3, *[1] * 13])
    assert class_factors(PRESENCE, 0.05).tolist() == [1, 1, 1, 1]
    assert "changes nothing" in description(list("abcd"), np.ones(4), np.ones(17), 0.05)
    text = description(list("abcd"), by_class, image_factors(PRESENCE, by_class), 0.5)
    assert (
        text == "repeat_threshold 0.5: an epoch has 20 images, of 17 different ones; repeat factors: 'c' 2.92, 'b' 1.46"
    )


def test_too_few_images_to_repeat_any_are_told():
    """An epoch has the sum of the factors, rounded down, and each image at least once."""
    factors = np.array([1.1, 1.1, 1.0, 1.0])
    text = description(["open", "spur"], np.array([1.1, 1.1]), factors, 0.9)
    assert text.startswith("repeat_threshold 0.9 changes nothing: there are too few images")
    assert text.endswith("the repeat factors ('open' 1.10, 'spur' 1.10) add up to 4.20 images for 4 images")
    whole = sampler(size=4, factors=factors)
    assert all(sorted(whole.indices(epoch).tolist()) == [0, 1, 2, 3] for epoch in range(5))


def sampler(**options):
    factors = np.array([2.5, 1.25, 1.0, 1.1, 1.0, 3.0, 1.0])  # 10.85 together
    defaults = dict(size=7, batch_size=2, shuffle=True, drop_last=False, even=True, seed=5, factors=factors)
    return RepeatSampler(**{**defaults, **options})


def test_images_come_as_often_as_their_factors_say():
    epochs = [sampler().indices(epoch).tolist() for epoch in range(1000)]
    assert {len(images) for images in epochs} == {10} and len(sampler()) == 5
    assert all(set(images) == set(range(7)) for images in epochs)
    counts = Counter(image for images in epochs for image in images)
    assert {counts[2], counts[4], counts[6]} == {1000}
    # In an epoch an image comes its factor times, rounded down or up; 0.85 images are left out in an epoch on average.
    assert {images.count(0) for images in epochs} <= {1, 2, 3} and {images.count(3) for images in epochs} == {1, 2}
    means = np.array([counts[i] / 1000 for i in range(7)])
    assert means.sum() == 10 and (means <= [2.55, 1.3, 1, 1.15, 1, 3, 1]).all() and (means >= 1).all()
    assert means[5] > means[0] > means[1] > means[3] > 1


def test_whole_factors_are_exact():
    one = sampler(factors=np.array([3.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0]))
    for epoch in range(5):
        assert sorted(one.indices(epoch).tolist()) == [0, 0, 0, 1, 2, 2, 3, 4, 5, 6]


def test_ranks_share_the_epoch_of_one_process():
    for epoch in range(3):
        whole = sampler(batch_size=4, drop_last=True).batches(epoch)
        ranks = [sampler(rank=rank, world_size=2, drop_last=True).batches(epoch) for rank in range(2)]
        assert [set(batch) for batch in whole] == [set(a) | set(b) for a, b in zip(*ranks)]
        assert [len(batch) for mine in ranks for batch in mine] == [2] * 4


def test_the_order_depends_on_seed_and_epoch_and_copies_differ():
    assert sampler().batches(3) == sampler().batches(3)
    assert sampler().batches(3) != sampler().batches(4) and sampler().batches(3) != sampler(seed=6).batches(3)
    pairs = [pair for batch in sampler().batches(3) for pair in batch]
    assert len(set(pairs)) == len(pairs) == 10  # the random numbers of a sample depend on its pair
    assert Counter(number for number, _ in pairs)[3] == 7
    assert sampler(shuffle=False).indices(3).tolist() == sorted(sampler().indices(3).tolist())


def reader(folder, **options):
    data = COCODataSet(
        dataset_dir=str(folder),
        image_dir="images",
        anno_path="train.json",
        data_fields=["image", "gt_bbox", "gt_class", "is_crowd"],
    )
    transforms = [Decode(), RandomFlip(), NormalizeImage(), Permute()]
    return TrainReader(
        dataset=data, sample_transforms=transforms, batch_transforms=[PadBatch(), Gt2FCOSTarget()], **options
    )


def test_the_reader_reads_rare_images_more_often(tmp_path, log):
    folder = write_tiny_coco(tmp_path)
    content = json.loads((folder / "train.json").read_text())
    for number, annotation in enumerate(content["annotations"]):
        annotation["category_id"] = 7 if number == 0 else 3
        annotation["image_id"] = number % 8 + 1  # every image has red, the first one has blue besides
    (folder / "train.json").write_text(json.dumps(content))
    plain = reader(folder)
    assert len(plain) == 8 and class_presence(plain.dataset).sum(axis=0).tolist() == [8, 1]
    repeated = reader(folder, repeat_threshold=0.75)  # the factor of the image with blue is sqrt(0.75 / (1 / 8)) = 2.45
    assert len(repeated) == 9
    assert "an epoch has 9 images, of 8 different ones; repeat factors: 'blue' 2.45" in log.text
    repeated.set_epoch(1)
    images = [int(batch["im_id"].item()) for batch in repeated]
    repeated.set_epoch(1, 4)  # as a run that resumes after four steps
    assert [int(batch["im_id"].item()) for batch in repeated] == images[4:]
    assert Counter(images) == {1: 2, **dict.fromkeys(range(2, 9), 1)}


def test_thresholds_out_of_range_and_in_evaluation(tmp_path, tiny, log):
    with pytest.raises(ValueError, match=r"TrainReader.repeat_threshold is 1.5; it must be above 0 and at most 1"):
        reader(write_tiny_coco(tmp_path), repeat_threshold=1.5)
    assert "repeat_threshold" in EvalReader.__unused__
    load_config(str(tiny), ["TrainReader.repeat_threshold=0.5"])
