"""thresholds.json: the score threshold of each class, which a report writes and `ppdet export --thresholds` reads."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ppdet.data.classes import quote_names
from ppdet.data.data_checks import FEW_TO_EVALUATE
from ppdet.utils.disk.files import is_count, is_number, read_text, write_json
from ppdet.utils.errors import DeployError
from ppdet.utils.formats.coco_file import short_repr
from ppdet.utils.logger import get_logger
from ppdet.utils.printable import counted

logger = get_logger(__name__)
THRESHOLDS = "thresholds.json"
LARGEST = 16 * 2**20  # bytes


def write_thresholds(path: str | Path, thresholds: Mapping[str, float], images: int) -> None:
    """Write the threshold of each class, from 0 to 1, by the class's name, and on how many images they were chosen."""
    write_json(path, {"thresholds": dict(thresholds), "images": images})


def read_file(path: str | Path) -> dict[str, Any]:
    """Return the content of a file: `thresholds` by the names of classes, and `images`.

    Raises:
        DeployError: it cannot be read, has none, or one is not a number from 0 to 1.
    """
    try:
        content = json.loads(read_text(path, largest=LARGEST))
    except OSError as error:
        raise DeployError(
            f"{path}: {error.strerror or error}: ppdet eval RUN --report DIR writes {THRESHOLDS} if the "
            "model is right often enough; without --thresholds, boxes are shown from a score of 0.5 on"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DeployError(f"{path}: not JSON: {error}") from None
    thresholds = content.get("thresholds") if isinstance(content, dict) else None
    if not isinstance(thresholds, dict) or not thresholds:
        raise DeployError(f'{path}: expected {{"thresholds": {{"CLASS": 0.5, ...}}}}, as ppdet eval --report writes')
    for name, value in thresholds.items():
        if not is_number(value) or not 0 <= value <= 1:
            raise DeployError(
                f"{path}: the threshold of {quote_names([name])} is {short_repr(value)}, expected a number from 0 to 1"
            )
    return content


def read_thresholds(path: str | Path, class_names: Sequence[str]) -> dict[str, float]:
    """Return the thresholds in a file by the names of classes.

    Warnings name classes that it does not have, and tell if the thresholds were chosen on few images.

    Raises:
        DeployError: see `read_file`; or one is of another class.
    """
    content = read_file(path)
    thresholds = content["thresholds"]
    strange = [name for name in thresholds if name not in class_names]
    if strange:
        raise DeployError(f"{path}: the model has no class {quote_names(strange)}, it has {quote_names(class_names)}")
    absent = [name for name in class_names if name not in thresholds]
    if absent:
        logger.warning("%s has no threshold of %s: draw_threshold counts for these", path, quote_names(absent))
    images: Any = content.get("images")
    if is_count(images) and images < FEW_TO_EVALUATE:
        logger.warning("%s: chosen on %s only: others may need other thresholds", path, counted(images, "image"))
    return {name: float(value) for name, value in thresholds.items()}
