"""Readers, in this process and in workers. Needs paddle."""

import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest

from ppdet.data.loading import reader as readers
from ppdet.data.sources import COCODataSet, ImageFolder
from ppdet.data.transforms import (
    Decode,
    GridMask,
    Gt2FCOSTarget,
    NormalizeImage,
    PadBatch,
    Permute,
    RandomCrop,
    RandomDistort,
    RandomExpand,
    RandomFlip,
    RandomResize,
    Resize,
)
from ppdet.utils.errors import DataError, WorkerError

FIELDS = ["image", "gt_bbox", "gt_class"]


def train_reader(data, **options):
    defaults = {
        "sample_transforms": [
            Decode(),
            RandomDistort(),
            RandomExpand(ratio=2.0),
            RandomCrop(),
            RandomResize(target_size=[[32, 64], [64, 96]]),
            RandomFlip(),
            NormalizeImage(),
            Permute(),
        ],
        "batch_transforms": [PadBatch(pad_to_stride=32), Gt2FCOSTarget()],
        "batch_size": 2,
        "seed": 3,
    }
    return readers.TrainReader(dataset=data, **{**defaults, **options})


def eval_reader(data, **options):
    transforms = [Decode(), Resize(target_size=[32, 64]), NormalizeImage(), Permute()]
    defaults = {"sample_transforms": transforms, "batch_transforms": [PadBatch()], "batch_size": 2}
    return readers.EvalReader(dataset=data, **{**defaults, **options})


def numpy_batches(reader):
    return [{key: value.numpy() for key, value in batch.items()} for batch in reader]


def image_ids(reader):
    return [int(i) for batch in reader for i in batch["im_id"].numpy()]


def assert_same(one, two):
    assert len(one) == len(two) > 0
    for a, b in zip(one, two):
        assert a.keys() == b.keys()
        for key in a:
            assert a[key].dtype == b[key].dtype and np.array_equal(a[key], b[key]), key


@pytest.fixture
def ten_images(coco):
    for k in range(10):
        coco.image([[1 + k, 2, 20, 20], [5, 5 + k, 6, 7]][: k % 3])
    return COCODataSet(**coco.arguments(), data_fields=FIELDS, allow_empty=True)


def test_training_batch(ten_images):
    reader = train_reader(ten_images)
    batches = numpy_batches(reader)
    assert len(batches) == len(reader) == 5
    for batch in batches:
        n, _, h, w = batch["image"].shape
        locations = sum(-(-h // stride) * -(-w // stride) for stride in (8, 16, 32, 64, 128))
        assert n == 2 and h % 32 == w % 32 == 0 and batch["image"].dtype == np.float32
        assert batch["im_id"].shape == (2,) and batch["im_id"].dtype == np.int64
        assert batch["im_shape"].shape == batch["scale_factor"].shape == (2, 2)
        assert batch["target_labels"].shape == batch["target_centerness"].shape == (2, locations)
        assert batch["target_distances"].shape == (2, locations, 4)
        most = batch["gt_bbox"].shape[1]
        assert batch["gt_bbox"].shape == (2, most, 4) and batch["gt_class"].shape == (2, most)
        assert not batch["gt_bbox"][batch["gt_class"] < 0].any()
        assert not {"im_file", "h", "w", "curr_iter", "_report"} & batch.keys()


def test_same_batches_from_any_number_of_workers(ten_images):
    here = numpy_batches(train_reader(ten_images))
    assert_same(here, numpy_batches(train_reader(ten_images)))
    assert_same(here, numpy_batches(train_reader(ten_images, worker_num=1)))
    assert_same(here, numpy_batches(train_reader(ten_images, worker_num=2)))
    assert_same(here, numpy_batches(train_reader(ten_images, worker_num=2, use_shared_memory=False)))
    assert_same(here, numpy_batches(train_reader(ten_images, worker_num=1, worker_start="spawn")))


def test_epochs_and_seeds_differ(ten_images):
    reader = train_reader(ten_images, worker_num=2)
    first = numpy_batches(reader)
    assert_same(first, numpy_batches(reader))
    reader.set_epoch(1)
    second = numpy_batches(reader)
    assert [b["im_id"].tolist() for b in first] != [b["im_id"].tolist() for b in second]
    pixels = [{tuple(x) for b in epoch for x in b["im_shape"]} for epoch in (first, second)]
    assert pixels[0] != pixels[1]
    reader.set_epoch(0)
    assert_same(first, numpy_batches(reader))
    assert image_ids(train_reader(ten_images, seed=4)) != image_ids(train_reader(ten_images))


def test_augmentation_of_an_image_changes_with_the_epoch(coco):
    coco.image([[1, 2, 20, 20]])
    reader = train_reader(COCODataSet(**coco.arguments(), data_fields=FIELDS), batch_size=1)
    images = []
    for epoch in range(8):
        reader.set_epoch(epoch)
        images.append(numpy_batches(reader)[0]["image"].tobytes())
    assert len(set(images)) == 8


def test_global_random_state_plays_no_part(ten_images):
    np.random.seed(0)
    one = numpy_batches(train_reader(ten_images))
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    assert_same(one, numpy_batches(train_reader(ten_images)))
    assert np.array_equal(before, np.random.get_state()[1])


def test_ranks_share_the_images(ten_images):
    options = {"world_size": 2, "batch_size": 1}
    shares = [image_ids(train_reader(ten_images, rank=rank, **options)) for rank in (0, 1)]
    assert sorted(shares[0] + shares[1]) == sorted(int(record["im_id"][0]) for record in ten_images.records)
    # An image looks the same whichever rank reads it.
    alone = {int(b["im_id"][0]): b for b in numpy_batches(train_reader(ten_images, batch_size=1))}
    for batch in numpy_batches(train_reader(ten_images, rank=1, **options)):
        assert_same([batch], [alone[int(batch["im_id"][0])]])


@pytest.mark.parametrize("worker_num", [0, 2])
def test_a_loop_may_end_early(ten_images, worker_num):
    reader = train_reader(ten_images, worker_num=worker_num)
    whole = numpy_batches(reader)
    for stop in (0, 2):
        for i, _ in enumerate(reader):
            if i == stop:
                break
        assert_same(whole, numpy_batches(reader))


def test_evaluation_reads_in_order(ten_images):
    ids = [int(record["im_id"][0]) for record in ten_images.records]
    reader = eval_reader(ten_images, batch_size=4, worker_num=1)
    batches = numpy_batches(reader)
    assert [i for batch in batches for i in batch["im_id"]] == ids
    assert len(reader) == len(batches) == 3
    assert batches[0].keys() == {"image", "im_id", "im_shape", "scale_factor"}
    assert image_ids(eval_reader(ten_images, rank=1, world_size=3)) == ids[1::3]


def test_test_batches_look_like_evaluation_batches(ten_images, tmp_path):
    folder = ImageFolder(dataset_dir=str(tmp_path))
    reader = readers.TestReader(
        dataset=folder,
        sample_transforms=[Decode(), Resize(target_size=32), NormalizeImage(), Permute()],
        fuse_normalize=True,
    )
    batch = numpy_batches(reader)[0]
    assert batch.keys() == {"image", "im_id", "im_shape", "scale_factor"}
    assert abs(batch["image"].mean()) < 1, "normalized here even when an exported model does it itself"


def test_no_boxes_at_all(coco):
    coco.image([])
    coco.image([[3, 3, 0, 0]])
    data = COCODataSet(**coco.arguments(), data_fields=FIELDS, allow_empty=True)
    batch = numpy_batches(train_reader(data))[0]
    assert not batch["target_labels"].any() and not batch["target_distances"].any()
    assert (batch["gt_class"] == -1).all()


def test_very_long_image(coco):
    coco.image([[5, 1, 1500, 8], [100, 2, 3, 3]], h=10, w=2000)
    data = COCODataSet(**coco.arguments(), data_fields=FIELDS)
    options = [Decode(), Resize(target_size=[800, 1333]), RandomFlip(), NormalizeImage(), Permute()]
    batch = numpy_batches(train_reader(data, batch_size=1, sample_transforms=options))[0]
    assert batch["image"].shape == (1, 3, 32, 1344)
    assert all(np.isfinite(value).all() for value in batch.values())


def spoil(data, *numbers):
    for number in numbers:
        with open(data.records[number]["im_file"], "wb") as file:
            file.write(b"\x89PNG spoiled")


@pytest.mark.parametrize("worker_num", [0, 2])
def test_unreadable_image_is_replaced_in_training(ten_images, log, worker_num):
    spoil(ten_images, 4)
    reader = train_reader(ten_images, worker_num=worker_num)
    ids = [int(record["im_id"][0]) for record in ten_images.records]
    for _ in range(2):
        assert sorted(image_ids(reader)) == sorted([*ids[:4], ids[5], *ids[5:]])
    assert list(reader.skipped) == [ten_images.records[4]["im_file"]]
    assert len([line for line in log.messages if ten_images.records[4]["im_file"] in line]) == 1


@pytest.mark.parametrize("worker_num", [0, 2])
def test_unreadable_image_is_left_out_of_evaluation(ten_images, log, worker_num):
    os.remove(ten_images.records[9]["im_file"])
    reader = eval_reader(ten_images, worker_num=worker_num, batch_size=3)
    assert image_ids(reader) == [int(record["im_id"][0]) for record in ten_images.records[:9]]
    assert reader.skipped == {ten_images.records[9]["im_file"]: "no such file or directory"}
    assert "no such file" in log.text


@pytest.mark.parametrize("worker_num", [0, 2])
@pytest.mark.parametrize("make", [train_reader, eval_reader])
def test_too_many_unreadable_images_end_the_run(ten_images, worker_num, make):
    spoil(ten_images, 1, 2)
    with pytest.raises(DataError, match=r"2 of 10 images cannot be read, more than 1 %") as failure:
        list(make(ten_images, worker_num=worker_num))
    assert ten_images.records[1]["im_file"] in str(failure.value) and "\n" not in str(failure.value)


@pytest.mark.parametrize(("bad", "good", "fails"), [(2, 198, False), (3, 198, True), (1, 1, False), (2, 1, True)])
def test_limit_of_unreadable_images(tmp_path, bad, good, fails):
    cv2.imwrite(str(tmp_path / "good.png"), np.zeros((8, 8, 3), np.uint8))
    for k in range(good - 1):
        os.link(tmp_path / "good.png", tmp_path / f"good{k}.png")
    for k in range(bad):
        (tmp_path / f"bad{k}.png").write_bytes(b"")
    reader = eval_reader(ImageFolder(dataset_dir=str(tmp_path)), batch_size=50)
    if fails:
        with pytest.raises(DataError, match="more than 1 %"):
            list(reader)
    else:
        assert len(image_ids(reader)) == good and len(reader.skipped) == bad


def test_repeated_images_count_once(coco):
    for _ in range(8):
        coco.image([[1, 2, 20, 20]])
    data = COCODataSet(**coco.arguments(), data_fields=FIELDS, repeat=30)
    spoil(data, 1)
    assert len(image_ids(eval_reader(data, batch_size=8))) == 7 * 30
    spoil(data, 2)
    with pytest.raises(DataError, match="2 of 8 images"):
        list(eval_reader(data))


def test_nothing_readable(ten_images):
    spoil(ten_images, *range(10))
    for make in (train_reader, eval_reader):
        with pytest.raises(DataError, match="cannot be read"):
            list(make(ten_images))


class Failing:
    def __call__(self, sample, rng):
        raise KeyError("gt_mask")


@pytest.mark.parametrize("worker_num", [0, 1])
def test_failing_transform_is_named(ten_images, worker_num):
    reader = train_reader(ten_images, sample_transforms=[Decode(), Failing()], worker_num=worker_num)
    with pytest.raises(RuntimeError, match=r"Failing failed on .*\.png: KeyError\('gt_mask'\)"):
        list(reader)
    reader = train_reader(ten_images, batch_transforms=[Failing()], worker_num=worker_num)
    with pytest.raises(RuntimeError, match="Failing failed on a batch"):
        list(reader)
    reader = train_reader(ten_images, batch_transforms=[], worker_num=worker_num)
    with pytest.raises(DataError, match="add PadBatch"):
        list(reader)


class Dying:
    def __init__(self, parent):
        self.parent = parent

    def __call__(self, sample, rng):
        assert os.getpid() != self.parent
        os.kill(os.getpid(), signal.SIGKILL)


def test_killed_worker_is_an_error(ten_images):
    reader = train_reader(ten_images, sample_transforms=[Dying(os.getpid())], worker_num=1)
    _, first = reader.sampler.batches(0)[0][0]
    name = Path(reader.dataset.records[first]["im_file"]).name
    with pytest.raises(WorkerError, match=rf"signal SIGKILL.*its images: .*{name}"):
        list(reader)
    reader = train_reader(ten_images, worker_num=1)
    assert len(numpy_batches(reader)) == 5, "the next reader works"


def test_workers_of_training_live_on(ten_images):
    reader = train_reader(ten_images, worker_num=2, sample_transforms=[Decode(), WorkerNumber(), Permute()])
    first = {int(pid) for batch in numpy_batches(reader) for pid in batch["pid"].ravel()}
    second = {int(pid) for batch in numpy_batches(reader) for pid in batch["pid"].ravel()}
    assert first == second and len(first) == 2 and os.getpid() not in first


class WorkerNumber:
    def __call__(self, sample, rng):
        sample["pid"] = np.array([os.getpid()])
        return sample


@pytest.mark.parametrize("worker_num", [0, 1])
def test_two_loops_over_one_reader(ten_images, worker_num):
    reader = train_reader(ten_images, worker_num=worker_num)
    pairs = list(zip(reader, reader))
    assert len(pairs) == 5
    for one, two in pairs:
        assert np.array_equal(one["image"].numpy(), two["image"].numpy())


@pytest.mark.parametrize("worker_num", [0, 2])
def test_reading_ahead_as_for_gpus(ten_images, worker_num):
    wanted = numpy_batches(train_reader(ten_images))
    reader = train_reader(ten_images, worker_num=worker_num)
    reader._to_device.read = reader._to_device.prefetch
    for _ in range(2):
        batches = numpy_batches(reader)
        assert len(batches) == len(wanted)
        for batch, expected in zip(batches, wanted):
            assert batch.keys() == expected.keys()
            for key, value in batch.items():
                assert value.dtype == expected[key].dtype and np.allclose(value, expected[key], atol=1e-6), key


class Untouched:
    """A transform that does not declare how it changes pixels: everything before it runs in the worker."""

    def __call__(self, sample, rng):
        return sample


@pytest.mark.parametrize("pad", [[], [PadBatch(pad_to_stride=32)]])
def test_batches_are_the_same_when_the_device_normalizes(ten_images, pad):
    samples = [Decode(), Resize(target_size=[48, 64]), NormalizeImage(), RandomFlip(), Permute()]
    device = train_reader(ten_images, sample_transforms=samples, batch_transforms=pad)
    worker = train_reader(ten_images, sample_transforms=[*samples, Untouched()], batch_transforms=pad)
    assert device._make(device._tasks(0)[0])["image"].dtype == np.uint8
    assert worker._make(worker._tasks(0)[0])["image"].dtype == np.float32
    assert_same(numpy_batches(device), numpy_batches(worker))


def test_wrong_settings(ten_images):
    with pytest.raises(DataError, match="2 classes, the model 1"):
        train_reader(ten_images, num_classes=1)
    with pytest.raises(DataError, match="do not fill one batch"):
        train_reader(ten_images, batch_size=4, world_size=3)
    with pytest.raises(ValueError, match="batch_size"):
        train_reader(ten_images, batch_size=0)


def test_batch_size_does_not_change_an_images_augmentation(ten_images):
    options = {"batch_transforms": [PadBatch(pad_to_stride=128)]}
    ones = {int(b["im_id"][0]): b for b in numpy_batches(train_reader(ten_images, batch_size=1, **options))}
    for batch in numpy_batches(train_reader(ten_images, batch_size=5, **options)):
        for n, identity in enumerate(batch["im_id"]):
            assert np.array_equal(batch["image"][n], ones[int(identity)]["image"][0])


class Greedy:
    def __call__(self, sample, rng):
        np.empty(2**60, np.uint8)


def test_too_little_memory_is_a_line(ten_images):
    with pytest.raises(DataError, match=r"not enough memory for a batch .*: lower worker_num or batch_size$"):
        list(train_reader(ten_images, sample_transforms=[Greedy()]))


def test_a_probability_grows_in_batch_transforms_too(ten_images):
    batches = [GridMask(prob=1.0, upper_iter=7), NormalizeImage(), Permute(), PadBatch(pad_to_stride=32)]
    reader = train_reader(ten_images, sample_transforms=[Decode(), Resize(target_size=64)], batch_transforms=batches)
    assert reader.growing == {"GridMask": 7} and len(list(reader)) == len(reader)
