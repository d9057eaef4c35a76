"""Images without boxes: a folder of them, or a list of paths."""

import os
import re
from collections.abc import Sequence

import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.sources.coco_names import COCO_CATEGORIES
from ppdet.data.sources.dataset import DetectionDataset, join_path, require_folder
from ppdet.utils.disk.files import NULS, lines_of, read_text
from ppdet.utils.disk.images import find_images
from ppdet.utils.errors import DataError
from ppdet.utils.formats.annotation_kinds import holds_object, names_problem
from ppdet.utils.formats.coco_file import clean_name, coco_categories, load_coco_json
from ppdet.utils.logger import get_logger
from ppdet.utils.shipped_data import how_to_get

logger = get_logger(__name__)


@register
@serializable
class ImageFolder(DetectionDataset):
    """Images to detect on, and the names of the classes.

    Args:
        dataset_dir: folder scanned, with its subfolders, in sorted order when `set_images` is not called.
            The scan happens when the records are first needed: exporting needs the class names alone.
        image_dir: scan this subfolder instead.
        anno_path: class names, from a COCO JSON or from a text file with one name a line; relative to
            dataset_dir or to the working directory. Where COCO's own file is missing, COCO's names are used. A text
            file has no category ids: those of the weights are taken, or 0, 1, … where these remember none.
        sample_num: only the first so many images; -1 for all.

    Raises DataError for a missing folder or file, and when there is no image.
    """

    def __init__(
        self,
        *,
        dataset_dir: str | None = None,
        image_dir: str | None = None,
        anno_path: str | None = None,
        sample_num: int = -1,
    ) -> None:
        self.image_dir = join_path(dataset_dir, image_dir) if dataset_dir or image_dir else None
        self.sample_num = sample_num
        self.category_ids, self.class_names = self._read_classes(dataset_dir, anno_path)
        self._records: list[dict] | None = None

    @property
    def records(self) -> list[dict]:
        if self._records is None:
            self.set_images(self._scan())
        return self._records

    def _renumber(self, new: np.ndarray) -> None:
        """Nothing to do: the records have no classes. They need not even be listed yet."""

    def set_images(self, paths: Sequence[str]) -> None:
        """Detect on these files, in this order; they get the image ids 0, 1, …

        A file that cannot be read is found out, and skipped, when its turn comes.
        """
        if isinstance(paths, (str, bytes)) or not len(paths):
            raise DataError("ImageFolder.set_images: expected a list of at least one image path")
        paths = paths[: self.sample_num] if self.sample_num >= 0 else paths
        self._records = [
            {"im_id": np.array([i], dtype=np.int64), "im_file": join_path(None, path)} for i, path in enumerate(paths)
        ]

    def _scan(self) -> list[str]:
        if self.image_dir is None:
            raise DataError("ImageFolder has no images: set TestDataset.dataset_dir or give image paths")
        require_folder(self.image_dir)
        return find_images(self.image_dir)

    def _read_classes(self, dataset_dir: str | None, anno_path: str | None) -> tuple[list[int], list[str]]:
        if not anno_path:
            return [], []
        places = [join_path(dataset_dir, anno_path), join_path(None, anno_path)]
        path = next((place for place in places if os.path.isfile(place)), None)
        path = path or next((place for place in places if os.path.isdir(place)), None)
        if path is None and os.path.basename(anno_path) in (
            "instances_val2017.json",
            "instances_train2017.json",
        ):
            logger.info(f"{places[0]} does not exist: using COCO's 80 class names")
            return [i for i, _ in COCO_CATEGORIES], [name for _, name in COCO_CATEGORIES]
        if path is None:
            advice = how_to_get(places[0], "check TestDataset.anno_path")
            raise DataError(f"file of class names {places[0]} does not exist: {advice}")
        self.anno_path = path
        if os.path.isfile(path) and (path.lower().endswith(".json") or holds_object(path)):
            return coco_categories(load_coco_json(path), path)
        problem = names_problem(path)
        if problem:
            raise DataError(problem)
        self.has_category_ids = False
        return _read_names(path)


def _read_names(path: str) -> tuple[list[int], list[str]]:
    try:
        names = [clean_name(line) for line in lines_of(read_text(path))]
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text: expected one class name a line, or a .json file") from None
    if any("\0" in name for name in names):
        raise DataError(f"{path} {NULS}")
    if not names:
        raise DataError(f"{path} is empty: expected one class name a line")
    form = _other_form(names)
    if form:
        raise DataError(f"{path} is {form}: expected one class name a line, alone, or a file of COCO JSON")
    return list(range(len(names))), names


def _other_form(lines: list[str]) -> str | None:
    """What the lines of a file are whose lines are no names of classes; None where they may be."""
    if lines[0].startswith("[") and lines[-1].endswith("]") and ("," in lines[0] or len(lines[0]) == 1):
        return "a list in brackets"
    if re.match(r"item\s*:?\s*\{", lines[0]):
        return "a label map (pbtxt)"
    if len(lines) == 1:
        return "one line of names with commas" if "," in lines[0] else None
    if all(line.startswith("- ") for line in lines):
        return "a list of YAML"
    for pattern in (r"(\d+)\s*[,:;\t]\s*\S.*", r".*\S\s*[,:;\t]\s*(\d+)", r"(\d+) +\S.*"):
        numbers = [re.fullmatch(pattern, line) for line in lines]
        first = (0,) if " +" in pattern else (0, 1)  # "1 euro", "2 euro" may be names
        if all(numbers) and any([int(m[1]) for m in numbers] == list(range(i, i + len(lines))) for i in first):
            return "a list with numbers beside the names"
    return None
