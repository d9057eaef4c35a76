"""manifest.json in the output folder of a batch job identifies the job.

With it, the same command continues an interrupted job, and another job in the same folder is refused.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ppdet.deploy.batch import result_table
from ppdet.deploy.batch.shards import DETECTIONS, Counts
from ppdet.deploy.batch.storage import Folder
from ppdet.utils.disk.files import is_count, is_number, open_regular
from ppdet.utils.errors import DataError, UserError
from ppdet.utils.masking import masked_values

FILE = "manifest.json"
NULL = {"threshold": "one for each class", "tta": "none", "slicing": "none"}  # what null means in these fields
LARGEST_MODEL = 2**34  # bytes of a file
LARGEST = 2**26  # bytes; classes have names of any length, but there are thousands at most
# Fields that must be the same when a job continues, and the error's words for a difference.
IDENTITY = {
    "table_version": "tables of another version",
    "model": "another model",
    "images_sha256": "other images, or in another order",
    "backend": "another --backend",
    "precision": "another --precision",
    "threshold": "another --threshold",
    "shard_size": "another --shard_size",
    "tta": "another --tta",
    "slicing": "another --slice_infer",
}


@dataclass
class Manifest:
    """Content of manifest.json.

    Attributes:
        model: SHA-256 of the exported files (see `model_fingerprint`).
        model_dir, input: as the user named them. Passwords and queries of URLs are hidden in the file, see `masked`.
        images: number of images.
        images_sha256: SHA-256 of the list of images.
        image_root: folder that file_name in the results is relative to; null if the images are not files.
        backend, precision: see `BatchJob`; the backend is never auto.
        threshold: least score of a detection; null if each class has the model's own.
        shard_size, shards: images per shard, and number of shards.
        classes, category_ids: name and COCO category id of each class.
        finished: the Counts of a complete job as a mapping, else null.
        format: version of this file's format.
        table_version: version of the columns of the tables; manifests that do not say it are of version 1.
        tta, slicing: the `TTA` and the `Slicing` in words; null without.
    """

    model: str
    model_dir: str
    input: str
    images: int
    images_sha256: str
    image_root: str | None
    backend: str
    precision: str
    threshold: float | None
    shard_size: int
    shards: int
    classes: list[str]
    category_ids: list[int]
    finished: dict | None = None
    format: int = 1
    table_version: int = result_table.VERSION
    tta: str | None = None
    slicing: str | None = None

    def write(self, folder: Folder) -> None:
        shown = masked_values({"input": self.input, "image_root": self.image_root})
        folder.write(FILE, json.dumps(asdict(self) | shown, indent=1).encode())

    def finish(self, folder: Folder, counts: Counts) -> None:
        """Note that the job is complete."""
        self.finished = counts._asdict()
        self.write(folder)


def read_manifest(folder: Folder) -> Manifest | None:
    """The manifest in an output folder; None if no job has written to the folder.

    Raises:
        DataError: the manifest is damaged, or missing beside shards.
    """
    if FILE not in folder.names(""):
        if folder.names(DETECTIONS):
            raise DataError(
                f"{folder.url} has detections but no {FILE}, so their job is unknown: name another --output"
            )
        return None
    try:
        manifest = Manifest(**{"table_version": 1} | json.loads(folder.read(FILE, LARGEST)))
    except (ValueError, TypeError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        manifest = None
    if manifest is None or not is_valid(manifest):
        raise DataError(f"{folder.url}/{FILE}: damaged, or of another version: name another --output")
    return manifest


def is_valid(manifest: Manifest) -> bool:
    """Whether the fields of a manifest, which may come from anybody, have values that a job writes."""
    texts = [manifest.model, manifest.model_dir, manifest.input, manifest.images_sha256, manifest.backend]
    optional = manifest.image_root, manifest.tta, manifest.slicing
    texts += [manifest.precision, *(text for text in optional if text is not None)]
    counts = [manifest.images, manifest.shards, manifest.shard_size, manifest.format, manifest.table_version]
    names, numbers, finished = manifest.classes, manifest.category_ids, manifest.finished
    return (
        all(isinstance(text, str) for text in texts)
        and all(map(is_count, counts))
        and manifest.shard_size > 0
        and (manifest.threshold is None or is_number(manifest.threshold))
        and isinstance(names, list)
        and all(type(name) in (str, int) for name in names)
        and isinstance(numbers, list)
        and all(type(number) is int for number in numbers)
        and (finished is None or (isinstance(finished, dict) and all(map(is_count, finished.values()))))
    )


def require_same_job(folder: Folder, manifest: Manifest, settings: dict[str, Any]) -> None:
    """Raise DataError unless the output folder belongs to the job with these settings.

    Args:
        settings: values of fields in IDENTITY; a field that the user left open is absent.
    """
    for key, difference in IDENTITY.items():
        old = getattr(manifest, key)
        new = settings.get(key, old)
        if new != old:
            there, now = (NULL[key] if value is None else value for value in (old, new))
            values = "" if key in ("model", "images_sha256") else f" ({there} there, {now} now)"
            raise DataError(
                f"{folder.url} belongs to a job with {difference}{values}: name another --output, or delete it"
            )


def model_fingerprint(model_dir: str) -> str:
    """SHA-256 of an exported model: its infer_cfg.yml and its graph files (model*).

    Raises:
        DataError: a file is larger than LARGEST_MODEL.
    """
    digest = hashlib.sha256()
    for path in sorted(Path(model_dir).iterdir()):
        if path.is_file() and (path.name == "infer_cfg.yml" or path.name.startswith("model")):
            digest.update(os.fsencode(path.name) + b"\n")
            if path.stat().st_size > LARGEST_MODEL:
                raise DataError(
                    f"{path}: larger than {LARGEST_MODEL // 2**30} GiB: expected a file of an exported model"
                )
            with open_regular(path) as stream:
                while content := stream.read(1 << 20):
                    digest.update(content)
    return digest.hexdigest()
