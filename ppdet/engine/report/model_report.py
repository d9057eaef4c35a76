"""Writes the folder of a report after an evaluation."""

from collections.abc import Sequence
from pathlib import Path

from ppdet.data.classes import quote_names
from ppdet.engine.evaluator import RESULTS, Evaluator
from ppdet.engine.report.model_analysis import ENOUGH_BOXES, Analysis, ClassNumbers, analyze, compare
from ppdet.engine.report.model_page import sections
from ppdet.engine.report.model_pictures import ImageBook
from ppdet.engine.report.thresholds_file import THRESHOLDS, write_thresholds
from ppdet.engine.results_file import read_results_file
from ppdet.metrics.coco_metric import COCOMetric
from ppdet.utils.disk.files import display_path
from ppdet.utils.logger import get_logger
from ppdet.visualize.pages import write_page

logger = get_logger(__name__)
PAGE = "report.html"


def read_other(folder: str | Path, evaluator: Evaluator) -> COCOMetric:
    """Read the bbox.json of another model on the images of an evaluation, before this evaluation begins.

    So a mistake is found before the hours of the evaluation, and the file may be the one that it replaces.

    Raises:
        DataError: the file cannot be used.
    """
    path, metric = Path(folder) / RESULTS, _empty_metric(evaluator)
    ids = [record["im_id"].item() for record in evaluator.dataset.records]
    metric.extend_results(read_results_file(path, evaluator.dataset), ids, name=str(path))
    return metric


def write_report(
    evaluator: Evaluator,
    folder: str | Path,
    name: str,
    other: COCOMetric | None = None,
    pictures: int = 300,
    other_name: str = "another model",
) -> Analysis:
    """Write bbox.json, report.html and thresholds.json of the evaluation that an evaluator has finished.

    Args:
        folder: it is made if it is missing; files of an earlier report are replaced.
        name: of the model, for the page's heading.
        other: the detections of another model, which the page compares; see `read_other`.
        pictures: most thumbnails of the page's last section.
        other_name: of the other model, for the page's heading.

    Returns:
        The figures of the page.

    Raises:
        DataError: hotcoco is not installed, or no image was evaluated.
    """
    folder = Path(folder)
    metric, dataset = evaluator.metric, evaluator.dataset
    # First of all: if the figures fail, --json_eval begins with this file.
    metric.save(folder / RESULTS)
    logger.info("computing the figures of the report")
    old = analyze(_same_images(other, evaluator)) if other else None
    analysis = analyze(metric)
    comparison = compare(old, analysis) if old else None
    paths = {record["im_id"].item(): record["im_file"] for record in reversed(dataset.records)}
    book = ImageBook(paths, metric.class_names)
    parts = sections(analysis, book, pictures, old, comparison)
    compared = f", beside {other_name}" if other else ""
    labels = display_path(Path(dataset.anno_path)) if dataset.anno_path else "EvalDataset"
    write_page(folder / PAGE, f"Report: {name}", parts, f"{labels}{compared}")
    beside = "thresholds and detections are" if _save_thresholds(analysis, folder) else "detections are"
    logger.info("report: %s (open it in a browser); %s beside it", folder / PAGE, beside)
    return analysis


def _save_thresholds(analysis: Analysis, folder: Path) -> bool:
    """Write thresholds.json, and return whether a threshold is sure enough to be in it."""
    thresholds = {one.name: one.threshold for one in analysis.classes if one.is_written}
    left_out = [one for one in analysis.classes if one.best and not one.is_written]
    few = f"fewer than {ENOUGH_BOXES} labeled boxes to choose a threshold by: none is written for"
    _warn(few, [one for one in left_out if one.is_named_once])
    _warn(
        "several classes have one name: no threshold is written for", [one for one in left_out if not one.is_named_once]
    )
    if not thresholds and not left_out:
        logger.warning("no detection matches a label: there are no thresholds to choose")
    if thresholds:
        write_thresholds(folder / THRESHOLDS, thresholds, len(analysis.images))
    else:
        (folder / THRESHOLDS).unlink(missing_ok=True)
    return bool(thresholds)


def _warn(message: str, classes: Sequence[ClassNumbers]) -> None:
    """Log a warning that ends with the names of the classes, if there are any."""
    if classes:
        logger.warning("%s %s", message, quote_names(list(dict.fromkeys(one.name for one in classes))))


def _same_images(other: COCOMetric, evaluator: Evaluator) -> COCOMetric:
    """The other model's detections in the images of this evaluation, whose model may have put classes in its order."""
    metric, mine = _empty_metric(evaluator), evaluator.metric
    metric.extend(other.detections, mine.image_ids, mine.sizes)
    return metric


def _empty_metric(evaluator: Evaluator) -> COCOMetric:
    dataset = evaluator.dataset
    return COCOMetric(
        anno_path=dataset.anno_path,
        category_ids=dataset.category_ids,
        class_names=dataset.class_names,
        records=dataset.records,
    )
