"""COCO files as other tools lay them out: placeholder categories, ids from 0, and paths with folders of the tool."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ppdet.data.annotations.labeled_set import LabeledBox, LabeledImage, LabeledSet, Losses, Objects, box_around
from ppdet.data.annotations.parsing import size_of
from ppdet.data.annotations.tool_splits import split_of_name
from ppdet.utils.formats.coco_annotations import Annotations
from ppdet.utils.formats.coco_file import clean_name, coco_categories, file_names_of, image_ids_of, load_coco_json

OWN_FIELDS = ("id", "image_id", "category_id", "bbox", "area")  # of an annotation; all others are kept as they are


def read_coco(root: str, files: list[str], losses: Losses) -> LabeledSet:
    """Read COCO files. Their boxes and the other fields of annotations are kept.

    The category with id 0 of Roboflow, which no annotation has and the other ones name as their supercategory, is
    dropped. The split is that in the name of the file or of its folder: train, valid, val or test.

    Args:
        root: the folder that is converted.
        files: the JSON files in it.
    """
    result = LabeledSet("COCO", losses)
    for path in files:
        content = load_coco_json(path)
        category_ids, names = coco_categories(content, path)
        label_of = dict(zip(category_ids, names))
        ids, file_names = image_ids_of(content, path), file_names_of(content, path)
        rows = content.get("annotations") or []
        annotations = Annotations(rows, image_ids=ids, category_ids=category_ids, path=path)
        for name in _placeholders(content, category_ids, annotations):
            losses.add("placeholder categories that no box has left out", f"{path}, {name}")
            names = [other for other in names if other != name]
        result.names += names
        by_image: dict[int, list[int]] = {}
        for number, image in enumerate(annotations.image.tolist()):
            by_image.setdefault(image, []).append(number)
        for number in by_image.pop(-1, []):
            losses.add("annotations of images that the file does not list left out", f"{path} ({number})")
        for position, name in enumerate(file_names):
            picked = [rows[number] for number in by_image.get(position, [])]
            row = content["images"][position]
            size = size_of(row.get("width"), row.get("height"))
            boxes = _boxes(picked, label_of, losses, f"{path}, {name}")
            result.images.append(LabeledImage(name, path, size, boxes, split_of_name(root, path)))
    return result


def _boxes(
    rows: list[dict[str, Any]], label_of: dict[int, str], losses: Losses, place: str
) -> Callable[[tuple[int, int]], list[LabeledBox]]:
    """Return the function that reads the annotations of an image."""

    def read(row: dict[str, Any]) -> LabeledBox:
        more = {key: value for key, value in row.items() if key not in OWN_FIELDS}
        box = row.get("bbox")
        if not box:
            polygons = row["segmentation"]  # polygons are lists of x1, y1, x2, y2, …; masks are not read
            corners = [point for polygon in polygons for point in np.reshape(polygon, (-1, 2)).tolist()]
            box = box_around(corners)
            losses.add("polygons without a box given the box around them", place)
        x, y, width, height = (float(side) for side in box)
        return LabeledBox(label_of[int(row["category_id"])], (x, y, width, height), more)

    return lambda size: Objects(losses, place).boxes(rows, read)


def _placeholders(content: dict[str, Any], ids: list[int], annotations: Annotations) -> list[str]:
    """The names of category 0, if no annotation has it and it is only the supercategory of the others."""
    if 0 not in ids or len(ids) < 2 or 0 in annotations.category_ids:
        return []
    rows = [row for row in content["categories"] if isinstance(row, dict)]
    zero = next(row for row in rows if row.get("id") == 0)
    others = {str(row.get("supercategory")) for row in rows if row is not zero}
    return [clean_name(zero["name"])] if others == {str(zero["name"])} else []
