"""The images and weights that the reference's numbers were made with."""

import importlib.util
from collections.abc import Callable, Iterable
from pathlib import Path

from ppdet.data.sources import COCODataSet
from ppdet.data.transforms import Compose, Decode, NormalizeImage, PadBatch, Permute, Resize


def load_fill(shared: Path) -> Callable:
    """The function that gives every parameter the value it has in all goldens."""
    spec = importlib.util.spec_from_file_location("fill", shared / "goldens" / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.fill


def prepared_samples(shared: Path, ids: Iterable[int]) -> list[dict]:
    """Training images by COCO id, prepared as the goldens' were: 256x416 at most, padded to 128."""
    data = COCODataSet(
        dataset_dir=str(shared / "data" / "bccd"),
        image_dir="images",
        anno_path="annotations/train.json",
        data_fields=["image", "gt_bbox", "gt_class"],
    )
    records = {int(record["im_id"][0]): record for record in data.records}
    prepare = Compose([Decode(), Resize(target_size=[256, 416]), NormalizeImage(), Permute()])
    return PadBatch(pad_to_stride=128)([prepare(dict(records[int(i)])) for i in ids])
