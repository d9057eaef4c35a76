"""Kinds of cases for which one limit of the project is switched off; the tests expect a finding in each of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from fuzz.case import Case, Kind
from fuzz.configurations import YAML
from fuzz.draw import Draw
from fuzz.pictures import IMAGES
from fuzz.weights import WEIGHTS
from ppdet.core import yaml_graph

WITHOUT_LIMIT = 2**60
MOST_DRAWN = 3000  # cases among which one of the wanted sort is looked for


@dataclass
class EndlessAllowance(yaml_graph.Allowance):
    """Allows a configuration everything."""

    files: int = WITHOUT_LIMIT
    size: int = WITHOUT_LIMIT
    values: int = WITHOUT_LIMIT
    characters: int = WITHOUT_LIMIT


# For each limit: its kind, where it is, what stands in its place, and how the cases were made that it is there for.
LIMITS: dict[str, tuple[Kind, dict[str, Any], tuple[str, ...]]] = {
    "weights": (
        WEIGHTS,
        {"ppdet.utils.formats.unpickle.Allowance.take": lambda self, count: None},
        ("bomb: arrays, 2000", "bomb: buffers, 2000"),
    ),
    "pixels": (
        IMAGES,
        {"ppdet.data.image_files.size.most_pixels": lambda: WITHOUT_LIMIT},
        ("ppm, 32767 x 32768", "ppm, 32768 x 32767"),
    ),
    # Some of these files have tables before each scan, which are then counted as segments.
    "scans": (
        IMAGES,
        {f"ppdet.data.image_files.jpeg.{check}": lambda *_: None for check in ("_check_scans", "_check_segments")},
        ("3000 scans of 7000",),
    ),
    "yaml": (
        YAML,
        {"ppdet.core.tree.Allowance": EndlessAllowance, "ppdet.core.yaml_files.Allowance": EndlessAllowance},
        ("aliases", "bases, doubled"),
    ),
}


def _builder(name: str) -> Callable[[Draw], Case]:
    """Makes the case of this number among those that a limit is there for."""
    kind, _, sorts = LIMITS[name]

    def build(draw: Draw) -> Case:
        left = draw.number_of_case
        for number in range(MOST_DRAWN):
            case = kind.build(Draw(name, 0, number))
            if any(sort in case.made for sort in sorts):
                if not left:
                    return case
                left -= 1
        raise AssertionError(f"less than {draw.number_of_case + 1} in {MOST_DRAWN} cases are made as {sorts}")

    return build


def _without(name: str, subject: Callable[[Case], Any]) -> Callable[[Case], Any]:
    def run(case: Case) -> Any:
        patches = [patch(place, other) for place, other in LIMITS[name][1].items()]
        for one in patches:
            one.start()
        try:
            return subject(case)
        finally:
            for one in patches:
                one.stop()

    return run


KINDS = {
    f"{name} {state}": kind._replace(
        build=_builder(name),
        subjects=kind.subjects
        if state == "with"
        else {key: _without(name, subject) for key, subject in kind.subjects.items()},
    )
    for name, (kind, _, _) in LIMITS.items()
    for state in ("with", "without")
}
