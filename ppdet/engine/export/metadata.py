"""What an exported file says about itself, so that it can be used without infer_cfg.yml."""

import json
from collections.abc import Mapping
from typing import Any

from ppdet.modeling.architectures.base import DenseDetector


def metadata_of(settings: Mapping[str, Any], model: DenseDetector) -> dict[str, str]:
    """Return texts by key: `metadata_props` of an ONNX file; in OpenVINO's IR, `rt_info` at ["ppdet", "version"], ….

    Lists are written as JSON. Names have no escapes, which not every reader of JSON knows. The keys are those of
    docs/DEPLOY.md, section "Export".

    Args:
        settings: content of infer_cfg.yml, see `settings_of`.
        model: has the settings of NMS, and the locations of its maps.
    """
    normalizations: list[Mapping[str, Any]] = [one for one in settings["Preprocess"] if one["type"] == "NormalizeImage"]
    order = normalizations[0].get("channel_order", "rgb") if normalizations else "rgb"
    values = {
        "version": settings["versions"]["ppdet"],
        "paddle_version": settings["versions"]["paddle"],
        "output": settings["output"],
        "names": json.dumps(settings["label_list"], ensure_ascii=False),
        "category_ids": json.dumps(settings["category_ids"]),
        "preprocess": json.dumps(settings["Preprocess"]),
        "fuse_normalize": json.dumps(settings["fuse_normalize"]),
        "channel_order": order,
        "stride": str(settings["stride"]),
        "image_shape": json.dumps(settings.get("image_shape")),
        **model.nms.described(),
        "draw_threshold": f"{settings['draw_threshold']:g}",
    }
    if "class_thresholds" in settings:
        values["class_thresholds"] = json.dumps(settings["class_thresholds"], ensure_ascii=False)
    if settings["output"] == "boxes":
        values["last_pixel"] = json.dumps(model.locations.last_pixel)
    if settings["output"] == "maps":
        locations = {"strides": list(model.locations.strides), "shift": model.locations.shift}
        values["locations"] = json.dumps({**locations, "even": model.locations.even})
        values["distances_in"] = "strides" if model.distances_in_strides else "pixels"
    return {f"ppdet.{name}": value for name, value in values.items()}
