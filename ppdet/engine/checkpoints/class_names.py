"""Weights remember the names of their classes, and the classes of data sets are put into the order of the weights.

The names are in the manifest beside the weights, and in the header of a .safetensors file.
"""

import json
from pathlib import Path
from typing import Any

from ppdet.data.classes import Classes, mismatch, quote_names
from ppdet.data.sources import DetectionDataset
from ppdet.engine.checkpoints.manifest import MANIFEST, beside, fingerprint, read_sealed, strip_suffix
from ppdet.engine.checkpoints.weights import CheckpointError
from ppdet.utils.disk.download import DownloadError, fetch
from ppdet.utils.formats.safetensors_file import SAFETENSORS, read_metadata
from ppdet.utils.formats.unpickle import RefusedError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
# More than any data set has. Names that differ are compared with all others, to suggest similar ones.
MOST_CLASSES, LONGEST_NAME = 50_000, 200


def classes_of(dataset: DetectionDataset, slot: str) -> Classes:
    """Return the classes of a data set in its own order. `slot` is its key in the configuration: TrainDataset, …"""
    return Classes(list(dataset.class_names), list(dataset.category_ids), source_of(dataset, slot))


def source_of(dataset: DetectionDataset, slot: str) -> str:
    """Return how messages name a data set: "TrainDataset (annotations/train.json)"."""
    return f"{slot} ({dataset.anno_path})" if dataset.anno_path else slot


def classes_of_weights(weights: str | Path) -> Classes | None:
    """Return the classes that weights were trained on.

    Args:
        weights: a file, a URL, or a path without its suffix.

    Returns:
        None if they are not known: the weights are of another code base or an early version, or the manifest is
        damaged or belongs to other weights.
    """
    path = fetch(str(weights))
    source = f"the weights {path}"
    return _from_header(path, source) or _from_manifest(strip_suffix(str(path)), source, path)


def classes_of_local_weights(weights: str | None) -> Classes | None:
    """As `classes_of_weights`, but None if the weights would have to be downloaded or do not exist."""
    if not weights or "://" in weights:
        return None
    try:
        return classes_of_weights(weights)
    except DownloadError:
        return None  # loading the weights raises it again


def classes_of_checkpoint(prefix: Path) -> Classes | None:
    """Return the classes of a checkpoint's run from its manifest; None if they are not known."""
    return _from_manifest(prefix, f"the checkpoint {prefix}")


def log_unknown_classes(weights: str | Path) -> None:
    """Log why `classes_of_weights` returned None: as a warning if a manifest is damaged or belongs to other weights."""
    manifest = beside(strip_suffix(str(fetch(str(weights)))), MANIFEST)
    try:
        is_unusable = "classes" in read_sealed(manifest)
    except FileNotFoundError:
        is_unusable = False
    except (OSError, CheckpointError):
        is_unusable = True
    if is_unusable:
        logger.warning(
            "%s is damaged, cannot be read, or belongs to other weights: the classes of these weights are not known, "
            "and the data set's order of classes is used",
            manifest,
        )
    else:
        logger.info("%s: these weights do not name their classes: the data set's order of classes is used", weights)


def as_json(classes: Classes) -> dict[str, list]:
    """Return the classes as stored in manifests and headers, which `_parse` reads."""
    return {"names": classes.names, "category_ids": classes.category_ids}


def _from_header(path: Path, source: str) -> Classes | None:
    if path.suffix != SAFETENSORS:
        return None
    try:
        return _parse(json.loads(read_metadata(path).get("classes", "null")), source)
    except (OSError, ValueError, RecursionError, RefusedError):
        return None  # reading the arrays raises an error that says what is wrong


def _from_manifest(prefix: Path, source: str, weights: Path | None = None) -> Classes | None:
    try:
        content = read_sealed(beside(prefix, MANIFEST))
        classes = _parse(content.get("classes"), source)
        if classes and weights and content["files"][weights.name[len(prefix.name) :]] != fingerprint(weights):
            return None  # the weights were replaced by others
        return classes
    except (OSError, CheckpointError, RecursionError, KeyError, TypeError, AttributeError):
        return None


def _parse(content: Any, source: str) -> Classes | None:
    """Parse a value of `as_json`; None for anything else."""
    if not isinstance(content, dict):
        return None
    names, category_ids = content.get("names") or [], content.get("category_ids") or []
    if not (isinstance(names, list) and all(type(name) is str and len(name) <= LONGEST_NAME for name in names)):
        return None
    if not (isinstance(category_ids, list) and all(map(_is_id, category_ids))) or len(names) > MOST_CLASSES:
        return None
    return Classes(names, category_ids, source) if names and len(names) == len(category_ids) else None


def _is_id(value: Any) -> bool:
    """Whether a value can be a COCO id, as an int64."""
    return type(value) is int and -(2**63) <= value < 2**63


def use_classes_of_weights(dataset: DetectionDataset, slot: str, classes: Classes | None) -> None:
    """Put the classes of a data set into the order of the weights, so that class 0 means the same in both.

    A data set without class names (TestDataset without annotations) gets the classes of the weights, and one that is
    only a list of names gets their category ids. Where the names differ, a warning says so, and the data set keeps its
    order.

    Args:
        slot: key of the data set in the configuration, such as EvalDataset.
        classes: the classes the weights were trained on; None, if unknown, leaves the order unchanged.
    """
    if classes is None:
        return
    if not dataset.class_names:
        dataset.class_names, dataset.category_ids = list(classes.names), list(classes.category_ids)
        return
    source = source_of(dataset, slot)
    problem = mismatch(dataset.class_names, source, classes)
    if problem:
        logger.warning(
            "the weights were trained on other classes: %s. Detections have the class numbers of the weights and the "
            "class names of %s: set the file that the weights were trained on, or one with its names",
            problem,
            source,
        )
    else:
        reorder_classes(dataset, slot, classes)
    if not dataset.has_category_ids and len(dataset.class_names) == len(classes.names):
        dataset.category_ids = list(classes.category_ids)


def reorder_classes(dataset: DetectionDataset, slot: str, classes: Classes) -> None:
    """Put the classes of a data set, which have the same names, into the order of `classes`, and log it."""
    if dataset.class_names != classes.names:
        sources = source_of(dataset, slot), classes.source
        logger.info(
            "%s numbers its classes differently from %s: mapped by name (%s)", *sources, quote_names(classes.names)
        )
        dataset.use_classes(classes.names)


def warn_of_pretrained_classes(weights: str, classes: Classes, *, makes_labels: bool) -> None:
    """Warn if a run starts from a whole detector whose classes are numbered differently.

    Args:
        weights: the value of pretrain_weights.
        classes: classes of the training run.
        makes_labels: the detector is the teacher of semi-supervised training, which labels images from the start.
    """
    pretrained = classes_of_weights(weights)
    if pretrained is None or pretrained.names == classes.names:
        return
    problem = mismatch(classes.names, classes.source, pretrained)
    if not problem:
        logger.warning(
            "%s and %s number the same classes in different ways (%s; %s): the pretrained classification has to be "
            "learned anew; give the categories of both files the same ids to keep it",
            *(classes.source, pretrained.source, quote_names(classes.names), quote_names(pretrained.names)),
        )
    elif makes_labels:
        logger.warning("the teacher starts from pretrain_weights of other classes, which it will label: %s", problem)
