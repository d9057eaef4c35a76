import logging

import numpy as np
import pytest

from ppdet.data.sources import COCODataSet
from ppdet.data.transforms import Decode
from ppdet.utils.errors import DataError, UserError

FIELDS = ["image", "gt_bbox", "gt_class", "is_crowd"]


@pytest.fixture
def log(caplog):
    """Lines logged by ppdet, whose loggers do not propagate."""
    logger = logging.getLogger("ppdet")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def test_records(coco):
    first = coco.image([[1, 2, 10, 20], [5, 5, 6, 7]], category=90)
    second = coco.image([[0, 0, 64, 48]], category=7)
    data = COCODataSet(**coco.arguments(), data_fields=FIELDS)
    assert len(data) == 2
    assert (data.category_ids, data.class_names) == ([7, 90], ["disc", "square"])
    one, two = data.records
    assert one["im_id"].tolist() == [first] and two["im_id"].tolist() == [second]
    assert (one["h"], one["w"]) == (48, 64)
    assert one["im_file"] == str(coco.folder / "images" / f"{first:04d}.png")
    assert one["gt_bbox"].tolist() == [[1, 2, 11, 22], [5, 5, 11, 12]] and one["gt_bbox"].dtype == np.float32
    assert one["gt_class"].tolist() == [[1], [1]] and two["gt_class"].tolist() == [[0]]
    assert data.anno_path == str(coco.folder / "train.json")


def test_data_fields_choose_what_records_hold(coco):
    coco.image([[1, 2, 10, 20]])
    assert set(COCODataSet(**coco.arguments()).records[0]) == {"im_id", "im_file", "h", "w"}
    assert "gt_class" not in COCODataSet(**coco.arguments(), data_fields=["gt_bbox"]).records[0]
    with pytest.raises(ValueError, match="gt_pol"):
        COCODataSet(**coco.arguments(), data_fields=["gt_poly"])


def test_boxes_stay_in_pixels_until_the_image_is_read_and_what_is_unusable_is_counted_in_one_line(coco, log):
    nan, infinity = float("nan"), float("inf")
    coco.image(
        [
            [10, 10, 20, 20],  # fine
            [60, 40, 20, 20],  # reaches beyond
            [-5, -5, 10, 10],  # reaches beyond
            [5, 5, 0, 0],  # no area
            [5, 5, -3, 4],  # negative
            [70, 5, 10, 10],  # outside of this image, if it is as large as the file says
            [-20, 5, 10, 10],  # outside of every image
            [nan, 1, 2, 3],
            [1, 2, infinity, 3],
            [None, 2, 3, 3],
        ]
    )
    coco.content["annotations"].append({"id": 99, "image_id": 4711, "category_id": 7, "bbox": [1, 1, 5, 5]})
    record = COCODataSet(**coco.arguments(), data_fields=FIELDS).records[0]
    assert record["gt_bbox"].tolist() == [[10, 10, 30, 30], [60, 40, 80, 60], [0, 0, 5, 5], [70, 5, 80, 15]]
    assert len(log.messages) == 1
    assert "4 boxes" in log.text and "dropped 6" in log.text and "3 reach beyond" in log.text
    assert "1 annotations of images not in the file" in log.text
    sample = Decode()(dict(record))
    assert sample["gt_bbox"].tolist() == [[10, 10, 30, 30], [60, 40, 64, 48], [0, 0, 5, 5]]
    assert len(sample["gt_class"]) == len(sample["is_crowd"]) == 3 and len(record["gt_bbox"]) == 4
    assert "1 of its 4 boxes are outside of its 48 x 64 pixels" in log.messages[1]


def test_empty_images(coco):
    for boxes in ([[1, 1, 5, 5]], [], [[3, 3, 0, 0]], [[1, 1, 5, 5]], [], []):
        coco.image(boxes)

    def ids(**options):
        return [int(record["im_id"][0]) for record in COCODataSet(**coco.arguments(), **options).records]

    assert ids() == [10, 19]
    assert ids(allow_empty=True) == [10, 13, 16, 19, 22, 25]
    assert ids(allow_empty=True, empty_ratio=-1) == ids(allow_empty=True)
    half = ids(allow_empty=True, empty_ratio=0.5)
    assert {10, 19} < set(half) and len(half) == 4 and half == sorted(half)
    assert half == ids(allow_empty=True, empty_ratio=0.5)
    assert ids(allow_empty=True, empty_ratio=0.0) == [10, 19]
    assert ids(sample_num=1) == [10]
    assert ids(allow_empty=True, sample_num=2) == [10, 13]
    assert ids(repeat=3) == [10, 19] * 3
    record = COCODataSet(**coco.arguments(), allow_empty=True, data_fields=FIELDS).records[1]
    assert record["gt_bbox"].shape == (0, 4) and record["gt_class"].shape == (0, 1)


def test_crowds(coco):
    coco.image([[1, 1, 5, 5]])
    coco.image([[2, 2, 6, 6]], iscrowd=1)
    assert len(COCODataSet(**coco.arguments(), data_fields=FIELDS)) == 1
    records = COCODataSet(**coco.arguments(), data_fields=FIELDS, load_crowd=True).records
    assert [record["is_crowd"].tolist() for record in records] == [[[0]], [[1]]]


def test_list_of_images_without_annotations(coco):
    coco.image([])
    del coco.content["annotations"]
    assert len(COCODataSet(**coco.arguments())) == 1
    with pytest.raises(DataError, match="annotations"):
        COCODataSet(**coco.arguments(), data_fields=FIELDS)


def test_missing_paths_say_what_to_do(coco, tmp_path):
    coco.image([[1, 1, 5, 5]])
    arguments = coco.arguments()
    with pytest.raises(DataError, match=r"dataset/coco/download_coco\.py"):
        COCODataSet(**{**arguments, "dataset_dir": str(tmp_path / "coco")})
    with pytest.raises(DataError, match=r"-o TrainDataset\.dataset_dir=") as failure:
        COCODataSet(**{**arguments, "dataset_dir": "/nowhere/else"})
    assert "download_coco" not in str(failure.value) and isinstance(failure.value, UserError)
    with pytest.raises(DataError, match=r"val\.json does not exist"):
        COCODataSet(**{**arguments, "anno_path": "val.json"})
    with pytest.raises(DataError, match=r"image folder .*pictures does not exist"):
        COCODataSet(**{**arguments, "image_dir": "pictures"})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: [], "expected an object"),
        (lambda content: {**content, "images": None}, "no list 'images'"),
        (lambda content: {**content, "categories": []}, "no list 'categories'"),
        (lambda content: {**content, "annotations": 3}, "'annotations' is not a list"),
        (lambda content: {**content, "images": [{"id": 1}]}, "image 0 has no 'file_name'"),
        (lambda content: {**content, "images": content["images"] * 2}, "two images have the same id"),
        (lambda content: {**content, "categories": content["categories"] * 2}, "two categories"),
        (lambda content: {**content, "categories": [{"id": "7", "name": "x"}]}, "id of category 0 is '7'"),
        (lambda content: _spoil_annotation(content, bbox=[1, 2, 3]), "annotation 0 has bbox"),
        (lambda content: _spoil_annotation(content, bbox=["a", 2, 3, 4]), "not a number"),
        (lambda content: _spoil_annotation(content, category_id=8), "category_id 8"),
        (lambda content: _spoil_annotation(content, image_id=[3]), "image_id of annotation 0"),
    ],
)
def test_wrong_files_give_one_line(coco, spoil, message):
    coco.image([[1, 1, 5, 5]])
    with pytest.raises(DataError, match=message) as failure:
        COCODataSet(**coco.arguments(spoil(coco.content)))
    assert "\n" not in str(failure.value) and "train.json" in str(failure.value)


def _spoil_annotation(content, **values):
    return {**content, "annotations": [{**content["annotations"][0], **values}]}


def test_not_json(coco):
    coco.image([[1, 1, 5, 5]])
    arguments = coco.arguments()
    (coco.folder / "train.json").write_text('{"images": [')
    with pytest.raises(DataError, match=r"train\.json is not JSON"):
        COCODataSet(**arguments)
    (coco.folder / "train.json").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(DataError, match=r"train\.json is not JSON"):
        COCODataSet(**arguments)


def test_no_image_left(coco):
    coco.image([])
    with pytest.raises(DataError, match="it has no annotations"):
        COCODataSet(**coco.arguments(), data_fields=FIELDS)


def test_bccd_has_one_box_without_area(shared, log):
    folder = shared / "data" / "bccd"
    data = COCODataSet(
        dataset_dir=str(folder), image_dir="images", anno_path="annotations/train.json", data_fields=FIELDS
    )
    assert len(data) == 205
    assert sum(len(record["gt_bbox"]) for record in data.records) == 2804
    assert data.class_names == ["Platelets", "RBC", "WBC"]
    assert "dropped 1 " in log.text
