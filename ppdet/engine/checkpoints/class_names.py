"""Weights remember the names of their classes, and data sets are brought into their order."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ppdet.data.classes import Classes, listed, mismatch
from ppdet.data.sources import DetectionDataset
from ppdet.engine.checkpoints.manifest import MANIFEST, beside, describe, read_sealed, strip_suffix
from ppdet.engine.checkpoints.weights import CheckpointError
from ppdet.utils.disk.download import DownloadError, fetch
from ppdet.utils.formats.safetensors_file import SAFETENSORS
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
MAX_BYTES = 16 * 2**20  # of a manifest; a larger .json beside weights is something else


def classes_of(dataset: DetectionDataset, slot: str) -> Classes:
    """The classes of a data set, in its order."""
    return Classes(list(dataset.class_names), list(dataset.category_ids), source_of(dataset, slot))


def source_of(dataset: DetectionDataset, slot: str) -> str:
    return f"{slot} ({dataset.anno_path})" if dataset.anno_path else slot


def remembered(weights: str | Path) -> Classes | None:
    """The classes that weights were trained on: from the .safetensors file itself, or from the .json beside it, where
    that is of these very weights.

    Args:
        weights: file, URL, or path without its suffix.

    Returns:
        None where nothing tells: weights of other code bases, or of earlier versions.
    """
    path = fetch(str(weights))
    source = f"the weights {path}"
    return _in_file(path, source) or _in_manifest(strip_suffix(str(path)), source, path)


def say_nothing_is_remembered(weights: str | Path) -> None:
    """Log that weights do not tell their classes: a warning where they did, and the .json beside them is damaged."""
    path = fetch(str(weights))
    manifest = beside(strip_suffix(str(path)), MANIFEST)
    try:
        has_names = "classes" in read_sealed(manifest)
    except FileNotFoundError:
        has_names = False
    except (OSError, CheckpointError) as error:
        problem = "damaged, or not what a training run writes" if isinstance(error, CheckpointError) else error.strerror
        logger.warning(
            "%s: %s: the classes of these weights are not known from it, and the data set's own order counts",
            *(manifest, problem),
        )
        return
    if has_names:
        logger.warning(
            "%s is not of these weights, or damaged: their classes are not known from it, and the data set's own order "
            "counts",
            manifest,
        )
    else:
        logger.info("%s: these weights name no classes: the data set's own order counts", weights)


def remembered_here(weights: str | None) -> Classes | None:
    """As `remembered`, of weights that are on this machine; None where there are none, or they are elsewhere."""
    if not weights or "://" in weights:
        return None
    try:
        return remembered(weights)
    except DownloadError:
        return None  # who loads them says so


def classes_of_checkpoint(prefix: Path) -> Classes | None:
    """The classes that a checkpoint's run is about; None where its manifest does not tell, or is not there."""
    return _in_manifest(prefix, f"the checkpoint {prefix}")


def as_json(classes: Classes) -> dict:
    return {"names": classes.names, "category_ids": classes.category_ids}


def _in_file(path: Path, source: str) -> Classes | None:
    if path.suffix != SAFETENSORS:
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            return _read(json.loads((file.metadata() or {}).get("classes", "null")), source)
    except (OSError, ValueError, RecursionError, SafetensorError):
        return None  # who reads the arrays says what is wrong with it


def _in_manifest(prefix: Path, source: str, weights: Path | None = None) -> Classes | None:
    path = beside(prefix, MANIFEST)
    try:
        content = read_sealed(path) if path.stat().st_size <= MAX_BYTES else {}
        classes = _read(content.get("classes"), source)
        if classes and weights and content["files"][weights.name[len(prefix.name) :]] != describe(weights):
            return None  # other weights have been copied over those that it tells of
        return classes
    except (OSError, CheckpointError, RecursionError, KeyError, TypeError, AttributeError):
        return None


def _read(content: object, source: str) -> Classes | None:
    """The classes that `as_json` wrote; None if it did not."""
    if not isinstance(content, dict):
        return None
    names, category_ids = content.get("names"), content.get("category_ids")
    for values, kind in ((names, str), (category_ids, int)):
        if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
            return None
    return Classes(names, category_ids, source) if names and len(names) == len(category_ids) else None


def follow(dataset: DetectionDataset, slot: str, classes: Classes | None) -> None:
    """Give the classes of a data set the order in which weights remember them.

    Where the weights remember others, that is a warning, and the data set keeps its own; where the data set names none,
    it gets those of the weights. A plain list of names gets the category ids of the weights.
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
            "the weights were trained on other classes: %s. Detections are numbered as the weights do, and named by "
            "%s: name the file that the weights were trained on, or one with its names",
            problem,
            source,
        )
    else:
        map_by_name(dataset, slot, classes)
    if not dataset.has_category_ids and len(dataset.class_names) == len(classes.names):
        dataset.category_ids = list(classes.category_ids)


def map_by_name(dataset: DetectionDataset, slot: str, classes: Classes) -> None:
    """Give the classes of a data set, which have the same names, the order of `classes`; a line of log tells of it."""
    if dataset.class_names != classes.names:
        places = source_of(dataset, slot), classes.source
        logger.info("%s numbers its classes differently from %s: mapped by name (%s)", *places, listed(classes.names))
        dataset.use_classes(classes.names)


def warn_of_other_classes(weights: str, classes: Classes, *, makes_labels: bool) -> None:
    """Warn of weights of a whole detector that a run starts from, and that number `classes` in another way.

    Args:
        makes_labels: the detector labels images before it has learned anything here, so its classes must be the run's.
    """
    known = remembered(weights)
    if known is None or known.names == classes.names:
        return
    problem = mismatch(classes.names, classes.source, known)
    if not problem:
        logger.warning(
            "%s and %s number the same classes in different ways (%s; %s): what pretrain_weights know of classes is "
            "wrong here until it is learned anew; give the categories of the training file the ids of the other one",
            *(classes.source, known.source, listed(classes.names), listed(known.names)),
        )
    elif makes_labels:
        logger.warning("the teacher starts from pretrain_weights of other classes, which it will label: %s", problem)
