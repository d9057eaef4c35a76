"""The data set of a COCO annotation file (https://cocodataset.org/#format-data)."""

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.sources.coco_boxes import MAX_SIDE, UsableBoxes
from ppdet.data.sources.dataset import DetectionDataset, image_folder, images_below, join_path, require_folder
from ppdet.data.sources.records import Records
from ppdet.utils.disk.images import no_image_error
from ppdet.utils.disk.object_storage import is_url
from ppdet.utils.errors import DataError
from ppdet.utils.formats.coco_annotations import Annotations
from ppdet.utils.formats.coco_columns import ImageColumns
from ppdet.utils.formats.coco_file import (
    coco_categories,
    column,
    file_names_of,
    image_ids_of,
    load_coco,
    short_repr,
)
from ppdet.utils.logger import get_logger
from ppdet.utils.printable import counted
from ppdet.utils.ranges import MAX_RECORDS, require_number
from ppdet.utils.shipped_data import how_to_get

if TYPE_CHECKING:
    from ppdet.core.compose.inject import ComponentConfig

logger = get_logger(__name__)

FIELDS = ("image", "gt_bbox", "gt_class", "is_crowd")


@register
@serializable
class COCODataSet(DetectionDataset):
    """A COCO detection data set. The file is read in the constructor.

    Classes are numbered in the order of their category ids. Boxes that are not numbers, have no area, or are left of or
    above the image are dropped. The other boxes are not clipped, because the width and height in the file may be wrong;
    Decode clips them to their image when it reads it, and drops those outside. One log line counts what was left out,
    and why. iscrowd and ignore may be 0 or 1, true or false, or "0" or "1". Ids are integers of at most 64 bits.

    Raises DataError for a missing folder or file, and for a file that is not COCO JSON.

    Args:
        dataset_dir: folder of the data set, to which the next two paths are relative.
        image_dir: folder of the images; or its URL in object storage, such as s3://bucket/images, for which fsspec and
            the storage's own package, such as s3fs, are installed.
        anno_path: the JSON file.
        data_fields: fields of the records, some of image, gt_bbox, gt_class, is_crowd.
        sample_num: use only this many images, the first ones in the file; -1 for all.
        load_crowd: keep boxes marked iscrowd. They are then training targets like all other boxes. Boxes marked
            `ignore` are never training targets. COCO's evaluation reads iscrowd whatever is set here.
        allow_empty: keep images without a usable box; false leaves them out, of evaluation too.
        empty_ratio: with allow_empty, keep at most this share of empty images among all images kept, chosen at random
            with a fixed seed; a negative value, or 1 and above, keeps all.
        repeat: how often every image comes in an epoch.
        for_evaluation: the images are for evaluation, not for training: boxes marked `ignore` are used, and an image is
            empty only if it has neither boxes nor crowds. null: true in EvalDataset, false elsewhere.
        supervised: whether the images have labels. If false, data_fields is [image], and the annotations in the file
            are not read; without anno_path, all images in image_dir and its subfolders are used.
    """

    def __init__(
        self,
        *,
        dataset_dir: str | None = None,
        image_dir: str | None = None,
        anno_path: str | None = None,
        data_fields: Sequence[str] = ("image",),
        sample_num: int = -1,
        load_crowd: bool = False,
        allow_empty: bool = False,
        empty_ratio: float = 1.0,
        repeat: int = 1,
        for_evaluation: bool | None = None,
        supervised: bool = True,
    ) -> None:
        name = type(self).__name__
        unknown = sorted(set(data_fields) - set(FIELDS))
        if unknown:
            raise ValueError(f"{name}.data_fields: no field {unknown[0]!r}, there are {', '.join(FIELDS)}")
        if not supervised and set(data_fields) != {"image"}:
            raise ValueError(f"{name}.data_fields: with supervised: false, only [image] is possible")
        require_number(f"{name}.repeat", repeat, minimum=1)
        self.supervised = supervised
        if not anno_path:
            if supervised:
                raise ValueError(f"{name}.anno_path is not set: name the annotation file, relative to dataset_dir")
            self._read_folder(image_folder(dataset_dir, image_dir), sample_num, repeat)
            return
        self.image_dir = image_folder(dataset_dir, image_dir)
        if dataset_dir:
            require_folder(join_path(dataset_dir, None))
        self.anno_path = join_path(dataset_dir, anno_path)

        content = load_coco(self.anno_path)
        self.category_ids, self.class_names = self._categories(content)
        images = _Images(content, self.image_dir, self.anno_path)
        if not os.path.isdir(self.image_dir) and not is_url(self.image_dir):
            advice = how_to_get(self.image_dir, "check COCODataSet.image_dir")
            raise DataError(f"image folder {self.image_dir} does not exist: {advice}")
        wants_boxes = any(field != "image" for field in data_fields)
        if wants_boxes and content.get("annotations") is None:
            raise DataError(f"{self.anno_path} has no 'annotations': leave only image in data_fields, or name another")
        annotations = Annotations(
            self._annotations(content), image_ids=images.ids, category_ids=self.category_ids, path=self.anno_path
        )
        del content
        boxes = UsableBoxes(annotations, images, load_crowd, bool(for_evaluation))
        self.findings = boxes.findings(annotations, images)
        repeated = images.repeated() if boxes.total else ""
        if repeated:
            self.findings.append(repeated)

        kept = np.arange(len(images.ids))
        if boxes.total or wants_boxes:  # otherwise the file lists images to detect on, and all are kept
            kept = _choose(~boxes.is_full, sample_num, allow_empty, empty_ratio)
        elif sample_num >= 0:
            kept = kept[:sample_num]
        require_repeatable(len(kept), repeat)
        columns = {"gt_bbox": boxes.xyxy, "gt_class": boxes.classes, "is_crowd": boxes.crowd}
        self.records = Records(
            ids=np.array(images.ids),
            files=images.files,
            sizes=np.stack([images.heights, images.widths], axis=1),
            starts=boxes.starts,
            boxes={name: column for name, column in columns.items() if name in data_fields},
            kept=np.tile(kept, repeat),
        )
        if not self.records:
            reason = self.findings[0] if self.findings else "check sample_num"
            reason = f"({boxes.report()}): {reason}" if images.ids else "(it lists none)"
            advice = "; allow_empty: true keeps its images" if images.ids and for_evaluation else ""
            raise DataError(f"{self.anno_path}: no image is left to use {reason}{advice}")
        left_out = len(images.ids) - len(kept)
        logger.info(
            "%s: %s%s%s, %s, %s",
            os.path.basename(self.anno_path),
            counted(len(kept), "image"),
            f" ({left_out} without boxes or beyond sample_num left out)" if left_out else "",
            f", each {repeat} times" if repeat > 1 else "",
            counted(len(self.class_names), "class"),
            boxes.report(),
        )

    @classmethod
    def from_config(cls, cfg: "ComponentConfig") -> dict:
        """Resolve for_evaluation, which depends on the data set's slot in the configuration."""
        given = cfg["for_evaluation"]
        return {"for_evaluation": cfg.key == "EvalDataset" if given is None else given}

    def _categories(self, content: dict[str, Any]) -> tuple[list[int], list[str]]:
        if not self.supervised and "categories" not in content:
            return [], []
        return coco_categories(content, str(self.anno_path))

    def _annotations(self, content: dict[str, Any]) -> Any:
        has_any = self.supervised and content.get("annotations") is not None
        return content["annotations"] if has_any else []

    def _read_folder(self, folder: str, sample_num: int, repeat: int) -> None:
        """Use all images in a folder, without labels."""
        paths = images_below(folder)
        paths = paths[:sample_num] if sample_num >= 0 else paths
        require_repeatable(len(paths), repeat)
        if not paths:
            raise no_image_error(folder)  # sample_num is 0
        self.anno_path, self.category_ids, self.class_names = None, [], []
        count = len(paths)
        self.records = Records(ids=np.arange(count), files=paths, kept=np.tile(np.arange(count), repeat))
        logger.info("%s: %s without labels", os.path.basename(folder) or folder, counted(len(paths), "image"))


@register
@serializable
class SemiCOCODataSet(COCODataSet):
    """A COCODataSet under the name that PaddleDetection's configurations of semi-supervised training give it."""


class _Images:
    """The images of the file as columns, in the order of the file."""

    def __init__(self, content: dict[str, Any], folder: str, path: str) -> None:
        self.ids = image_ids_of(content, path)
        rows = content["images"]
        self.names = file_names_of(content, path)
        self.files = image_paths(folder, self.names)
        self.widths = self._side(rows, "width", path)
        self.heights = self._side(rows, "height", path)

    def repeated(self) -> str:
        """One line about images that name the same file; "" if there are none."""
        if len(set(self.files)) == len(self.files):
            return ""
        ids: dict[str, list[int]] = {}
        for identity, path in zip(self.ids, self.files):
            ids.setdefault(path, []).append(identity)
        some = next(path for path, found in ids.items() if len(found) > 1)
        count, (first, second, *_) = len(self.files) - len(ids), ids[some]
        return (
            f"{count} images name a file that another image names too, e.g. ids {first} and {second} both {some}: each "
            "comes with its own boxes only, so that the objects of the other are learned as background: merge them"
        )

    def _side(self, rows: list | ImageColumns, key: str, path: str) -> np.ndarray:
        """Widths or heights (N,) in pixels."""
        if isinstance(rows, ImageColumns):
            values = getattr(rows, f"{key}s").tolist()
        else:
            values = column(rows, key, "image", path)
        try:
            sides = np.array(values, dtype=np.float64)
            right = (sides >= 1) & (sides <= MAX_SIDE) if sides.shape == (len(values),) else np.zeros(1, bool)
            right = right & [type(value) is not bool for value in values]
        except (TypeError, ValueError, OverflowError):
            right = np.array([_is_side(value) for value in values])
        if not right.all():
            wrong = int(np.argmin(right))
            raise DataError(
                f"{path}: image {self.names[wrong]:.200} has no size: its {key} is {short_repr(values[wrong])}, "
                "expected pixels"
            )
        return np.round(sides).astype(np.int64)


def require_repeatable(images: int, repeat: int) -> None:
    """Raise ValueError if so many images cannot be repeated so often."""
    if repeat > 1:
        require_number("images x repeat", images * repeat, maximum=MAX_RECORDS)


def image_paths(folder: str, names: Iterable[str]) -> list[str]:
    """The paths of images, each as by `image_path`, which takes longer."""
    start = f"{folder}/" if is_url(folder) else os.path.join(folder, "")
    if os.sep == "\\":  # names may have drives
        return [image_path(folder, name) for name in names]
    return [image_path(folder, name) if name[:1] == "/" or "\\" in name else start + name for name in names]


def image_path(folder: str, name: str) -> str:
    """The path of the image `name` in `folder`, or its URL, if `folder` is one.

    Names with backslashes, written on Windows, are found elsewhere too.
    """
    if is_url(folder):
        return f"{folder}/{name}"
    path = os.path.join(folder, name)
    if "\\" in name and os.sep != "\\" and not os.path.exists(path):
        return os.path.join(folder, name.replace("\\", "/"))
    return path


def _is_side(value: Any) -> bool:
    try:
        return type(value) is not bool and 1 <= float(value) <= MAX_SIDE
    except (TypeError, ValueError, OverflowError):
        return False


def _choose(is_empty: np.ndarray, sample_num: int, allow_empty: bool, empty_ratio: float) -> np.ndarray:
    """Positions of the images to keep, in the order of the file. The parameters are as in COCODataSet."""
    kept = np.arange(len(is_empty)) if allow_empty else np.flatnonzero(~is_empty)
    if sample_num >= 0:
        kept = kept[:sample_num]
    if allow_empty and 0 <= empty_ratio < 1:
        full, empty = kept[~is_empty[kept]], kept[is_empty[kept]]
        count = min(int(len(full) * empty_ratio / (1 - empty_ratio)), len(empty))
        # The seed is constant, so that all ranks and runs have the same records.
        drawn = np.random.default_rng(0).choice(empty, size=count, replace=False)
        kept = np.sort(np.concatenate([full, drawn]))
    return kept
