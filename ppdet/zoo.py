"""The published FCOS detectors by name: their configurations, and detectors with the published weights.

    import ppdet

    detector = ppdet.zoo.load("fcos_r50_fpn_1x_coco")
    for index, rows in detector.detect(["street.jpg"]):
        print(rows)  # (M, 6): class, score, x1, y1, x2, y2

They are listed in configs/zoo.yml; docs/MODEL_ZOO.md and `ppdet zoo` show them all.
"""

import builtins
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ppdet.core.shipped_configs import CONFIGS
from ppdet.utils.disk.files import read_text
from ppdet.utils.errors import UserError, nearest

if TYPE_CHECKING:
    from ppdet.engine.predictor import Predictor


class ZooError(UserError, ValueError):
    """An unknown detector, or one without weights; the message says what to do."""


class Source(NamedTuple):
    """Who published detectors.

    page: address of the publication, or None. hardware: what memory and speed were measured on, and how.
    """

    name: str
    page: str | None
    hardware: str


class Published(NamedTuple):
    """A published detector.

    config: its configuration in this project. ap: box AP in percent on COCO val2017 as published, or None. weights:
    their URL, or None. reported: memory and speed as published, such as "3.6 GB, 22.7 images/s", or "".
    """

    name: str
    source: Source
    config: Path
    ap: float | None
    weights: str | None
    reported: str


def list() -> "builtins.list[str]":
    """Return the names of all published detectors, in the order of docs/MODEL_ZOO.md."""
    return [detector.name for detector in published()]


def published() -> "builtins.list[Published]":
    """Return all published detectors, in the order of docs/MODEL_ZOO.md."""
    import yaml

    content = yaml.safe_load(read_text(CONFIGS / "zoo.yml"))
    sources = {name: Source(name, **fields) for name, fields in content["sources"].items()}
    return [
        Published(
            name=name,
            source=sources[entry["source"]],
            config=CONFIGS / entry.get("config", f"fcos/{name}.yml"),
            ap=entry["ap"],
            weights=entry.get("weights"),
            reported=entry.get("reported", ""),
        )
        for name, entry in content["detectors"].items()
    ]


def find(name: str) -> Published:
    """Return the published detector of this name.

    Raises:
        ZooError: no detector has this name.
    """

    detectors = {detector.name: detector for detector in published()}
    if name not in detectors:
        raise ZooError(f"there is no published detector {name!r}{nearest(name, detectors)}; ppdet.zoo.list() lists all")
    return detectors[name]


def load(name: str, weights: str | None = None, overrides: Iterable[str] = ()) -> "Predictor":
    """Return a detector with published weights, which are downloaded once and converted where necessary.

    Its method `detect` finds objects in image files.

    Args:
        name: one of `list()`.
        weights: path or URL of other weights, of any supported code base, to use instead of the published ones.
        overrides: changes to the configuration, KEY=VALUE as after -o on the command line, such as device=cpu.

    Raises:
        ZooError: no detector has this name, or it has no published weights and `weights` is None.
        OSError, ConversionError, CheckpointError: the weights cannot be downloaded or read, or do not fit the model.
    """
    from ppdet.engine.device_choice import set_device
    from ppdet.utils.process.paddle_setup import load_paddle

    detector = find(name)
    source = weights or detector.weights
    if source is None:
        raise ZooError(f"{name}: {detector.source.name} has published no weights for it: pass weights=FILE")
    load_paddle(announce=False)
    from ppdet.core.workspace import load_config, merge_config
    from ppdet.engine.predictor import Predictor

    cfg = merge_config(load_config(str(detector.config), overrides), {"weights": str(source)})
    set_device(cfg)
    return Predictor(cfg)
