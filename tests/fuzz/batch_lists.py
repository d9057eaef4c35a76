"""Inputs of batch jobs: image lists, folders, Parquet files, and what an earlier job left in the output folder."""

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from fuzz.case import Case, Content, Declined, Kind, Link, Special
from fuzz.draw import Draw, dump
from fuzz.mutate import changed_tree, damaged, one_value, slightly_damaged
from fuzz.picture_bytes import MAKERS, honest, slight
from fuzz.pictures import MEMORY
from fuzz.small_model import write_model
from ppdet.deploy.batch.inputs import find_inputs
from ppdet.deploy.batch.job_manifest import model_fingerprint, read_manifest, require_same_job
from ppdet.deploy.batch.shards import ShardFiles
from ppdet.deploy.batch.storage import Folder
from ppdet.deploy.batch.worker import DetectorWorker, WorkerSettings

IMAGES_AT_ONCE = 40  # images of one case that are detected on
JOB = {
    **{
        "model": "0" * 64,
        "model_dir": "m",
        "input": "list.txt",
        "images": 2,
        "images_sha256": "0" * 64,
        "image_root": ".",
    },
    **{"backend": "onnxruntime", "precision": "fp32", "threshold": 0.0, "shard_size": 500, "shards": 1},
    **{"classes": ["red", "blue"], "category_ids": [3, 7], "finished": None, "format": 1},
}

# fmt: off
NO_IMAGES = [
    "nowhere.png", "/dev/zero", "/dev/null", "images", "../x.png", "http://127.0.0.1:9/x.png", "memory://x.png",
    "s3://bucket/x.png", "file:///dev/zero", "zip://x::images/0.png", "github://a:b@/x", "data:,x", "~/x.png",
    "list.txt",
]
# fmt: on
NO_FILES: list[Content] = [*map(Special, ("fifo", "folder", "socket")), Link("/dev/zero"), Link("nowhere")]


def picture(draw: Draw) -> bytes:
    return draw.one(honest()["png"]) if draw.chance(0.6) else draw.one(MAKERS)(draw)[1]


def images(draw: Draw, *, is_valid: bool = False) -> dict[str, Content]:
    """A folder of images, some of which are none; `is_valid`: one image may have something changed in it."""
    if is_valid:
        files: dict[str, Content] = {f"images/{i}.png": draw.one(honest()["png"]) for i in range(draw.one([1, 2, 5]))}
        suffix, data, _ = slight(draw)
        return files | {f"images/last.{suffix}": data}
    files = {}
    for i in range(draw.one([1, 2, 5])):
        name = draw.one(
            [f"{i}.png", f"{i}.jpg", f"below/{i}.PNG", f"a b{i}.png", f"\x1b[31m{i}.png", f"\u202e{i}.png", f"é{i}.png"]
        )
        special = [*NO_FILES, Link("."), Link(name)]
        files[f"images/{name}"] = draw.one(special) if draw.chance(0.25) else picture(draw)
    return files


def lines(draw: Draw, files: dict[str, Content], *, is_valid: bool = False) -> tuple[bytes, str]:
    """A list of paths, more or less hostile; `is_valid`: with one line at most that is no image."""
    if is_valid:
        rows = [draw.one([*files]) for _ in range(draw.one([1, 3, 10]))]
        return "\n".join([*rows, draw.mostly("", [draw.text().split("\n")[0]], 0.5)]).encode(
            "utf-8", "replace"
        ), "one line"
    names = [*files, *files, *NO_IMAGES]
    rows = [draw.one(names) if draw.chance(0.8) else draw.text() for _ in range(draw.one([1, 3, 10, 30]))]
    text = draw.one(["\n", "\n", "\r\n", "\n\n", "\r"]).join(rows)
    if draw.chance(0.15):
        text = draw.one(["", "\n" * 10_000, "a" * 1_000_000, "images/0.png\n" * 20_000, " ", "#", "\ufeff" * 10])
    codec = draw.one(["utf-8"] * 8 + ["utf-16", "utf-32", "utf-16-le", "utf-8-sig"])
    data = text.encode(codec, "surrogatepass")
    return damaged(draw, data) if draw.chance(0.15) else (data, "list")


@cache
def honest_parquet(compression: str) -> bytes:
    data = honest()["png"]
    table = pyarrow.table(
        {
            "path": [f"images/{i}.png" for i in range(len(data))],
            "bytes": data,
            "image": [{"bytes": content, "path": None} for content in data],
            "name": list(range(len(data))),
        }
    )
    stream = io.BytesIO()
    parquet.write_table(table, stream, compression=compression, row_group_size=2)
    return stream.getvalue()


def table(draw: Draw, *, is_valid: bool = False) -> tuple[bytes, str]:
    """A Parquet file, damaged or with odd columns and values; `is_valid`: with one thing changed in its pages."""
    if is_valid:
        data = honest_parquet(draw.one(["none", "none", "snappy", "zstd", "gzip"]))
        footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        pages, made = slightly_damaged(draw, data[4:footer])
        return data[:4] + pages + data[footer:], made
    make = draw.one(["honest", "damaged", "pages", "pages", "columns", "columns"])
    if make != "columns":
        data = honest_parquet(draw.one(["none", "snappy", "zstd", "gzip"]))
        # The pages are damaged, and the footer, which says where they are, is not.
        footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        if make == "pages":
            pages, made = damaged(draw, data[:footer])
            return pages[:footer].ljust(footer, b"\0") + data[footer:], f"pages {made}"
        return (data, make) if make == "honest" else damaged(draw, data)
    count = draw.one([0, 1, 3, 20])
    kinds: list[list[Any]] = [
        [draw.text().encode("utf-8", "surrogatepass") for _ in range(count)],
        [draw.text().encode("utf-8", "replace").decode() for _ in range(count)],
        [None] * count,
        [picture(draw) for _ in range(count)],
        list(range(count)),
        [[b"x"]] * count,
        [{"bytes": b"x", "path": "images/0.png"}] * count,
        [b""] * count,
    ]
    columns = {
        name: draw.one(kinds)
        for name in draw.one([["path", "bytes", "image", "name"], ["bytes"], ["path", "name"], ["\x1b[31m"]])
    }
    stream = io.BytesIO()
    try:
        parquet.write_table(pyarrow.table(columns), stream, compression=draw.one(["none", "zstd"]))
    except pyarrow.ArrowException:
        return b"PAR1" + draw.randbytes(100) + b"PAR1", "no table"
    data = stream.getvalue()
    return damaged(draw, data) if draw.chance(0.3) else (data, "columns")


def earlier(draw: Draw, *, is_valid: bool = False) -> tuple[dict[str, Content], str]:
    """An output folder with a manifest and shards that are changed."""
    files: dict[str, Content] = {}
    if is_valid:
        content, made = one_value(draw, JOB) if draw.chance(0.7) else (JOB, "honest")
        files["out/manifest.json"] = dump(content).encode("utf-8", "surrogatepass")
        files["out/detections/part-00000-of-00001.parquet"] = shard_file(draw, is_valid=True)
        return files, f"output folder, {made}"
    content, made = (JOB, "honest") if draw.chance(0.2) else changed_tree(draw, JOB)
    data = dump(content).encode("utf-8", "surrogatepass")
    kinds: list[Content] = [
        data,
        data,
        data,
        data,
        damaged(draw, data)[0],
        b"[" * 50_000,
        b"null",
        Special("fifo"),
        Special("folder"),
        Link("/dev/zero"),
    ]
    if draw.chance(0.95):
        files["out/manifest.json"] = draw.one(kinds)
    for name in ("out/detections/part-00000-of-00001.parquet", "out/coco/part-00000-of-00001.json"):
        if draw.chance(0.8):
            shard: list[Content] = [
                shard_file(draw),
                shard_file(draw),
                Special("fifo"),
                Special("folder"),
                Link("/dev/zero"),
                b"",
            ]
            files[name] = draw.one(shard)
    return files, f"output folder, {made}"


def shard_file(draw: Draw, *, is_valid: bool = False) -> bytes:
    stream = io.BytesIO()
    counts = (
        [2, 0, 1] if is_valid else draw.one([[2, 0, 1], [2, 0, -1], [1e400, 0, 0], "x", draw.tree(), [2], {"a": 1}])
    )
    metadata = {
        b"ppdet.counts": draw.one([dump(counts), *([] if is_valid else ["[" * 10_000, ""])]).encode(
            "utf-8", "surrogatepass"
        )
    }
    parquet.write_table(pyarrow.table({"image_id": [0, 1]}).replace_schema_metadata(metadata), stream)
    return damaged(draw, stream.getvalue())[0] if not is_valid and draw.chance(0.4) else stream.getvalue()


def build(draw: Draw) -> Case:
    subject = draw.one(["list", "list", "list", "folder", "paths", "bytes", "bytes", "output"])
    is_valid = draw.chance(0.55)
    files = images(draw, is_valid=is_valid)
    arguments: dict[str, Any] = {"place": "list.txt"}
    if subject == "list":
        content, made = lines(draw, files, is_valid=is_valid)
        special = [*NO_FILES, Link("list.txt")]
        files["list.txt"] = draw.one(special) if not is_valid and draw.chance(0.12) else content
    elif subject == "folder":
        made = "folder"
        arguments["place"] = draw.one(
            ["images", "images/"] if is_valid else ["images", "nowhere", "images/", "images/*"]
        )
        if not is_valid and draw.chance(0.3):
            files[draw.one(["images/loop", "images/loop.png"])] = draw.one(
                [Link("."), Link(".."), Link("/dev"), Link("/proc/self/fd")]
            )
    elif subject in ("paths", "bytes"):
        content, made = table(draw, is_valid=is_valid)
        files |= {"images/0.png": honest()["png"][0], "images/1.png": picture(draw)}
        files["t.parquet"] = (
            content
            if is_valid or draw.chance(0.9)
            else draw.one([Special("fifo"), Link("/dev/zero"), Special("folder")])
        )
        column = draw.one(
            ["path", "path", "name", "image.path"] if subject == "paths" else ["bytes", "bytes", "image.bytes", "image"]
        )
        column = draw.mostly(
            "path" if is_valid and subject == "paths" else "bytes" if is_valid else column,
            [draw.text(), "a.b.c", "", "path.", ".", "*"],
            0 if is_valid else 0.15,
        )
        arguments = {"place": "t.parquet" if is_valid else draw.one(["t.parquet", "*.parquet", "."]), "column": column}
        arguments["name"] = draw.one([None, "name", "path"] if is_valid else [None, "name", "path", "nowhere"])
    else:
        more, made = earlier(draw, is_valid=is_valid)
        files |= more
    arguments["named"] = [
        "t.parquet",
        "list.txt",
        "images",
        "nowhere",
        "case",
        "out",
        "manifest.json",
        arguments["place"].strip("*/"),
    ]
    return Case(subject, files, arguments, made)


class Ready:
    """The worker of this process."""

    worker: DetectorWorker | None = None


def prepare(folder: Path) -> None:
    write_model(folder / "model")
    Ready.worker = DetectorWorker(WorkerSettings(str(folder / "model"), "onnxruntime", "cpu", "fp32", 1, 2, 0.0))
    honest()


def _detect(case: Case) -> str:
    """What the job and its workers do with an input, up to the files of a shard."""
    place, column = case.arguments["place"], case.arguments.get("column")
    columns = (
        {"path_column": column}
        if case.subject == "paths"
        else {"bytes_column": column}
        if case.subject == "bytes"
        else {}
    )
    if case.subject == "bytes":
        columns["name_column"] = case.arguments["name"]
    inputs = find_inputs(place, image_dir=".", **columns)
    inputs.fingerprint()
    count = min(len(inputs), IMAGES_AT_ONCE)
    task = json.loads(json.dumps(inputs.task(range(count))))
    assert Ready.worker is not None
    rows = Ready.worker.detect(0, task)
    ShardFiles(Folder("out"), count, count, ["red", "blue"], [3, 7]).write(0, rows)
    errors = [row["error"] for row in rows if row["error"] is not None]
    for error in errors:
        print(ascii(error))
        if "MemoryError" in error or "\n" in error:
            raise AssertionError(f"a row has the error {error!r}")
    return "detected" if len(errors) < len(rows) else Declined("rows with errors alone")


def _output(case: Case) -> str:
    folder = Folder("out")
    manifest = read_manifest(folder)
    if manifest is None:
        return "no manifest"
    require_same_job(folder, manifest, {"backend": "onnxruntime", "threshold": 0.0})
    files = ShardFiles(folder, manifest.images, manifest.shard_size, manifest.classes, manifest.category_ids)
    model_fingerprint(".")
    return f"{len(files.finished())} shards are finished"


BATCHES = Kind(
    build,
    {"list": _detect, "folder": _detect, "paths": _detect, "bytes": _detect, "output": _output},
    prepare=prepare,
    network="refused",
    memory=2 * MEMORY,  # some images are read ahead
)
