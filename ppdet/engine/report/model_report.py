"""Writes the folder of a report after an evaluation."""

from pathlib import Path

from ppdet.data.classes import quote_names
from ppdet.engine.evaluator import RESULTS, Evaluator
from ppdet.engine.report.model_analysis import ENOUGH_BOXES, Analysis, analyze, compare
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


def write_report(
    evaluator: Evaluator, folder: str | Path, name: str, other: str | Path | None = None, pictures: int = 300
) -> Analysis:
    """Write report.html, thresholds.json and bbox.json of the evaluation that an evaluator has finished.

    Args:
        folder: it is made if it is missing; files of an earlier report are replaced.
        name: of the model, for the page's heading.
        other: folder with the bbox.json of another model on the same images, which the page compares.
        pictures: most thumbnails of the page's last section.

    Returns:
        The figures of the page.

    Raises:
        DataError: hotcoco is not installed, no image was evaluated, or the other model's bbox.json cannot be used.
    """
    folder = Path(folder)
    metric, dataset = evaluator.metric, evaluator.dataset
    logger.info("computing the figures of the report")
    old = analyze(_metric_of(Path(other) / RESULTS, evaluator)) if other else None
    analysis = analyze(metric)
    comparison = compare(old, analysis) if old else None
    paths = {record["im_id"].item(): record["im_file"] for record in reversed(dataset.records)}
    book = ImageBook(paths, metric.class_names)
    parts = sections(analysis, book, pictures, old, comparison)
    compared = f", beside {other}" if other else ""
    labels = display_path(Path(dataset.anno_path)) if dataset.anno_path else "EvalDataset"
    write_page(folder / PAGE, f"Report: {name}", parts, f"{labels}{compared}")
    beside = "thresholds and detections are" if _save_thresholds(analysis, folder) else "detections are"
    metric.save(folder / RESULTS)
    logger.info("report: %s (open it in a browser); %s beside it", folder / PAGE, beside)
    return analysis


def _save_thresholds(analysis: Analysis, folder: Path) -> bool:
    """Write thresholds.json, and return whether a threshold is sure enough to be in it."""
    thresholds = {one.name: one.threshold for one in analysis.classes if one.is_sure}
    unsure = [one.name for one in analysis.classes if one.best and not one.is_sure]
    if unsure:
        few = f"fewer than {ENOUGH_BOXES} labeled boxes to choose a threshold by: none is written for"
        logger.warning("%s %s", few, quote_names(unsure))
    elif not thresholds:
        logger.warning("no detection matches a label: there are no thresholds to choose")
    if thresholds:
        write_thresholds(folder / THRESHOLDS, thresholds, len(analysis.images))
    else:
        (folder / THRESHOLDS).unlink(missing_ok=True)
    return bool(thresholds)


def _metric_of(path: Path, evaluator: Evaluator) -> COCOMetric:
    """A metric with another model's detections in the images of this evaluation."""
    mine, dataset = evaluator.metric, evaluator.dataset
    metric = COCOMetric(
        anno_path=dataset.anno_path,
        category_ids=dataset.category_ids,
        class_names=dataset.class_names,
        records=dataset.records,
    )
    metric.extend_results(read_results_file(path, dataset), mine.image_ids, mine.sizes, str(path))
    return metric
