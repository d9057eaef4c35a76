"""The published FCOS detectors by name: their configurations, and detectors with the published weights.

    import ppdet.zoo

    detector = ppdet.zoo.load("fcos_r50_fpn_1x_coco")
    for index, rows in detector.detect(["street.jpg"]):
        print(rows)  # (M, 6): class, score, x1, y1, x2, y2

docs/MODEL_ZOO.md shows them all. They are listed in configs/zoo.yml, beside this package in a checkout of the
repository (`pip install -e .`).
"""

import builtins
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ppdet.utils.disk.files import read_text
from ppdet.utils.errors import UserError

if TYPE_CHECKING:
    from ppdet.engine.predictor import Predictor

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


class ZooError(UserError, ValueError):
    """There is no such detector, or it has no weights; the message says what there is, and what to do."""


class Source(NamedTuple):
    """Who published detectors. page: its address, or None. hardware: what its figures were measured on."""

    name: str
    page: str | None
    hardware: str


class Published(NamedTuple):
    """A published detector.

    config: its configuration here. ap: box AP in percent on COCO val2017 as the source says, or None. weights: where
    the source keeps them, or None. theirs: memory and speed as the source says, or an empty text.
    """

    name: str
    source: Source
    config: Path
    ap: float | None
    weights: str | None
    theirs: str


def list() -> "builtins.list[str]":
    """Names of all published detectors, in the order of docs/MODEL_ZOO.md."""
    return [one.name for one in published()]


def published() -> "builtins.list[Published]":
    """All published detectors.

    Raises:
        ZooError: the package was installed without its repository.
    """
    import yaml

    path = CONFIGS / "zoo.yml"
    if not path.is_file():
        raise ZooError(f"{path}: no such file: configurations are in the repository; install it with pip install -e .")
    content = yaml.safe_load(read_text(path))
    sources = {name: Source(name, **about) for name, about in content["sources"].items()}
    return [
        Published(
            name=name,
            source=sources[entry["source"]],
            config=CONFIGS / entry.get("config", f"fcos/{name}.yml"),
            ap=entry["ap"],
            weights=entry.get("weights"),
            theirs=entry.get("theirs", ""),
        )
        for name, entry in content["detectors"].items()
    ]


def find(name: str) -> Published:
    """The published detector of that name.

    Raises:
        ZooError: there is none.
    """
    from ppdet.utils.errors import nearest

    found = {one.name: one for one in published()}
    if name not in found:
        raise ZooError(f"there is no published detector {name!r}{nearest(name, found)}; ppdet.zoo.list() has all")
    return found[name]


def load(name: str, weights: str | None = None, overrides: Iterable[str] = ()) -> "Predictor":
    """A detector for images in files: `detect` of what this returns. Weights of other code bases are converted.

    Args:
        name: one of `list()`.
        weights: path or URL of weights in place of the published ones, of any code base.
        overrides: key=value, as after -o on the command line, such as device=cpu.

    Raises:
        ZooError: no such detector, or its source publishes no weights and none are given.
        OSError, ConversionError, CheckpointError: they cannot be had, or do not fit.
    """
    from ppdet.engine.runtime import load_paddle, set_device

    one = find(name)
    source = weights or one.weights
    if source is None:
        raise ZooError(f"{name}: {one.source.name} publishes no weights of it: give weights=FILE")
    load_paddle(announce=False)
    from ppdet.core.workspace import load_config, merge_config
    from ppdet.engine.predictor import Predictor

    cfg = merge_config(load_config(str(one.config), overrides), {"weights": str(source)})
    set_device(cfg)
    return Predictor(cfg)
