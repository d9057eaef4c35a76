"""Honest JSON files: annotations, results, histories, a run, and options of another project."""

from functools import cache
from typing import Any

import cv2
import numpy as np

SIZE = (24, 32)  # height, width of the images
IMAGES = 3


@cache
def honest() -> dict[str, Any]:
    """Annotations of small images: two classes, crowds, and everything else that COCO has."""
    boxes = [(1, 3, [2, 3, 10, 8]), (1, 7, [0, 0, 5.5, 20]), (2, 3, [12.25, 4, 12, 12]), (3, 7, [1, 1, 30, 22])]
    return {
        "info": {"year": 2020},
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": SIZE[1], "height": SIZE[0]} for i in range(1, IMAGES + 1)
        ],
        "annotations": [
            {
                "id": i,
                "image_id": image,
                "category_id": label,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": i % 2 * (i > 2),
            }
            for i, (image, label, box) in enumerate(boxes, 1)
        ],
        "categories": [{"id": 3, "name": "red"}, {"id": 7, "name": "blue", "supercategory": "color"}],
    }


@cache
def picture() -> bytes:
    return cv2.imencode(".png", np.full((*SIZE, 3), 90, np.uint8))[1].tobytes()


RESULTS = [
    {
        "image_id": 1,
        "category_id": 3,
        "bbox": [2, 3, 10, 8],
        "score": 0.9,
        "file_name": "1.png",
        "category_name": "red",
    },
    {"image_id": 2, "category_id": 7, "bbox": [0, 0, 5, 5], "score": 0.5},
]
PLACE = {"time": "2026-01-01T00:00:00", "iteration": 2, "steps_per_epoch": 2, "epoch": 1, "step": 2}
SPEED = {"learning_rate": 0.01, "seconds_per_step": 0.5, "images_per_second": 4.0, "data_share": 0.1}
HISTORY = [
    {"event": "report", **PLACE, **SPEED, "losses": {"loss": 1.5}, "max_mem_mib": {"allocated": 5.0}},
    {"event": "evaluation", **PLACE, "numbers": {"AP": 0.5, "AP50": 0.7, "AP75": None}},
    {"event": "pseudo_labels", **PLACE, "figures": {"precision": 0.5}},
]
LATER = [{"epoch": 1, "weights": "0.pdparams", "sha256": "0" * 64, "configuration": "0" * 64, "numbers": {"AP": 0.1}}]
RUN = {
    **{
        "id": "0" * 32,
        "resumed_from": None,
        "resumed_files": None,
        "pretrained_from": None,
        "started_in": [".", "/tmp"],
    },
    "sha256": "0",
}
OPTIONS = {
    **{"epoches": 12, "nbatch_train": 16, "nbatch_eval": 8, "num_workers": 16, "lr_base": 0.01, "lr_gamma": 0.1},
    **{"lr_schedule": [60000, 80000], "momentum": 0.9, "weight_decay": 0.0001, "grad_clip": 3.0, "boxarea_th": 32.0},
    **{
        "img_scale_min": 0.8,
        "view_size": 1025,
        "pretrain": True,
        "freeze_bn": True,
        "freeze_stages": 1,
        "device": [0, 1],
    },
}
