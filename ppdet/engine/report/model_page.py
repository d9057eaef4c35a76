"""The page of a report, from the figures and pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ppdet.data.data_checks import FEW_TO_EVALUATE
from ppdet.engine.report.judged_boxes import CORRECT, ERRORS
from ppdet.engine.report.model_analysis import ENOUGH_BOXES, SURE, Analysis, ClassNumbers, JudgedBox, LabelError
from ppdet.engine.report.model_pictures import FEW_BOXES, ImageBook
from ppdet.utils.printable import counted
from ppdet.visualize.pages import (
    Html,
    Line,
    Section,
    bars,
    charts_in_row,
    gallery,
    heat_map,
    histogram,
    lines,
    table,
    tiles,
)

PAIRS = 12  # of the worst images, of the best ones, and of those in which two models differ most
MOST_DOUBTFUL = 30  # images with likely label errors
MOST_SENTENCES = 3  # about the likely label errors of an image
MOST_LINES = 8  # classes with a line of their own in a chart
MOST_CLASSES = 40  # rows and columns of the confusion matrix
HOW_DRAWN = (
    "The color of a box is that of its class. A box of thin lines is right, one of thick lines wrong, and a dashed one "
    f"was missed; in an image with more than {FEW_BOXES} boxes, right ones have no text. A click enlarges a picture."
)
GRAY = -1  # color of lines that are of no class
TIDE = {
    "Cls": "wrong class",
    "Loc": "poor place",
    "Both": "wrong class and place",
    "Dupe": "found twice",
    "Bkg": "nothing there",
    "Miss": "missed",
}


def sections(
    analysis: Analysis, book: ImageBook, most_pictures: int, other: Analysis | None, comparison: dict[str, Any] | None
) -> list[Section]:
    """The sections of the page.

    Args:
        most_pictures: thumbnails of the last section; images with many errors come first.
        other, comparison: another model on the same images, and how this one differs (`model_analysis.compare`).
    """
    parts = [_overview(analysis)]
    if other and comparison:
        parts.append(_comparison(other, analysis, comparison, book))
    parts += [_classes(analysis), _curves(analysis), _errors(analysis), _calibration(analysis)]
    parts += [_labels(analysis, book), _extremes(analysis, book), _pictures(analysis, book, most_pictures)]
    return parts


def _percent(value: float) -> str:
    return "-" if value < 0 else f"{100 * value:.1f}"


def _overview(analysis: Analysis) -> Section:
    boxes = sum(one.boxes for one in analysis.classes)
    values = {name: _percent(analysis.numbers[name]) for name in ("AP", "AP50", "AP75")}
    counts = {"images": len(analysis.images), "labeled boxes": boxes, "detections": analysis.detections}
    halves = [
        [(name, value) for name, value in analysis.numbers.items() if name.startswith(kind)] for kind in ("AP", "AR")
    ]
    titles = ("Average precision, COCO", "Average recall, COCO")
    numbers = [
        table(["", "%"], [(name, _percent(value)) for name, value in half], title)
        for half, title in zip(halves, titles)
    ]
    shown = {**values, **{name: f"{value:,}" for name, value in counts.items()}}
    few = (
        f"Only {counted(len(analysis.images), 'image')} evaluated: AP and thresholds may be far from those on more "
        "images, and a best_model that such an AP has chosen is the best by chance."
    )
    note = few if len(analysis.images) < FEW_TO_EVALUATE else ""
    return Section("Overview", [tiles(shown), charts_in_row(numbers)], note)


def _classes(analysis: Analysis) -> Section:
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    rows = [[one.name, f"{one.boxes:,}", *(_percent(one.ap[name]) for name in names)] for one in analysis.classes]
    note = "AP in percent; APs, APm and APl are of boxes below 32 x 32, below 96 x 96, and of larger ones."
    parts = [table(["class", "boxes", *names], rows)]
    if len(analysis.classes) <= MOST_CLASSES:
        values = {one.name: max(0.0, 100 * one.ap["AP"]) for one in analysis.classes}
        parts.append(charts_in_row([bars("AP of each class", values, most=100)]))
    return Section("Classes", parts, note)


def _curves(analysis: Analysis) -> Section:
    shown = sorted((one for one in analysis.classes if one.boxes), key=lambda one: one.ap["AP50"])[:MOST_LINES]
    index = {id(one): number for number, one in enumerate(analysis.classes)}
    grid = np.linspace(0, 1, 101).tolist()
    precision = [Line(one.name, grid, one.precision.tolist(), index[id(one)]) for one in shown]
    f1 = [Line(one.name, grid, one.f1.tolist(), index[id(one)]) for one in shown]
    marks = [
        (
            one.best.threshold,
            one.best.f1,
            index[id(one)],
            f"{one.name}: F1 {one.best.f1:.3f} at {one.best.threshold:.2f}",
        )
        for one in shown
        if one.best
    ]
    left_out = sum(1 for one in analysis.classes if one.boxes) - len(shown)
    note = f" The {len(shown)} classes with the lowest AP50 are drawn; {left_out} others are not." if left_out else ""
    charts = [
        lines("Precision and recall", precision, "recall", "precision", (0, 1), (0, 1)),
        lines("F1 by score threshold", f1, "least score", "F1", (0, 1), (0, 1), marks),
    ]
    rows = [_threshold_row(one) for one in analysis.classes]
    best = table(
        ["class", "threshold", "F1", "precision", "recall"], rows, "Threshold with the highest F1 of each class"
    )
    note = f"A detection is right if its class is, and its box overlaps a labeled one by half (IoU 0.5).{note}"
    return Section("Thresholds", [charts_in_row(charts), best, _use_of_thresholds(analysis.classes)], note)


def _use_of_thresholds(classes: Sequence[ClassNumbers]) -> str:
    file = (
        "thresholds.json, beside this page, has them: ppdet export RUN --thresholds FILE writes them into the "
        "exported model, which is then used with them."
    )
    left_out = [one for one in classes if one.best and not one.is_written]
    few = any(one.is_named_once for one in left_out)
    why = f" A threshold that is chosen by fewer than {ENOUGH_BOXES} labeled boxes is not written." if few else ""
    if any(not one.is_named_once for one in left_out):
        why += " The file has thresholds by name, so that those of classes with one name are not written."
    file = file if any(one.is_written for one in classes) else "There is no thresholds.json."
    return f"{file}{why} They were chosen on these images, and are a little too good for them."


def _threshold_row(one: ClassNumbers) -> list[str]:
    if one.best is None:
        return [one.name, f"{one.threshold:.2f}", "-", "-", "-"]
    return [
        one.name,
        f"{one.threshold:.3f}{'' if one.is_written else ' (not written)'}",
        *(_percent(v) for v in (one.best.f1, one.best.precision, one.best.recall)),
    ]


def _errors(analysis: Analysis) -> Section:
    gain, counts = analysis.tide["delta_ap"], analysis.tide["counts"]
    costs = {title: round(max(0.0, 100 * float(gain.get(name, 0))), 2) for name, title in TIDE.items()}
    kinds = [box.kind for boxes in analysis.judged.values() for box in boxes]
    rows = [
        [title, f"{costs[title]:.2f}", f"{counts.get(name, 0):,}", f"{kinds.count(title):,}"]
        for name, title in TIDE.items()
    ]
    columns = ["error", "AP50 lost", "with all detections", "above the thresholds"]
    parts = [
        charts_in_row([bars("AP50 that each kind of error costs (TIDE)", costs, " points"), _confusion(analysis)]),
        table(columns, rows, "How often"),
    ]
    note = (
        "Above the thresholds of each class. A wrong class overlaps a box of another class by half; a poor place "
        "overlaps one of its own class by less; nothing there overlaps none by a tenth. The matrix pairs a detection "
        "with a box of any class, all other numbers only with one of its own class, so that they differ a little. A "
        "missed box is no detection, but a labeled box that none has found."
    )
    return Section("Errors", parts, note)


def _confusion(analysis: Analysis) -> Html:
    matrix = analysis.confusion
    names = [one.name for one in analysis.classes]
    title = "Confusion matrix, percent of each row"
    order = list(range(len(names)))
    if len(names) > MOST_CLASSES:
        wrong = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * matrix.diagonal()
        order = sorted(np.argsort(-wrong[:-1], kind="stable")[:MOST_CLASSES].tolist())
        title += f", of the {MOST_CLASSES} classes that are confused most"
    places = [*order, len(names)]
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    values = shares[np.ix_(places, places)]
    texts = [[f"{100 * value:.0f}" if value else "" for value in row] for row in values.tolist()]
    rows = [*(names[i] for i in order), "nothing"]
    columns = [*(names[i] for i in order), "missed"]
    return heat_map(title, values.tolist(), rows, columns, texts, x_title="model", y_title="label")


def _calibration(analysis: Analysis) -> Section:
    filled = [one for one in analysis.calibration["bins"] if one["count"]]
    confidence = [one["avg_confidence"] for one in filled]
    accuracy = [one["avg_accuracy"] for one in filled]
    curve = [
        Line("this model", confidence, accuracy, 0),
        Line("a score that is the share of right ones", (0, 1), (0, 1), GRAY, True),
    ]
    edges = [one["bin_lower"] for one in analysis.calibration["bins"]] + [1.0]
    charts = [
        lines("Share of right detections by score", curve, "score", "right", (0, 1), (0, 1)),
        histogram("Detections by score", edges, [one["count"] for one in analysis.calibration["bins"]], "score"),
    ]
    error = 100 * analysis.calibration["ece"]
    note = (
        f"A score of 0.7 should mean that 7 of 10 such detections are right. On average, score and share differ by "
        f"{error:.1f} points (expected calibration error)."
    )
    return Section("Calibration", [charts_in_row(charts)], note)


def _labels(analysis: Analysis, book: ImageBook) -> Section:
    title = "Likely label errors"
    by_image: dict[int, list[LabelError]] = {}
    for one in analysis.label_errors:
        by_image.setdefault(one.image, []).append(one)
    if not by_image:
        none = f"None were found: no detection with a score of {SURE} or more contradicts a label."
        return Section(title, [none])
    shown = list(by_image)[:MOST_DOUBTFUL]
    pictures = []
    for image in shown:
        errors = by_image[image]
        boxes = [JudgedBox(one.kind, one.label, one.score, one.box) for one in errors]
        caption = "; ".join(one.text for one in errors[:MOST_SENTENCES])
        more = len(errors) - MOST_SENTENCES
        caption += f"; and {counted(more, 'more place')}" if more > 0 else ""
        pictures += book.beside_truth([image], analysis, [caption], [boxes])
    note = (
        f"Where a detection has a score of {SURE} or more and the label says otherwise: "
        f"{counted(len(analysis.label_errors), 'place')} in {counted(len(by_image), 'image')}, the highest scores "
        "first. Beside the labels are only these detections."
    )
    left_out = len(by_image) - len(shown)
    note += f" Not shown: {counted(left_out, 'more image')}." if left_out else ""
    return Section(title, [gallery(pictures, "kind")], note)


def _extremes(analysis: Analysis, book: ImageBook) -> Section:
    def errors(image: int) -> int:
        return sum(box.kind != CORRECT for box in analysis.judged[image])

    ordered = sorted(analysis.f1, key=lambda image: (analysis.f1[image], -errors(image)))
    worst = [image for image in ordered if analysis.f1[image] < 1][:PAIRS]
    # Of faultless images, those with many boxes say most.
    best = sorted(ordered, key=lambda image: (-analysis.f1[image], -len(analysis.judged[image])))[:PAIRS]
    best = [image for image in best if image not in worst]
    parts: list[object] = []
    for title, images in (("The worst images", worst), ("The best images", best)):
        captions = [f"F1 {analysis.f1[image]:.2f}" for image in images]
        parts += [title + (":" if images else ": none"), gallery(book.beside_truth(images, analysis, captions))]
    note = f"By the F1 of an image, at the thresholds of the classes. {HOW_DRAWN}"
    return Section("Worst and best images", parts, note)


def _pictures(analysis: Analysis, book: ImageBook, most: int) -> Section:
    def wrong(image: int) -> int:
        return -sum(box.kind in ERRORS for box in analysis.judged[image])

    images = sorted(analysis.images, key=wrong)[:most]
    note = f"Boxes above the thresholds of their classes, and those that were missed. {HOW_DRAWN}"
    if len(images) < len(analysis.images):
        note += f" {len(images):,} of {len(analysis.images):,} images are shown, those with the most errors"
        note += " (--report_pictures)."
    return Section("Pictures", [gallery(book.with_errors(images, analysis), "error")], note)


def _comparison(old: Analysis, new: Analysis, comparison: dict[str, Any], book: ImageBook) -> Section:
    rows: list[Sequence[str]] = []
    for name, value in new.numbers.items():
        delta, interval = comparison["deltas"][name], comparison["ci"][name]
        if value < 0:
            continue
        sure = f"{100 * interval['lower']:+.1f} to {100 * interval['upper']:+.1f}"
        rows.append([name, _percent(old.numbers[name]), _percent(value), f"{100 * delta:+.1f}", sure])
    numbers = table(["COCO", "other", "this", "difference", "95 % interval"], rows)
    pairs = sorted(zip(old.classes, new.classes), key=lambda pair: pair[1].ap["AP"] - pair[0].ap["AP"])
    by_class = [
        [b.name, _percent(a.ap["AP"]), _percent(b.ap["AP"]), f"{100 * (b.ap['AP'] - a.ap['AP']):+.1f}"]
        for a, b in pairs
    ]
    classes = table(["class", "other", "this", "difference"], by_class, "AP of each class, the greatest loss first")

    def change(image: int) -> float:
        return new.f1.get(image, 1.0) - old.f1.get(image, 1.0)

    moved = sorted((image for image in new.images if change(image)), key=lambda image: -abs(change(image)))[:PAIRS]
    pictures = gallery(book.of_two(moved, old, new)) if moved else "The F1 of no image differs."
    note = (
        "An interval without 0 says that the difference is more than the chance of which images were drawn. The "
        "pictures are those whose F1 differs most."
    )
    return Section("Beside another model", [numbers, classes, pictures], note)
