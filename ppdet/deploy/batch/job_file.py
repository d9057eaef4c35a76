"""What a job is, written down when it starts, so that a second start goes on with the same job or is refused."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ppdet.deploy.batch.shards import DETECTIONS, Counts
from ppdet.deploy.batch.storage import Folder
from ppdet.utils.errors import DataError

FILE = "manifest.json"
# What must be the same when a job goes on, and how to say that it is not.
IDENTITY = {
    "model": "another model",
    "images_sha256": "other images, or in another order",
    "backend": "another --backend",
    "precision": "another --precision",
    "threshold": "another --threshold",
    "shard_size": "another --shard_size",
}


@dataclass
class Manifest:
    """The job of an output folder.

    model: SHA-256 of the exported files. images_sha256: of the list of images. image_root: the folder that file_name is
    relative to, null where images have none. classes: names, by class. category_ids: of COCO, by class. finished:
    null, or the counts of a complete job.
    """

    model: str
    model_dir: str
    input: str
    images: int
    images_sha256: str
    image_root: str | None
    backend: str
    precision: str
    threshold: float
    shard_size: int
    shards: int
    classes: list[str]
    category_ids: list[int]
    finished: dict | None = None
    format: int = 1

    def write(self, folder: Folder) -> None:
        folder.write(FILE, json.dumps(asdict(self), indent=1).encode())

    def finish(self, folder: Folder, counts: Counts) -> None:
        self.finished = counts._asdict()
        self.write(folder)


def read_manifest(folder: Folder) -> Manifest | None:
    """The manifest of an output folder, None where no job wrote to it.

    Raises:
        DataError: it cannot be read, or shards are there without it.
    """
    if FILE not in folder.names(""):
        if folder.names(DETECTIONS):
            raise DataError(f"{folder.url} has detections, but no {FILE} that says of what: name another --output")
        return None
    try:
        with folder.open(FILE) as stream:
            return Manifest(**json.load(stream))
    except (ValueError, TypeError):
        raise DataError(f"{folder.url}/{FILE}: damaged, or of another version: name another --output") from None


def require_same(folder: Folder, manifest: Manifest, wanted: dict) -> None:
    """See that a job is the one that an output folder belongs to.

    Args:
        wanted: values of IDENTITY; what the user left open is not in it.

    Raises:
        DataError: it is another one.
    """
    for key, difference in IDENTITY.items():
        there = getattr(manifest, key)
        if wanted.get(key, there) != there:
            values = "" if key in ("model", "images_sha256") else f" ({there} there, {wanted[key]} now)"
            raise DataError(
                f"{folder.url} belongs to a job with {difference}{values}: name another --output, or delete it"
            )


def fingerprint(model_dir: str) -> str:
    """SHA-256 of an exported model: its settings and its graphs."""
    digest = hashlib.sha256()
    for path in sorted(Path(model_dir).iterdir()):
        if path.is_file() and (path.name == "infer_cfg.yml" or path.name.startswith("model")):
            digest.update(path.name.encode() + b"\n")
            with open(path, "rb") as stream:
                while content := stream.read(1 << 20):
                    digest.update(content)
    return digest.hexdigest()
