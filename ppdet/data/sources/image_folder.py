"""Images without boxes: a folder of them, or a list of paths."""

import os
import re
from collections.abc import Sequence

import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.sources.coco_names import COCO_CATEGORIES
from ppdet.data.sources.dataset import DetectionDataset, image_folder, images_below, join_path
from ppdet.data.sources.records import Records
from ppdet.utils.disk.files import NUL_ADVICE, lines_of, read_text
from ppdet.utils.errors import DataError
from ppdet.utils.formats.annotation_kinds import holds_object, names_problem
from ppdet.utils.formats.coco_file import clean_name, coco_categories, load_coco
from ppdet.utils.logger import get_logger
from ppdet.utils.ranges import MAX_CLASSES
from ppdet.utils.shipped_data import how_to_get

logger = get_logger(__name__)
LARGEST_LIST = 2**24  # bytes of a list of class names


@register
@serializable
class ImageFolder(DetectionDataset):
    """Images to detect on, and the names of the classes.

    The folder is scanned when the records are first needed, because exporting needs only the class names.

    Raises DataError for a missing folder or file, and if there is no image.

    Args:
        dataset_dir: folder whose images are used, with its subfolders and in sorted order, unless `set_images` is
            called.
        image_dir: use this subfolder of dataset_dir instead; or a URL, as in COCODataSet.
        anno_path: file of the class names, a COCO JSON or a text file with one name per line; relative to dataset_dir
            or to the working directory. If COCO's own file is missing, COCO's names are used. A text file has no
            category ids: those stored with the weights are used, or else 0, 1, …
        sample_num: use only this many images of the folder, the first ones; -1 for all.
    """

    def __init__(
        self,
        *,
        dataset_dir: str | None = None,
        image_dir: str | None = None,
        anno_path: str | None = None,
        sample_num: int = -1,
    ) -> None:
        self.image_dir = image_folder(dataset_dir, image_dir) if dataset_dir or image_dir else None
        self.sample_num = sample_num
        self.category_ids, self.class_names = self._read_classes(dataset_dir, anno_path)
        self._records: Sequence[dict] | None = None

    @property
    def records(self) -> Sequence[dict]:  # type: ignore[override]  # read-only here
        """See DetectionDataset."""
        if self._records is None:
            records = self._make_records(self._scan())
            self._records = records[: self.sample_num] if self.sample_num >= 0 else records
        return self._records

    def _renumber(self, new: np.ndarray) -> None:
        """Nothing to do: the records have no classes, and may not have been made yet."""

    def set_images(self, paths: Sequence[str]) -> None:
        """Detect on these files, in this order, with the image ids 0, 1, … Readers skip files that cannot be read."""
        self._records = self._make_records(paths)

    def _make_records(self, paths: Sequence[str]) -> Records:
        if isinstance(paths, (str, bytes)) or not len(paths):
            raise DataError("ImageFolder.set_images: expected a list of at least one image path")
        return Records(ids=np.arange(len(paths)), files=[join_path(None, path) for path in paths])

    def _scan(self) -> list[str]:
        if self.image_dir is None:
            raise DataError("ImageFolder has no images: set TestDataset.dataset_dir or give image paths")
        return images_below(self.image_dir)

    def _read_classes(self, dataset_dir: str | None, anno_path: str | None) -> tuple[list[int], list[str]]:
        if not anno_path:
            return [], []
        places = [join_path(dataset_dir, anno_path), join_path(None, anno_path)]
        path = next((place for place in places if os.path.isfile(place)), None)
        path = path or next((place for place in places if os.path.isdir(place)), None)
        if path is None and os.path.basename(anno_path) in ("instances_val2017.json", "instances_train2017.json"):
            logger.info("%s does not exist: using COCO's 80 class names", places[0])
            return [i for i, _ in COCO_CATEGORIES], [name for _, name in COCO_CATEGORIES]
        if path is None:
            advice = how_to_get(places[0], "check TestDataset.anno_path")
            raise DataError(f"file of class names {places[0]} does not exist: {advice}")
        self.anno_path = path
        if os.path.isfile(path) and (path.lower().endswith(".json") or holds_object(path)):
            return coco_categories(load_coco(path), path)
        problem = names_problem(path)
        if problem:
            raise DataError(problem)
        self.has_category_ids = False
        return _read_names(path)


def _read_names(path: str) -> tuple[list[int], list[str]]:
    try:
        names = [clean_name(line) for line in lines_of(read_text(path, largest=LARGEST_LIST))]
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text: expected one class name per line, or a .json file") from None
    if any("\0" in name for name in names):
        raise DataError(f"{path} {NUL_ADVICE}")
    if len(names) > MAX_CLASSES:
        raise DataError(f"{path} has {len(names):,} lines: expected at most {MAX_CLASSES:,} class names")
    if not names:
        raise DataError(f"{path} is empty: expected one class name per line")
    form = _other_form(names)
    if form:
        raise DataError(f"{path} is {form}: expected one class name per line, alone, or a file of COCO JSON")
    return list(range(len(names))), names


def _other_form(lines: list[str]) -> str | None:
    """The form of a file whose lines are not class names; None if they may be class names."""
    if lines[0].startswith("[") and lines[-1].endswith("]") and ("," in lines[0] or len(lines[0]) == 1):
        return "a list in brackets"
    if re.match(r"item\s*:?\s*\{", lines[0]):
        return "a label map (pbtxt)"
    if len(lines) == 1:
        return "one line of names with commas" if "," in lines[0] else None
    if all(line.startswith("- ") for line in lines):
        return "a YAML list"
    for pattern in (r"(\d+)\s*[,:;\t]\s*\S.*", r".*\S\s*[,:;\t]\s*(\d+)", r"(\d+) +\S.*"):
        numbers = [int(match[1]) for line in lines if (match := re.fullmatch(pattern, line))]
        starts = (0,) if " +" in pattern else (0, 1)  # "1 euro", "2 euro" may be names
        if any(numbers == list(range(start, start + len(lines))) for start in starts):
            return "a list with numbers beside the names"
    return None
