"""The result files of a batch job: for each shard (part of the images) a Parquet file and a COCO file."""

import io
import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ppdet.data.classes import category_id
from ppdet.deploy.batch.result_table import make_table, schema
from ppdet.deploy.batch.storage import Folder
from ppdet.utils.disk.files import is_count
from ppdet.utils.masking import masked_values

DETECTIONS, COCO = "detections", "coco"
ANNOTATION_IDS = 100_000  # the id of an annotation is the image's id times this, plus the detection's number from 1
COUNTS = b"ppdet.counts"  # key of the counts in a Parquet file's metadata


class Counts(NamedTuple):
    """Numbers of images, of images with an error instead of detections, and of detections."""

    images: int = 0
    errors: int = 0
    boxes: int = 0


def total(counts: Iterable[Counts]) -> Counts:
    return Counts(*map(sum, zip(*counts)))


class ShardFiles:
    """Reads and writes the files of all shards. Image i is in shard i // size.

    Args:
        folder: the job's output folder.
        images: number of images in the whole job.
        size: images per shard; the last shard may have fewer.
        class_names: name of each class.
        category_ids: COCO category id of each class.
    """

    def __init__(
        self, folder: Folder, images: int, size: int, class_names: Sequence[str], category_ids: Sequence[int]
    ) -> None:
        self.folder = folder
        self.images = images
        self.size = size
        self.class_names = class_names
        self.category_ids = category_ids
        self.count = -(-images // size)

    def range(self, shard: int) -> range:
        """Ids of a shard's images."""
        return range(shard * self.size, min((shard + 1) * self.size, self.images))

    def file_names(self, shard: int) -> tuple[str, str]:
        """Names of the Parquet file and of the COCO file, relative to the output folder."""
        name = f"part-{shard:05d}-of-{self.count:05d}"
        return f"{DETECTIONS}/{name}.parquet", f"{COCO}/{name}.json"

    def finished(self) -> dict[int, Counts]:
        """Counts of the shards that are complete in the output folder."""
        files = {f"{folder}/{name}" for folder in (DETECTIONS, COCO) for name in self.folder.names(folder)}
        shards = (shard for shard in range(self.count) if files.issuperset(self.file_names(shard)))
        return {shard: counts for shard in shards if (counts := self._read_counts(shard)) is not None}

    def _read_counts(self, shard: int) -> Counts | None:
        """None for a file that is damaged, or not from this job."""
        import pyarrow
        from pyarrow import parquet

        with self.folder.open(self.file_names(shard)[0]) as stream:
            try:
                there = parquet.read_schema(stream)
                counts = Counts(*json.loads(there.metadata[COUNTS]))
            except (pyarrow.ArrowException, OSError, KeyError, TypeError, ValueError, MemoryError, RecursionError):
                return None
        fits = all(map(is_count, counts)) and counts.errors <= counts.images == len(self.range(shard))
        return counts if fits and there.equals(schema()) else None

    def write(self, shard: int, rows: Sequence[dict]) -> Counts:
        """Write the files of a shard, the Parquet file last: a shard with a Parquet file is complete.

        Passwords and queries of URLs are hidden in the columns `path` and `error`; `file_name` is as in the input.

        Args:
            rows: one row (see `worker.new_row`) per image of the shard, in the order of their ids.
        """
        from pyarrow import parquet

        if [row["image_id"] for row in rows] != list(self.range(shard)):
            raise RuntimeError(f"shard {shard} would not have each of its images once")
        rows = [{**row, **written_texts(row)} for row in rows]
        counts = Counts(len(rows), sum(row["error"] is not None for row in rows), sum(len(r["scores"]) for r in rows))
        table_name, coco_name = self.file_names(shard)
        self.folder.write(coco_name, json.dumps(coco_content(rows, self.class_names, self.category_ids)).encode())
        stream = io.BytesIO()
        table = make_table(rows, self.category_ids)
        metadata = {**table.schema.metadata, COUNTS: json.dumps(counts)}
        parquet.write_table(table.replace_schema_metadata(metadata), stream)
        self.folder.write(table_name, stream.getvalue())
        return counts


def written_texts(row: dict) -> dict[str, str | None]:
    """The texts of a row as files have them, see `ShardFiles.write`."""
    texts = {"file_name": row["file_name"], **masked_values({key: row[key] for key in ("path", "error")})}
    return {key: as_utf8(text) for key, text in texts.items()}


def as_utf8(text: str | None) -> str | None:
    """The text with question marks for bytes of a file name that are not UTF-8."""
    return text and text.encode("utf-8", "replace").decode("utf-8")


def coco_content(rows: Sequence[dict], class_names: Sequence[str], category_ids: Sequence[int]) -> dict:
    """A COCO data set whose annotations are the detections, with their scores.

    Images with an error are left out: COCO's images have a size.
    """
    categories = dict(zip(category_ids, class_names))
    images, annotations = [], []
    for row in rows:
        if row["error"] is not None:
            continue
        image_id = row["image_id"]
        images.append({"id": image_id, "file_name": row["file_name"], "width": row["width"], "height": row["height"]})
        for number, (box, score, label) in enumerate(zip(row["boxes"], row["scores"], row["classes"]), 1):
            category = category_id(label, category_ids)
            categories.setdefault(category, str(label))
            x1, y1, x2, y2 = box
            annotations.append(
                {
                    "id": image_id * ANNOTATION_IDS + number,
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
