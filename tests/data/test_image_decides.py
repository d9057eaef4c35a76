"""The image's own size counts: boxes stay in its pixels, whatever size the annotation file gives."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from ppdet.data.loading.reader import EvalReader, TrainReader
from ppdet.data.sources import COCODataSet
from ppdet.data.transforms import Decode, NormalizeImage, PadBatch, Permute, Resize
from ppdet.data.transforms.composing.compose import Compose

H, W = 96, 128
BOXES = [[100, 10, 20, 30], [40, 20, 50, 40]]
SIZES = {"right": (W, H), "swapped": (H, W), "half": (W // 2, H // 2), "double": (2 * W, 2 * H)}


def write(folder, size, boxes=BOXES):
    """Arguments of a data set of two images alike."""
    pixels = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)
    rows, images = [], []
    for identity in (1, 2):
        images.append({"id": identity, "file_name": f"{identity}.png", "width": size[0], "height": size[1]})
        cv2.imwrite(str(folder / f"{identity}.png"), pixels)
        rows += [{"image_id": identity, "category_id": 1, "bbox": box, "iscrowd": 0} for box in boxes]
    content = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "cat"}]}
    (folder / "a.json").write_text(json.dumps(content))
    fields = ["image", "gt_bbox", "gt_class", "is_crowd"]
    return {"dataset_dir": str(folder), "image_dir": ".", "anno_path": "a.json", "data_fields": fields}


@pytest.mark.parametrize("size", SIZES.values(), ids=list(SIZES))
def test_boxes_of_a_sample_do_not_depend_on_the_file(tmp_path, size):
    record = COCODataSet(**write(tmp_path, size)).records[0]
    assert Decode()(dict(record))["gt_bbox"].tolist() == [[100, 10, 120, 40], [40, 20, 90, 60]]
    # Decoding and resizing in one step, as readers do.
    sample = Compose([Decode(), Resize(target_size=[H // 2, W // 2], keep_ratio=False)])(dict(record))
    assert sample["gt_bbox"].tolist() == [[50, 5, 60, 20], [20, 10, 45, 30]]


@pytest.mark.parametrize("worker_num", [0, 2])
@pytest.mark.parametrize("size", SIZES.values(), ids=list(SIZES))
def test_boxes_of_a_batch(tmp_path, size, worker_num):
    """Boxes outside are gone from all fields, and the others keep their classes."""
    data = COCODataSet(**write(tmp_path, size, boxes=[[200, 10, 20, 20], *BOXES, [120, 90, 30, 30], [5, 96, 9, 9]]))
    reader = TrainReader(
        dataset=data,
        sample_transforms=[Decode(), NormalizeImage(), Permute()],
        batch_transforms=[PadBatch(pad_to_stride=32)],
        batch_size=2,
        worker_num=worker_num,
    )
    (batch,) = reader
    expected = [[100, 10, 120, 40], [40, 20, 90, 60], [120, 90, 128, 96]]
    assert batch["gt_bbox"].numpy().tolist() == [expected] * 2
    assert batch["gt_class"].numpy().tolist() == [[0, 0, 0]] * 2 and batch["is_crowd"].shape == [2, 3]


def test_all_boxes_outside_leave_an_image_without_any(tmp_path):
    data = COCODataSet(**write(tmp_path, (1000, 1000), boxes=[[500, 500, 9, 9]]))
    sample = Decode()(dict(data.records[0]))
    assert [sample[key].shape for key in ("gt_bbox", "gt_class", "is_crowd")] == [(0, 4), (0, 1), (0, 1)]


def test_each_thing_is_told_once(tmp_path, log):
    data = COCODataSet(**write(tmp_path, (W // 2, H // 2), boxes=[*BOXES, [200, 10, 20, 20]]))
    decode = Decode()
    log.clear()
    for record in data.records:
        decode(dict(record))
    assert len(log.messages) == 2
    assert "is 96 x 128 pixels, but its annotation says 48 x 64" in log.messages[0]
    assert "1 of its 3 boxes are outside of its 96 x 128 pixels and are dropped" in log.messages[1]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_log_through_the_main_process_and_each_thing_once(tmp_path, log, start):
    data = COCODataSet(**write(tmp_path, (W // 2, H // 2)))
    log.clear()
    reader = EvalReader(
        dataset=data,
        sample_transforms=[Decode(), NormalizeImage(), Permute()],
        batch_size=1,
        worker_num=2 if start == "fork" else 1,
        worker_start=start,
    )
    for _ in range(2 if start == "fork" else 1):  # with new workers
        assert len(list(reader)) == 2
    assert len(log.messages) == 1 and "1.png is 96 x 128 pixels" in log.messages[0]


def test_boxes_drawn_on_the_unturned_pixels_are_clipped_to_these(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # a viewer shows it turned, 128 high and 96 wide
    Image.fromarray(np.zeros((H, W, 3), np.uint8)).save(tmp_path / "x.jpg", exif=exif)
    boxes = np.array([[100, 10, 200, 40]], dtype=np.float32)
    for (h, w), expected in {(H, W): [100, 10, 128, 40], (W, H): [96, 10, 96, 40]}.items():
        sample = Decode()({"im_file": str(tmp_path / "x.jpg"), "h": h, "w": w, "gt_bbox": boxes})
        assert (sample["h"], sample["w"]) == (h, w)
        assert sample["gt_bbox"].tolist() == ([expected] if expected[2] > expected[0] else [])
