"""What the evaluations of a finished run say, and what to try next, in sentences.

Only what follows from the run's own numbers is said. How much more labels would bring does not follow from one run.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ppdet.data.classes import quote_names

NOTHING = 0.02  # AP below which nothing useful was learned
CHANGE = 0.01  # of AP; less is called flat
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
    """

    names: Sequence[str]
    boxes: np.ndarray
    trained: int
    evaluated: int
    undetected: Sequence[str]


def run_notes(evaluations: dict[int, dict[str, float]], epochs: int, data: DataFacts) -> list[str]:
    """Return sentences about a run; an empty list without evaluations.

    Args:
        evaluations: COCO's numbers by complete epochs.
        epochs: number of epochs that were trained.
    """
    usable = {epoch: numbers for epoch, numbers in sorted(evaluations.items()) if numbers["AP"] >= 0}
    if not usable:
        return []
    best = max(usable, key=lambda epoch: usable[epoch]["AP"])
    return [
        _result(best, usable[best]["AP"], epochs, data),
        *_trend([usable[epoch]["AP"] for epoch in usable], best),
        *_weak_sides(usable[best]),
        *_classes(data),
        "whether more labels help is seen by a run with half of them (TrainDataset.sample_num="
        f"{max(1, data.trained // 2)}): they do if its AP is clearly lower",
    ]


def _result(best: int, value: float, epochs: int, data: DataFacts) -> str:
    rough = ", too few for more than a rough figure" if data.evaluated < FEW_EVALUATED else ""
    return (
        f"AP {value:.3f} after epoch {best} of {epochs}, on {data.evaluated} images{rough}; trained on {data.trained} "
        f"images with {int(data.boxes.sum())} boxes of {len(data.names)} classes"
    )


def _trend(values: list[float], best: int) -> list[str]:
    """Say whether AP was still rising: the best of the last third of evaluations against the best before."""
    highest = max(values)
    if highest < NOTHING:
        return [
            "almost nothing was learned: look at train_batch.jpg for wrong boxes, check the learning rate, and train "
            "longer"
        ]
    if len(values) < FEWEST:
        return [f"{len(values)} evaluations are too few to tell whether AP was still rising"]
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
        found.append(
            f"fewer than {FEW_BOXES} boxes to learn from: {quote_names(few)}: label more of them, or let their images "
            "come more often (TrainReader.repeat_threshold)"
        )
    return found
