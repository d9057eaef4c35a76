"""Reading bbox.json, and relating its COCO results to the images and classes of a data set."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from ppdet.data.classes import quote_names
from ppdet.data.header_size import image_size
from ppdet.data.sources import DetectionDataset
from ppdet.utils.disk.files import read_text
from ppdet.utils.errors import DataError, ImageError
from ppdet.utils.formats.annotation_kinds import json_kind
from ppdet.utils.formats.coco_file import short_repr
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)


def read_results_file(path: Path, dataset: DetectionDataset) -> list[dict[str, Any]]:
    """Read a list of COCO results, each with the `image_id` and `category_id` that the data set has.

    Results with a `file_name`, which `ppdet infer` writes, belong to the image of that name, and those with a
    `category_name` to the class of that name, whatever their ids are.

    Raises:
        DataError: the file does not exist, or is not a list of COCO results of this data set.
    """
    results = read_results(path)
    set_image_ids(results, path, dataset)
    return with_category_ids(results, path, dataset)


def read_results(path: Path) -> list[dict[str, Any]]:
    """Read a list of COCO results as it is; DataError if the file does not exist, or is something else."""
    try:
        results = json.loads(read_text(path))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file: write it with --output_eval first") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from None
    if not isinstance(results, list):
        raise DataError(f"{path}: {json_kind(results)}, expected a list of COCO results")
    for number, result in enumerate(results):
        if not isinstance(result, dict):
            raise DataError(f"{path}: result {number} is {short_repr(result)}, expected an object of a COCO result")
    return results


def set_image_ids(results: list[dict[str, Any]], path: Path, dataset: DetectionDataset) -> None:
    """Set the image_id of results with a `file_name`, which may be a path or the name alone."""
    candidates: dict[str, set[int]] = {}
    for record in dataset.records:
        file = os.path.realpath(record["im_file"])
        for name in (file, os.path.basename(file)):
            candidates.setdefault(name, set()).add(record["im_id"].item())
    ids = {name: found.pop() for name, found in candidates.items() if len(found) == 1}
    for number, result in enumerate(results):
        if "file_name" not in result:
            continue
        name = str(result["file_name"])
        file = os.path.realpath(name) if "\0" not in name else name
        image = ids.get(file, ids.get(os.path.basename(file)))
        if image is None:
            raise DataError(
                f"{path}: result {number} has the file_name {name}, which no image of {dataset.anno_path} has, or "
                "several have"
            )
        result["image_id"] = image


def with_category_ids(results: list[dict[str, Any]], path: Path, dataset: DetectionDataset) -> list[dict[str, Any]]:
    """Set the category_id of results with a `category_name`, and leave out results of other classes.

    Where no name is one of the data set's, or the data set has a name twice, the ids stay as they are.
    """
    ids = dict(zip(dataset.class_names, dataset.category_ids))
    names = {str(result["category_name"]) for result in results if "category_name" in result}
    if len(ids) < len(dataset.class_names):
        return results
    if not names & ids.keys():
        if not all(name.isdigit() for name in names):  # an exported model without class names writes numbers
            logger.warning(
                "%s: the results are of classes %s, but EvalDataset has %s: their category_id is used",
                *(path, quote_names(sorted(names)), quote_names(list(ids))),
            )
        return results
    kept = [result for result in results if str(result.get("category_name", next(iter(ids)))) in ids]
    for result in kept:
        if "category_name" in result:
            result["category_id"] = ids[str(result["category_name"])]
    if len(kept) < len(results):
        logger.warning(
            "%s: %d results are left out: EvalDataset does not have their classes: %s",
            *(path, len(results) - len(kept), quote_names(sorted(names - ids.keys()))),
        )
    return kept


def image_sizes_by_id(dataset: DetectionDataset) -> dict[int, tuple[int, int]]:
    """Return (height, width) in pixels by image id, for images whose files can be read."""
    sizes = {}
    for record in dataset.records:
        with contextlib.suppress(ImageError):
            expected = (record["h"], record["w"]) if "h" in record else None
            sizes[record["im_id"].item()] = image_size(record["im_file"], expected)
    return sizes
