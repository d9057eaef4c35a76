"""CSV tables, a box in each row, as TensorFlow's tutorials, Roboflow, Open Images and keras-retinanet write them."""

import csv
import io
from typing import Any

from ppdet.data.annotations.image_index import clean_parts
from ppdet.data.annotations.labeled_set import (
    LARGEST_SHARE,
    MORE_FIELDS,
    LabeledBox,
    LabeledImage,
    LabeledSet,
    Losses,
    Objects,
)
from ppdet.data.annotations.parsing import size_of, text_of
from ppdet.data.annotations.tool_splits import split_of_name
from ppdet.utils.errors import DataError
from ppdet.utils.formats.coco_file import short_repr

# Our name of a column -> the names that it has, in small letters.
COLUMNS = {
    "name": ("filename", "file_name", "image", "image_path", "path", "imageid", "image_id", "img"),
    "label": ("class", "label", "labelname", "class_name", "category", "name"),
    "x1": ("xmin", "x1", "x_min", "left"),
    "y1": ("ymin", "y1", "y_min", "top"),
    "x2": ("xmax", "x2", "x_max", "right"),
    "y2": ("ymax", "y2", "y_max", "bottom"),
    "width": ("width", "image_width", "img_width"),
    "height": ("height", "image_height", "img_height"),
}
NEEDED = ("name", "label", "x1", "y1", "x2", "y2")
RETINANET = ("name", "x1", "y1", "x2", "y2", "label")  # a table without a heading


def read_table(root: str, files: list[str], losses: Losses) -> LabeledSet:
    """Read tables whose heading names an image, a class and xmin, ymin, xmax, ymax, in any order.

    Without a heading the columns are path, x1, y1, x2, y2, class. Open Images' tables have shares of the image's sides,
    as have those without a number above LARGEST_SHARE: no box of a whole table would be larger than two pixels. A row
    with an image alone is an image without objects. The split is the last word train, valid, val or test in the name of
    the table or of its folders.

    Args:
        root: the folder that is converted.
        files: the tables.

    Raises:
        DataError: columns are missing, or there are no rows.
    """
    result = LabeledSet("CSV", losses)
    for path in files:
        rows_of: dict[str, list[dict[str, str]]] = {}
        rows, relative = rows_of_table(path)
        if not relative and _are_shares(rows):
            relative = True
            losses.add("tables whose numbers are read as shares of the image's sides, since none is above 2", path)
        for row in rows:
            rows_of.setdefault("/".join(clean_parts(row["name"].strip())), []).append(row)
        for name, rows in rows_of.items():
            size = size_of(rows[0].get("width"), rows[0].get("height"))
            objects = [row for row in rows if any(row.get(key) for key in NEEDED[1:])]
            boxes = _TableBoxes(objects, relative, losses, path)
            split = split_of_name(root, path)
            result.images.append(LabeledImage(name, path, size, boxes, split, in_shares=relative))
    if not result.images:
        raise DataError(f"{', '.join(files)}: a heading without rows: there is nothing to convert")
    return result


class _TableBoxes:
    """Reads the rows of an image."""

    def __init__(self, rows: list[dict[str, str]], relative: bool, losses: Losses, path: str) -> None:
        self._rows, self._relative, self._losses, self._path = rows, relative, losses, path

    def __call__(self, size: tuple[int, int]) -> list[LabeledBox]:
        from globox import BoundingBox

        def read(row: dict[str, str]) -> Any:
            if "more" in row:
                raise DataError(MORE_FIELDS)
            x1, y1, x2, y2 = (float(row[key]) for key in NEEDED[2:])
            if self._relative:
                x1, y1, x2, y2 = x1 * size[0], y1 * size[1], x2 * size[0], y2 * size[1]
            return BoundingBox.create(label=row["label"], coords=(x1, y1, x2, y2))

        def place(row: dict[str, str]) -> str:
            return f"{self._path}, line {row['line']}{row.get('more', '')}"

        return Objects(self._losses, self._path).boxes(self._rows, read, place)


def rows_of_table(path: str) -> tuple[list[dict[str, str]], bool]:
    """The rows of a table by our names of the columns, and whether their numbers are shares of the image's sides.

    A row's "line" is the number of its line in the file. "more" says how many fields it has, if they are too many.

    Raises:
        DataError: the file is not a table, is empty, or lacks columns.
    """
    text = text_of(path)
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    try:
        reader = csv.reader(io.StringIO(text), delimiter=separator)
        table: list[list[str]] = []
        lines = []  # the number of each row's last line
        for cells in reader:
            if cells:
                table.append(cells)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{path} is not a table in CSV ({error})") from None
    if not table:
        raise DataError(f"{path} is an empty table")
    heading = [cell.strip().strip("\ufeff").lower() for cell in table[0]]
    places = {
        key: next((heading.index(name) for name in names if name in heading), None) for key, names in COLUMNS.items()
    }
    missing = [COLUMNS[key][0] for key in NEEDED if places[key] is None]
    if missing and len(heading) == len(RETINANET) and _are_numbers(table[0][1:5]):
        places = {key: RETINANET.index(key) if key in RETINANET else None for key in COLUMNS}
        body = table
    elif missing:
        raise DataError(
            f"{path}: no column {', '.join(missing)} among {short_repr(heading)}: expected filename, class, xmin, "
            "ymin, xmax, ymax in the first line: rename the columns, or put such a line above the rows; of x, y, width "
            "and height make xmax = x + width and ymax = y + height"
        )
    else:
        body = table[1:]
    rows = []
    for line, cells in zip(lines[-len(body) :], body):
        row = {key: cells[place] for key, place in places.items() if place is not None and place < len(cells)}
        if any(cells[len(heading) :]):
            row["more"] = f": {len(cells)} fields, expected {len(heading)}"
        rows.append({"name": "", **row, "line": str(line)})
    return rows, "labelname" in heading


def _are_shares(rows: list[dict[str, str]]) -> bool:
    """Whether all numbers of a table's boxes are so small that they cannot be pixels."""
    cells = [row[key] for row in rows if "more" not in row for key in NEEDED[2:] if row.get(key)]
    return bool(cells) and _are_numbers(cells) and all(abs(float(cell)) <= LARGEST_SHARE for cell in cells)


def _are_numbers(cells: list[str]) -> bool:
    try:
        return all(cell == "" or float(cell) is not None for cell in cells)
    except ValueError:
        return False


def is_table(path: str) -> bool:
    """Whether a file is a table of boxes."""
    try:
        rows_of_table(path)
    except DataError:
        return False
    return True
