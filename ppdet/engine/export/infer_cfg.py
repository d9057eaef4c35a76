"""infer_cfg.yml of an exported folder: preprocessing, classes, and the graph's outputs.

PaddleDetection's deployment code reads these files too, and needs some keys that ours does not use.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import paddle

import ppdet
from ppdet.core.config import Config
from ppdet.data.sources import DetectionDataset
from ppdet.data.transforms.batches.pad_batch import PadBatch
from ppdet.data.transforms.decode import Decode
from ppdet.data.transforms.geometry.resize import Resize
from ppdet.data.transforms.normalize import NormalizeImage, Permute
from ppdet.deploy.operations import entry_of, modules_of
from ppdet.deploy.tta import Suppression
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)


def settings_of(
    cfg: Config,
    dataset: DetectionDataset,
    transforms: Sequence[Any],
    *,
    size: tuple[int, int] | None,
    fuse_normalize: bool,
    output: str,
    precision: str,
    stride: int,
    nms: Suppression,
    class_thresholds: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Return the content of infer_cfg.yml.

    Args:
        dataset: has the classes.
        transforms: the transforms that are not part of the graph.
        size: (height, width) of the graph's input; None for any.
        fuse_normalize: the graph normalizes images itself.
        output: see `ExportedDetector`.
        precision: the precision in which a `Detector` computes by default.
        stride: the number of which the height and width of the graph's input are multiples.
        nms: what the graph's NMS does, which merging of views does too (docs/TTA.md).
        class_thresholds: the least score of a detection that is worth showing, by names of classes.

    Raises:
        DeployError: TestReader has a transform that cannot be exported, see `entry_of`.
    """
    labels, category_ids = dataset.class_names, dataset.category_ids
    if not labels:
        logger.warning("TestDataset.anno_path names no classes: in infer_cfg.yml they are called 0, 1, …")
        category_ids = list(range(cfg["num_classes"]))
        labels = [str(i) for i in category_ids]
    preprocess = describe_transforms(transforms)
    modules = modules_of(preprocess)
    return {
        "mode": "paddle",
        "draw_threshold": 0.5,
        **({"class_thresholds": dict(class_thresholds)} if class_thresholds else {}),
        "metric": cfg["metric"],
        "use_dynamic_shape": size is None,
        **({} if size is None else {"image_shape": [3, *size]}),
        "arch": cfg["architecture"],
        "min_subgraph_size": 3,
        **({"requires": modules} if modules else {}),
        "Preprocess": preprocess,
        "label_list": list(labels),
        "category_ids": list(category_ids),
        "fuse_normalize": fuse_normalize,
        "output": output,
        "precision": precision,
        "stride": stride,
        **({"nms": nms.described()} if output == "detections" else {}),
        "versions": {"ppdet": ppdet.__version__, "paddle": paddle.__version__},
    }


def describe_transforms(transforms: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the Preprocess list of infer_cfg.yml; transforms from outside become what `entry_of` returns."""
    described: list[dict[str, Any]] = []
    for t in transforms:
        if isinstance(t, Resize):
            sizes = {"target_size": list(t.target_size), "keep_ratio": t.keep_ratio, "interp": t.interp}
            described.append({"type": "Resize", **sizes})
        elif isinstance(t, NormalizeImage):
            # PaddleDetection does not know channel_order; its order is always RGB.
            order = {"channel_order": t.channel_order} if t.normalization.is_bgr else {}
            values = {"mean": t.mean, "std": t.std, "is_scale": t.is_scale, "norm_type": t.norm_type}
            described.append({"type": "NormalizeImage", **values, **order})
        elif isinstance(t, Permute):
            described.append({"type": "Permute"})
        elif isinstance(t, PadBatch):
            size = {"size": list(t.pad_to_size)} if t.pad_to_size else {}
            described.append({"type": "PadStride", "stride": t.pad_to_stride, **size})
        elif not isinstance(t, Decode):
            described.append(entry_of(t))
    return described


def warn_if_too_small(size: tuple[int, int] | None, transforms: Sequence[Any]) -> None:
    """Warn where TestReader resizes images to more than a graph of fixed size accepts."""
    resize = next((t for t in transforms if isinstance(t, Resize)), None)
    if size is None or resize is None:
        return
    sides, room = (sorted(pair) if resize.keep_ratio else list(pair) for pair in (resize.target_size, size))
    if sides[0] > room[0] or sides[1] > room[1]:
        logger.warning(
            "TestReader resizes images to %dx%d, but the graph takes %dx%d at most and will refuse larger ones: set "
            "input_size (or target_size), or a larger TestReader.inputs_def.image_shape",
            *(*resize.target_size, *size),
        )
