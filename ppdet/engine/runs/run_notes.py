"""What the evaluations of a finished run say, and what to try next, in sentences.

Only what follows from the run's own numbers is said. How much more labels would bring does not follow from one run.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ppdet.data.classes import quote_names
from ppdet.data.data_checks import FEW_TO_EVALUATE, FEW_TO_TRAIN
from ppdet.engine.runs.best_evaluation import best_evaluation
from ppdet.utils.printable import counted

NOTHING = 0.02  # AP below which nothing useful was learned
CHANGE = 0.01  # of AP; less is called flat
LEARNED = 0.1  # AP on training images from which on they count as learned
FEW_EVALUATED = 100  # images; AP of fewer is called rough
FEW_BOXES = 50  # of a class, to learn from
SURE = 0.3  # score of a detection that counts as one of its class
FEWEST = 4  # evaluations from which on the notes speak of a trend


class DataFacts(NamedTuple):
    """What a run was trained and evaluated on.

    Attributes:
        names: names of the classes.
        boxes: (classes,) number of boxes of each class that were trained on.
        trained, evaluated: numbers of different images.
        undetected: names of classes without a detection with a score of at least SURE in the last evaluation.
        on_training: AP of the final weights on some of the training images, and their number; None: not measured.
    """

    names: Sequence[str]
    boxes: np.ndarray
    trained: int
    evaluated: int
    undetected: Sequence[str]
    on_training: tuple[float, int] | None = None


def run_notes(
    evaluations: dict[int, dict[str, float]], epochs: int, data: DataFacts, *, trained: int | None = None
) -> list[str]:
    """Return sentences about a run; an empty list without evaluations.

    Args:
        evaluations: COCO's numbers by complete epochs.
        epochs: number of epochs of the whole run.
        trained: number of epochs after which the run ended; None: all.
    """
    usable = {epoch: numbers for epoch, numbers in sorted(evaluations.items()) if numbers["AP"] >= 0}
    if not usable:
        return []
    values = [numbers["AP"] for numbers in usable.values()]
    best = list(usable)[best_evaluation(values) or 0]
    ended = f" (training ended early, after epoch {trained})" if trained is not None and trained < epochs else ""
    return [
        _result(best, usable[best]["AP"], f"{epochs}{ended}", data),
        *_trend(values, best, data),
        *_weak_sides(usable[best]),
        *_classes(data),
        *_more_labels(data),
    ]


def needs_training_ap(evaluations: dict[int, dict[str, float]]) -> bool:
    """Whether the notes need `DataFacts.on_training`: an AP of about 0 says that other images are not understood."""
    values = [numbers["AP"] for numbers in evaluations.values() if numbers["AP"] >= 0]
    return bool(values) and max(values) < NOTHING


def _result(best: int, value: float, epochs: str, data: DataFacts) -> str:
    rough = ", too few for more than a rough figure" if data.evaluated < FEW_EVALUATED else ""
    return (
        f"AP {value:.3f} after epoch {best} of {epochs}, on {counted(data.evaluated, 'image')}{rough}; trained on "
        f"{counted(data.trained, 'image')} with {counted(int(data.boxes.sum()), 'box')} of "
        f"{counted(len(data.names), 'class')}"
    )


def _trend(values: list[float], best: int, data: DataFacts) -> list[str]:
    """Say whether AP was still rising: the best of the last third of evaluations against the best before."""
    highest = max(values)
    if highest < NOTHING:
        return [_about_zero(data)]
    if 0 < data.evaluated < FEW_TO_EVALUATE:
        return [
            f"AP on {counted(data.evaluated, 'image')} is little more than chance and cannot compare epochs: "
            f"best_model has the weights of epoch {best}, model_final those of the last one"
        ]
    if len(values) < FEWEST:
        few = "one evaluation is" if len(values) == 1 else f"{len(values)} evaluations are"
        return [f"{few} too few to tell whether AP was still rising"]
    late = len(values) // 3
    rise = max(values[-late:]) - max(values[:-late])
    if rise > CHANGE:
        return [f"AP was still rising, by {rise:.3f} in the last third: more epochs may help"]
    if highest - values[-1] > CHANGE:
        return [
            f"AP fell by {highest - values[-1]:.3f} after epoch {best}: use best_model; more epochs hardly help, "
            "but more images, more augmentation or pretrained weights may"
        ]
    return ["AP was flat in the last third: more epochs will bring little"]


def _about_zero(data: DataFacts) -> str:
    """Say what an AP of about 0 comes from: the final weights' AP on training images tells."""
    check = "look at train_batch.jpg for wrong boxes, check the learning rate, and train longer"
    if data.on_training is None:
        return f"almost nothing was learned: {check}"
    value, count = data.on_training
    measured = f"(AP {value:.3f} on {counted(count, 'image')} of TrainDataset)"
    if value < LEARNED:
        return f"almost nothing was learned, not even of the training images {measured}: {check}"
    return (
        f"the training images were learned {measured}, so that boxes, learning rate and length are right; but nothing "
        f"that holds for other images: {counted(data.trained, 'image')} to train on are too few, or those of "
        "EvalDataset show something else: label more images"
    )


def _more_labels(data: DataFacts) -> list[str]:
    if data.on_training is not None:
        return []  # `_about_zero` says what to do
    if data.trained < FEW_TO_TRAIN:
        return [f"label more images: fewer than {FEW_TO_TRAIN} are memorized, and say little about other images"]
    return [
        "whether more labels help is seen by a run with half of them (TrainDataset.sample_num="
        f"{data.trained // 2}): they do if its AP is clearly lower"
    ]


def _weak_sides(numbers: dict[str, float]) -> list[str]:
    """Compare the numbers of the best evaluation with one another; -1 means that no such box exists."""
    found, half, tight = [], numbers.get("AP50") or 0.0, numbers.get("AP75")
    if half > 0.3 and tight is not None and tight < half / 3:
        found.append(
            f"objects are found, but their boxes are not tight (AP50 {half:.3f}, AP75 {tight:.3f}): look at how "
            "closely the labels follow the objects, or raise input_size"
        )
    small, large = numbers.get("APs"), numbers.get("APl")
    if small is not None and large is not None and large > 0.1 and 0 <= small < large / 2:
        found.append(f"small objects are found worse (APs {small:.3f}, APl {large:.3f}): raise input_size")
    return found


def _classes(data: DataFacts) -> list[str]:
    found = []
    if data.undetected:
        found.append(f"no detection with a score of {SURE} or more of {quote_names(list(data.undetected))}")
    few = [name for name, count in zip(data.names, data.boxes.tolist()) if 0 < count < FEW_BOXES]
    if few:
        note = f"fewer than {FEW_BOXES} boxes to learn from: {quote_names(few)}: label more of them"
        # Otherwise none is rarer than the others, or so few images are repeated less than once.
        if len(few) < np.count_nonzero(data.boxes) and data.trained >= FEW_TO_TRAIN:
            note += ", or let their images come more often (TrainReader.repeat_threshold)"
        found.append(note)
    return found
