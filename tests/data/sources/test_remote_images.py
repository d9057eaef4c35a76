"""Data sets whose images are in object storage give what they give with images on a disk."""

import fsspec
import numpy as np
import pytest

from ppdet.data.header_size import image_size
from ppdet.data.loading import reader as readers
from ppdet.data.sources import COCODataSet, ImageFolder, SemiCOCODataSet
from ppdet.data.transforms import Decode, Gt2FCOSTarget, NormalizeImage, PadBatch, Permute, RandomFlip, Resize
from ppdet.data.transforms.decode import read_image
from ppdet.utils.errors import DataError, ImageError

FIELDS = ["image", "gt_bbox", "gt_class"]


@pytest.fixture(params=["memory://bucket/images", "file"])
def place(request, tmp_path, monkeypatch, coco):
    """Six images with a box in object storage, and their URL; coco has them on the disk."""
    monkeypatch.setenv("PPDET_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(6):
        coco.image([[number, 2, 20, 20]])
    folder = coco.folder / "images"
    if request.param == "file":
        return f"file://{folder}"
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    for path in sorted(folder.iterdir()):
        fs.pipe_file(f"/bucket/images/{path.name}", path.read_bytes())
    return request.param


def batches(reader):
    return [{key: value.numpy() for key, value in batch.items()} for batch in reader]


def check_same(one, other):
    assert len(one) == len(other) > 0
    for mine, yours in zip(one, other, strict=True):
        assert mine.keys() == yours.keys()
        for key, value in mine.items():
            np.testing.assert_array_equal(value, yours[key], err_msg=key)


@pytest.mark.parametrize("workers", [0, 2])
def test_training(coco, place, workers):
    def read(**options):
        data = COCODataSet(**{**coco.arguments(), **options}, data_fields=FIELDS)
        transforms = [Decode(), RandomFlip(), NormalizeImage(), Permute()]
        reader = readers.TrainReader(
            dataset=data,
            sample_transforms=transforms,
            batch_transforms=[PadBatch(pad_to_stride=32), Gt2FCOSTarget()],
            batch_size=2,
            seed=1,
            worker_num=workers,
        )
        return batches(reader)

    check_same(read(image_dir=place), read())


def test_evaluation_and_images_without_boxes(coco, place):
    transforms = [Decode(), Resize(target_size=[32, 64]), NormalizeImage(), Permute()]
    options = {"sample_transforms": transforms, "batch_transforms": [PadBatch()], "batch_size": 2}
    remote = COCODataSet(**{**coco.arguments(), "image_dir": place}, data_fields=FIELDS)
    local = COCODataSet(**coco.arguments(), data_fields=FIELDS)
    check_same(*(batches(readers.EvalReader(dataset=data, **options)) for data in (remote, local)))
    folder = str(coco.folder / "images")
    found = batches(readers.TestReader(dataset=ImageFolder(image_dir=place), **options))
    check_same(found, batches(readers.TestReader(dataset=ImageFolder(image_dir=folder), **options)))
    unlabeled = [SemiCOCODataSet(image_dir=one, supervised=False) for one in (place, folder)]
    assert [r["im_file"].rpartition("/")[2] for r in unlabeled[0].records] == [
        r["im_file"].rpartition("/")[2] for r in unlabeled[1].records
    ]
    assert unlabeled[0].records[0]["im_file"].startswith(place)
    for one, other in zip(*(data.records for data in unlabeled), strict=True):
        assert image_size(one["im_file"]) == image_size(other["im_file"])


def test_images_that_cannot_be_read_are_counted(coco, place):
    data = COCODataSet(**{**coco.arguments(), "image_dir": place}, data_fields=FIELDS)
    missing = data.records[2]["im_file"]
    if place.startswith("memory"):
        fsspec.filesystem("memory").rm(missing.removeprefix("memory:/"))
    else:
        (coco.folder / "images" / missing.rpartition("/")[2]).unlink()
    reader = readers.EvalReader(dataset=data, sample_transforms=[Decode(), NormalizeImage(), Permute()],
                        batch_transforms=[PadBatch()], batch_size=1)  # fmt: skip
    assert len(batches(reader)) == 5
    assert list(reader.skipped) == [missing] and "no such file" in reader.skipped[missing]


def test_a_damaged_image_that_is_replaced_in_the_storage_is_read(coco, place):
    record = COCODataSet(**{**coco.arguments(), "image_dir": place}, data_fields=FIELDS).records[3]
    fs, path = fsspec.core.url_to_fs(record["im_file"])
    right = fs.cat_file(path)
    for data in (b"", right[:60], right[:-20]):
        fs.pipe_file(path, data)
        for read in (Decode(), lambda record: read_image(record["im_file"])):
            with pytest.raises(ImageError, match=r"empty|truncated"):
                read(dict(record))
    fs.pipe_file(path, right)
    assert Decode()(dict(record))["image"].shape == (record["h"], record["w"], 3)


def test_a_data_set_dir_is_on_a_disk(coco, place):
    with pytest.raises(DataError, match="annotations are read from this disk; give image_dir the URL"):
        COCODataSet(**{**coco.arguments(), "dataset_dir": place, "image_dir": "images"}, data_fields=FIELDS)


def test_an_empty_folder(place):
    with pytest.raises(DataError, match="no image in memory://empty"):
        SemiCOCODataSet(image_dir="memory://empty", supervised=False)
