"""The tables of a batch job: one row per image, with a list of its detections in each of five columns."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ppdet.data.classes import category_id

if TYPE_CHECKING:
    import pyarrow

VERSION = 2  # of the columns; the manifest of a job has it. Version 1 had boxes as lists, and no category_ids.
COORDINATES = ("x1", "y1", "x2", "y2")
LISTS = ("boxes", "scores", "classes", "category_ids", "names")  # one entry per detection


def schema() -> "pyarrow.Schema":
    """Columns of a table; deploy/batch/README.md describes them.

    A box is a struct, because the names of its coordinates are then in the file: COCO's boxes, in the files beside the
    tables, are x, y, width, height. pandas reads the columns that its entry in the metadata calls Int32 as integers
    although some are null; without the entry they would become float64.
    """
    import pyarrow as pa

    sizes = ("width", "height")
    box = pa.struct({name: pa.float32() for name in COORDINATES})
    kinds = (box, pa.float32(), pa.int64(), pa.int64(), pa.string())
    columns = {"image_id": pa.int64(), "file_name": pa.string(), "path": pa.string()}
    columns |= {name: pa.int32() for name in sizes}
    columns |= {name: pa.list_(kind) for name, kind in zip(LISTS, kinds)}
    columns["error"] = pa.string()
    for_pandas = {
        "index_columns": [],
        "column_indexes": [],
        "columns": [
            {"name": name, "field_name": name, "pandas_type": "int32", "numpy_type": "Int32", "metadata": None}
            for name in sizes
        ],
        "pandas_version": "2.2.0",
    }
    return pa.schema(columns, metadata={"pandas": json.dumps(for_pandas)})


def make_table(rows: Sequence[Mapping], category_ids: Sequence[int]) -> "pyarrow.Table":
    """The table of rows as workers return them (see `worker.new_row`), in the same order.

    Args:
        category_ids: COCO category id of each class.
    """
    import pyarrow as pa

    rows = [
        {
            **row,
            "boxes": [dict(zip(COORDINATES, box)) for box in row["boxes"]],
            "category_ids": [category_id(label, category_ids) for label in row["classes"]],
        }
        for row in rows
    ]
    return pa.Table.from_pylist(rows, schema())
