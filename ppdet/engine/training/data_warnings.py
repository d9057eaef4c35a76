"""Warnings about data sets, logged by rank 0 before training or evaluation begins."""

import os

import numpy as np

from ppdet.data.data_checks import class_findings, few_images, shared_images
from ppdet.data.sources import DetectionDataset
from ppdet.engine.checkpoints.class_names import source_of
from ppdet.engine.distributed import collectives
from ppdet.utils.errors import DataError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)

CANNOT_LEARN = (
    "the model cannot learn them; a category that only groups others, as some tools export it, can be left out of all "
    "files, and num_classes lowered"
)


def check_training_data(dataset: DetectionDataset) -> None:
    """Warn of likely mistakes in TrainDataset.

    Raises:
        DataError: the data set has no box to learn from.
    """
    counts = boxes_by_class(dataset)
    if counts is not None and not counts.any():
        raise DataError(
            f"{source_of(dataset, 'TrainDataset')}: none of its {len(dataset)} images has a usable box: there is "
            f"nothing to learn; {'; '.join(dataset.findings) or 'is it the file with the labels?'}"
        )
    warn_of_data(dataset, "TrainDataset", training=True)


def warn_of_data(dataset: DetectionDataset, slot: str, *, training: bool) -> None:
    """Log a warning for each thing that looks wrong with a data set that has labels.

    Args:
        slot: the setting that holds the data set, such as TrainDataset.
        training: whether the data set is trained on; otherwise it is evaluated on.
    """
    if collectives.rank() != 0:
        return
    counts = boxes_by_class(dataset)
    texts = list(dataset.findings)
    if counts is not None and counts.any():
        effect = CANNOT_LEARN if training else "AP leaves them out"
        texts += class_findings(dataset.class_names, dataset.category_ids, counts, effect)
    elif counts is not None and not texts:
        texts.append("none of its images has a usable box: AP is undefined (-1)")
    few = few_images(len({record["im_file"] for record in dataset.records}), training=training)
    for text in [*texts, *([few] if few else [])]:
        logger.warning("%s: %s", source_of(dataset, slot), text)


def warn_of_leaks(evaluated: DetectionDataset, trained: DetectionDataset, slot: str) -> None:
    """Warn if images of EvalDataset are trained on, since AP then says little about other images.

    Args:
        slot: the setting that holds the data set `trained`.
    """
    if collectives.rank() != 0:
        return
    advice = "AP on images that were trained on says little about others: evaluate on images of their own"
    if is_same_file(evaluated, trained):
        logger.warning("EvalDataset and %s are the same file, %s: %s", slot, trained.anno_path, advice)
        return
    count, example = shared_images(*([record["im_file"] for record in d.records] for d in (evaluated, trained)))
    if count:
        total = len({record["im_file"] for record in evaluated.records})
        what = f"{count} of the {total} images of EvalDataset are {slot}'s too, e.g. {example}"
        logger.warning("%s: %s", what, advice)


def is_same_file(one: DetectionDataset, other: DetectionDataset) -> bool:
    """Whether two data sets read the same annotation file."""
    if not (one.anno_path and other.anno_path):
        return False
    return os.path.realpath(one.anno_path) == os.path.realpath(other.anno_path)


def boxes_by_class(dataset: DetectionDataset) -> np.ndarray | None:
    """Return the number of boxes of each class, (classes,); None if records have no classes."""
    records = {record["im_id"].item(): record for record in dataset.records}.values()  # `repeat` lists images again
    labels = [record["gt_class"] for record in records if "gt_class" in record]
    if not labels:
        return None
    return np.bincount(np.concatenate(labels).reshape(-1), minlength=len(dataset.class_names))
