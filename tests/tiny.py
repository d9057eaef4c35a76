"""A detector and a data set small enough to train in a test."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np


def write_tiny_coco(folder: Path, *, images: int = 8, size: tuple[int, int] = (96, 128), seed: int = 0) -> Path:
    """A COCO data set of colored rectangles: classes red (category 3) and blue (category 7), 1 to 3 boxes each."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    content = {"images": [], "annotations": [], "categories": [{"id": 3, "name": "red"}, {"id": 7, "name": "blue"}]}
    height, width = size
    for number in range(1, images + 1):
        image = rng.integers(90, 160, (height, width, 3), dtype=np.uint8)
        for _ in range(rng.integers(1, 4)):
            w, h = (int(v) for v in rng.integers(20, 60, 2))
            x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
            category, color = ((3, (20, 20, 230)), (7, (230, 20, 20)))[int(rng.integers(2))]
            image[y : y + h, x : x + w] = color
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number,
                    "category_id": category,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                }
            )
        name = f"{number:03d}.png"
        cv2.imwrite(str(folder / "images" / name), image)
        content["images"].append({"id": number, "file_name": name, "width": width, "height": height})
    (folder / "train.json").write_text(json.dumps(content))
    return folder


OTHER_ORDER = {3: 30, 7: 5}  # category ids; blue comes first


def rewrite(
    folder: Path, name: str, *, ids: dict | None = None, names: dict | None = None, more: Sequence[str] = ()
) -> str:
    """Write train.json of a tiny data set under another name, with other category ids or names; return the option."""
    content = json.loads((folder / "train.json").read_text())
    for category in content["categories"]:
        category["name"] = (names or {}).get(category["name"], category["name"])
        category["id"] = (ids or {}).get(category["id"], category["id"])
    for annotation in content["annotations"]:
        annotation["category_id"] = (ids or {}).get(annotation["category_id"], annotation["category_id"])
    content["categories"] += [{"id": 90 + i, "name": name} for i, name in enumerate(more)]
    (folder / name).write_text(json.dumps(content))
    return f"anno_path={name}"


TINY_YAML = """
architecture: FCOS
pretrain_weights: null
num_classes: 2
epoch: 2
log_iter: 1
worker_num: 0
use_gpu: false
save_dir: {output}
ResNet: {{depth: 18, freeze_at: -1, freeze_norm: false, num_stages: 3, return_idx: [1, 2]}}
FPN: {{out_channel: 32, extra_stage: 1}}
FCOSHead: {{fcos_feat: {{name: FCOSFeat, feat_in: 32, feat_out: 32, num_convs: 1}}, fpn_stride: [8, 16, 32]}}
LearningRate: {{base_lr: 0.01, schedulers: [!LinearWarmup {{steps: 2, start_factor: 0.1}}]}}
OptimizerBuilder: {{optimizer: {{type: Momentum, momentum: 0.9}}, clip_grad_by_norm: 10.0}}
TrainDataset: &data !COCODataSet
  dataset_dir: {data}
  image_dir: images
  anno_path: train.json
  data_fields: [image, gt_bbox, gt_class, is_crowd]
EvalDataset: *data
TestDataset: !ImageFolder {{dataset_dir: {data}, anno_path: train.json}}
TrainReader:
  sample_transforms: [Decode: {{}}, NormalizeImage: {{}}, RandomFlip: {{}}, Permute: {{}}]
  batch_transforms:
  - PadBatch: {{pad_to_stride: 32}}
  - Gt2FCOSTarget: {{object_sizes_boundary: [40, 80], downsample_ratios: [8, 16, 32]}}
  batch_size: 2
EvalReader: &eval
  sample_transforms: [Decode: {{}}, NormalizeImage: {{}}, Permute: {{}}]
  batch_transforms: [PadBatch: {{pad_to_stride: 32}}]
  batch_size: 2
TestReader: *eval
"""

# What makes TINY_YAML a semi-supervised configuration, from the first step on; {unlabeled} is a tiny data set too.
TINY_SEMI_YAML = """
ssod_method: DenseTeacher
use_simple_ema: true
ema_decay: 0.9
DenseTeacher: {{train_cfg: {{ratio: 0.05}}}}
UnsupTrainDataset: !SemiCOCODataSet
  dataset_dir: {unlabeled}
  image_dir: images
  anno_path: train.json
  data_fields: [image]
  supervised: false
SemiTrainReader:
  sample_transforms: [Decode: {{}}, RandomFlip: {{}}]
  weak_aug: [NormalizeImage: {{}}]
  strong_aug: [RandomDistort: {{}}, NormalizeImage: {{}}]
  sup_batch_transforms:
  - Permute: {{}}
  - PadBatch: {{pad_to_stride: 32}}
  - Gt2FCOSTarget: {{object_sizes_boundary: [40, 80], downsample_ratios: [8, 16, 32]}}
  unsup_batch_transforms: [Permute: {{}}, PadBatch: {{pad_to_stride: 32}}]
  sup_batch_size: 2
  unsup_batch_size: 3
"""


def write_tiny_semi(folder: Path) -> Path:
    """Path of a semi-supervised configuration: 8 labeled images, 7 without labels; output goes to folder/output."""
    data = write_tiny_coco(folder / "data")
    unlabeled = write_tiny_coco(folder / "unlabeled", images=7, size=(64, 96), seed=1)
    path = folder / "tiny_semi.yml"
    text = TINY_YAML + TINY_SEMI_YAML
    path.write_text(text.format(output=folder / "output", data=data, unlabeled=unlabeled))
    return path
