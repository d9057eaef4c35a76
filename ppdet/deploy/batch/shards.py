"""The files that a job leaves: for each part of the images a Parquet file and a COCO file, whole or absent."""

import io
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from ppdet.deploy.batch.storage import Folder

DETECTIONS, COCO = "detections", "coco"
# Ids of annotations: an image's id times this, and the detection's number from 1.
PER_IMAGE = 100_000
COUNTS = b"ppdet.counts"


class Counts(NamedTuple):
    """Images, how many of them have an error instead of detections, and detections."""

    images: int = 0
    errors: int = 0
    boxes: int = 0

    def plus(self, other: "Counts") -> "Counts":
        return Counts(*(one + two for one, two in zip(self, other)))


def schema() -> Any:
    """Columns of a shard: one row for each image. boxes: x1, y1, x2, y2 in pixels; see README.md."""
    import pyarrow as pa

    fields = [("image_id", pa.int64()), ("file_name", pa.string()), ("path", pa.string())]
    fields += [("width", pa.int32()), ("height", pa.int32())]
    fields += [("boxes", pa.list_(pa.list_(pa.float32()))), ("scores", pa.list_(pa.float32()))]
    fields += [("classes", pa.list_(pa.int64())), ("names", pa.list_(pa.string())), ("error", pa.string())]
    return pa.schema(fields)


def to_table(rows: Sequence[dict]) -> Any:
    """Arrow table of rows. Where a file's name is not UTF-8, question marks stand in for what is not."""
    import pyarrow

    for row in rows:
        for key in ("file_name", "path", "error"):
            row[key] = row[key] and row[key].encode("utf-8", "replace").decode("utf-8")
    return pyarrow.Table.from_pylist(rows, schema())


class Shards:
    """Where the images' detections go: image i is in shard i // size.

    Args:
        folder: of the job's output. images: how many there are. size: images of a shard; the last may have less.
    """

    def __init__(self, folder: Folder, images: int, size: int) -> None:
        self.folder = folder
        self.images = images
        self.size = size
        self.count = -(-images // size)

    def range(self, shard: int) -> range:
        """Ids of a shard's images."""
        return range(shard * self.size, min((shard + 1) * self.size, self.images))

    def file_names(self, shard: int) -> tuple[str, str]:
        """The Parquet file's and the COCO file's, under the output folder."""
        name = f"part-{shard:05d}-of-{self.count:05d}"
        return f"{DETECTIONS}/{name}.parquet", f"{COCO}/{name}.json"

    def finished(self) -> dict[int, Counts]:
        """What is in the shards that were written already."""
        there = {f"{folder}/{name}" for folder in (DETECTIONS, COCO) for name in self.folder.names(folder)}
        found = {}
        for shard in range(self.count):
            if there.issuperset(self.file_names(shard)):
                counts = self._counts(shard)
                if counts is not None:
                    found[shard] = counts
        return found

    def _counts(self, shard: int) -> Counts | None:
        """None for a file that is damaged, or not of this job."""
        import pyarrow
        from pyarrow import parquet

        with self.folder.open(self.file_names(shard)[0]) as stream:
            try:
                counts = Counts(*json.loads(parquet.read_schema(stream).metadata[COUNTS]))
            except (pyarrow.ArrowException, OSError, KeyError, TypeError, ValueError):
                return None
        return counts if counts.images == len(self.range(shard)) else None

    def write(self, shard: int, table: Any, class_names: Sequence[str], category_ids: Sequence[int]) -> Counts:
        """Write a shard's files. The Parquet file comes last: where it is, the shard is complete.

        Args:
            table: the rows of the shard's images, in the order of their ids.
        """
        from pyarrow import parquet

        rows = table.to_pylist()
        if [row["image_id"] for row in rows] != list(self.range(shard)):
            raise RuntimeError(f"shard {shard} would not have each of its images once")
        counts = Counts(len(rows), sum(row["error"] is not None for row in rows), sum(len(r["scores"]) for r in rows))
        table_name, coco_name = self.file_names(shard)
        content = coco_content(rows, class_names, category_ids)
        self.folder.write(coco_name, json.dumps(content).encode())
        stream = io.BytesIO()
        parquet.write_table(table.replace_schema_metadata({COUNTS: json.dumps(counts)}), stream)
        self.folder.write(table_name, stream.getvalue())
        return counts


def coco_content(rows: Sequence[dict], class_names: Sequence[str], category_ids: Sequence[int]) -> dict:
    """A COCO data set whose annotations are the detections, with their scores. Unreadable images are not in it."""
    categories = dict(zip(category_ids, class_names))
    images, annotations = [], []
    for row in rows:
        if row["error"] is not None:
            continue
        image_id = row["image_id"]
        images.append({"id": image_id, "file_name": row["file_name"], "width": row["width"], "height": row["height"]})
        for number, (box, score, label) in enumerate(zip(row["boxes"], row["scores"], row["classes"]), 1):
            category = category_ids[label] if label < len(category_ids) else label
            categories.setdefault(category, str(label))
            x1, y1, x2, y2 = box
            annotations.append(
                {
                    "id": image_id * PER_IMAGE + number,
                    "image_id": image_id,
                    "category_id": category,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                    "score": score,
                }
            )
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": identity, "name": name} for identity, name in sorted(categories.items())],
    }
