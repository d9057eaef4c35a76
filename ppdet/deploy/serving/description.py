"""What GET /model tells about the model."""

from contextlib import suppress
from typing import Any

import numpy as np

from ppdet.data.classes import category_id
from ppdet.deploy.preprocess import Preprocess, Size
from ppdet.deploy.serving.limits import too_busy
from ppdet.deploy.serving.service import Service
from ppdet.utils.class_thresholds import usual_threshold
from ppdet.utils.errors import DeployError


def describe_model(service: Service) -> dict[str, Any]:
    """Name, versions, classes, engine, input size and default threshold of the model that a service runs.

    Raises:
        Refused: the model has not run yet, so that its engine is not known.
    """
    if service.info is None:
        raise too_busy(service.obstacle or "the model's process is starting")
    settings, ids = service.infer_cfg, service.category_ids
    thresholds = np.broadcast_to(service.thresholds, len(service.class_names)).tolist()
    versions = settings.get("versions")
    return {
        "name": service.served.folder.resolve().name,
        "architecture": text_or_none(settings.get("arch")),
        "versions": {
            name: text_or_none(versions.get(name) if isinstance(versions, dict) else None)
            for name in ("ppdet", "paddle")
        },
        "classes": [
            {"class": label, "name": name, "category_id": category_id(label, ids), "threshold": threshold}
            for label, (name, threshold) in enumerate(zip(service.class_names, thresholds))
        ],
        "engine": service.info.backend,
        "device": service.info.device,
        "precision": service.info.precision,
        "input_size": input_size(Preprocess(settings)),
        "threshold": usual_threshold(settings),
    }


def input_size(preprocess: Preprocess) -> dict[str, Any] | None:
    """To which sizes images are resized and padded; None if they keep their own sizes."""
    with suppress(DeployError):
        _, usual, largest = preprocess.sizes()
        return {"usual": as_sides(usual), "largest": as_sides(largest), "fixed": preprocess.fixed_size is not None}
    return None


def as_sides(size: Size) -> dict[str, int]:
    return {"width": size[1], "height": size[0]}


def text_or_none(value: object) -> str | None:
    """The text of a value that any writer of infer_cfg.yml may have chosen; None if it is missing."""
    return None if value is None else str(value)[:100]
