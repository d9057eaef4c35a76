"""The COCO files of a data set, one for each split, and the folders of their images."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ppdet.data.data_checks import UNUSABLE, class_findings, few_images
from ppdet.data.sources.coco_dataset import COCODataSet, image_path
from ppdet.data.sources.dataset import join_path
from ppdet.utils.disk.files import decode_text, open_regular
from ppdet.utils.errors import DataError
from ppdet.utils.formats.annotation_kinds import coco_problem
from ppdet.utils.formats.coco_file import file_names_of, load_coco_json
from ppdet.utils.formats.label_formats import LABEL_FIRST

TRIED_NAMES = 50  # images that are looked for in each folder that may have them
EVALUATED = re.compile(r"val|test|eval|dev", re.IGNORECASE)  # in the name of a split that is not trained on
USUAL = re.compile(r"(train|val|test)(\d{4})?|valid|all", re.IGNORECASE)  # names of splits
CANNOT_LEARN = "a model cannot learn them"
NO_AP = "AP leaves them out"


@dataclass(frozen=True)
class ListedSplit:
    """A COCO file and what reading it finds.

    Attributes:
        name: such as "train".
        path: the file.
        image_dir: folder of its images.
        is_evaluated: whether it is for evaluation, by its name; otherwise it is for training.
        content: the parsed file.
        dataset: its records as training has them, those without boxes included.
        findings: one line for each thing that looks wrong in the file alone, but for unusable boxes.
        unusable: the line about boxes that cannot be used, if they are more than a few; "" otherwise.
    """

    name: str
    path: str
    image_dir: str
    is_evaluated: bool
    content: dict[str, Any]
    dataset: COCODataSet
    findings: list[str]
    unusable: str = ""

    @property
    def files(self) -> list[str]:
        """The paths of the images."""
        return [record["im_file"] for record in self.dataset.records]

    def boxes_by_class(self) -> np.ndarray:
        """(classes,) the number of usable boxes of each class."""
        labels = np.concatenate([record["gt_class"] for record in self.dataset.records]).reshape(-1)
        return np.bincount(labels, minlength=len(self.dataset.class_names))


def read_split(path: str, image_dir: str | None = None, name: str | None = None) -> ListedSplit:
    """Read a COCO file.

    Args:
        image_dir: folder of its images; None looks for it near the file, see `find_image_dir`.
        name: of the split; None takes the file's, or its folder's for files such as _annotations.coco.json.

    Raises:
        DataError: the file is not COCO, or its images are in none of the folders.
    """
    path = join_path(None, path)
    name = name or name_of(path)
    content = load_coco_json(path)
    if image_dir is None:
        rows = content.get("images")
        names = file_names_of(content, path) if isinstance(rows, list) else []
        image_dir = find_image_dir(path, names)
    is_evaluated = bool(EVALUATED.search(name))
    dataset = COCODataSet(
        image_dir=image_dir,
        anno_path=path,
        data_fields=["image", "gt_bbox", "gt_class", "is_crowd"],
        allow_empty=True,
        for_evaluation=is_evaluated,
    )
    unusable = next((text for text in dataset.findings if UNUSABLE in text), "")
    findings = [text for text in dataset.findings if text != unusable]
    split = ListedSplit(name, path, join_path(None, image_dir), is_evaluated, content, dataset, findings, unusable)
    counts = split.boxes_by_class()
    if counts.any():
        effect = NO_AP if is_evaluated else CANNOT_LEARN
        findings += class_findings(dataset.class_names, dataset.category_ids, counts, effect)
    elif not dataset.findings:
        findings.append("none of its images has a usable box")
    few = few_images(len(set(split.files)), training=not is_evaluated)
    findings += [few] if few else []
    return split


def name_of(path: str) -> str:
    """The name of a split: "train" for train.json and instances_train.json, or of its folder for a general name."""
    stem = Path(path).stem
    stem = re.sub(r"^instances_", "", stem)
    return Path(path).parent.name if stem.startswith("_annotations") or stem == "annotations" else stem


def find_files(path: str) -> list[str]:
    """Return the COCO files of a data set: `path` itself, or those in a folder.

    In a folder, these are the JSON files of its subfolder `annotations`; without them, its own; without these, those
    of its subfolders, as Roboflow exports them. Of a folder's files, those that are not COCO are left out.

    Raises:
        DataError: there are none, or no such folder or file, or one with the name of a split is not COCO.
    """
    if not os.path.exists(path):
        raise DataError(f"{path} does not exist: name the folder of a data set, or COCO files")
    if not os.path.isdir(path):
        return [path]
    folder = Path(path)
    for pattern in ("annotations/*.json", "*.json", "*/*.json"):
        found = []
        for file in map(str, sorted(folder.glob(pattern))):
            problem = coco_problem(file)
            if problem and USUAL.fullmatch(name_of(file)):
                raise DataError(problem)
            found += [file] if problem is None and _lists_images(file) else []
        if found:
            # Training comes first, as people name it first.
            return sorted(found, key=lambda file: (bool(EVALUATED.search(name_of(file))), file))
    raise DataError(
        f"{path}: no COCO file in it (looked for annotations/*.json, *.json and */*.json); `ppdet data convert` makes "
        f"them from the files of other tools; {LABEL_FIRST}"
    )


def train_and_val(path: str) -> tuple[str, str | None]:
    """Return the file to train on and the file to evaluate on, None without one, of those that `find_files` finds.

    A file that is given by itself is trained on. Of several files for evaluation, validation comes before test.

    Raises:
        DataError: see `find_files`; or all files are for evaluation.
    """
    files = find_files(path)
    if files == [path]:
        return path, None
    evaluated = [file for file in files if EVALUATED.search(name_of(file))]
    others = [file for file in files if file not in evaluated]
    trained = [file for file in others if name_of(file).lower().startswith("train")]
    trained = trained or [file for file in others if name_of(file).lower() == "all"] or others[:1]
    if not trained:
        found = ", ".join(os.path.relpath(file, path) for file in evaluated)
        raise DataError(f"{path}: no train.json, only {found:.200}, for evaluation: name the COCO file to train on")
    evaluated.sort(key=lambda file: ("val" not in name_of(file).lower(), "test" in name_of(file).lower()))
    return trained[0], evaluated[0] if evaluated else None


def _lists_images(path: str) -> bool:
    """Whether a JSON file begins like one that lists images; those of results and settings do not."""
    with open_regular(path) as file:
        start = decode_text(file.read(2**20), errors="replace")
    return re.search(r'"(?:images|annotations|categories)"\s*:\s*\[', start) is not None


def find_image_dir(path: str, names: Sequence[str]) -> str:
    """Return the folder in which most images of a COCO file are.

    It is the file's folder, the folder above it, or a subfolder of one of the two, or of their `images`. Of
    several folders with equally many, one with the name of the split is preferred.

    Args:
        names: `file_name` of the images.

    Raises:
        DataError: no folder has any of the images that are looked for.
    """
    home = os.path.dirname(path)
    above = os.path.dirname(home)
    places = [home, above]
    for folder in (home, above, os.path.join(home, "images"), os.path.join(above, "images")):
        if os.path.isdir(folder):
            with os.scandir(folder) as entries:
                places += sorted(entry.path for entry in entries if entry.is_dir())
    tried = names[:: max(1, -(-len(names) // TRIED_NAMES))]
    counts = [sum(os.path.isfile(image_path(place, name)) for name in tried) for place in places]
    if not any(counts):
        raise DataError(f"{path}: its images were not found in or beside its folder: name theirs with --image_dir")
    best = [place for place, count in zip(places, counts) if count == max(counts)]
    return next((place for place in best if os.path.basename(place) == name_of(path)), best[0])
