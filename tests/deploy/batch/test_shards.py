"""Files of shards: names of any bytes, and detections of models whose category ids are not told."""

import json
import os

import pyarrow as pa
import pytest
from pyarrow import parquet

from ppdet.deploy.batch.shards import ShardFiles, coco_content
from ppdet.deploy.batch.storage import Folder
from ppdet.deploy.batch.worker import new_row
from ppdet.utils.errors import DataError


def rows(ids):
    made = [new_row(i, f"{i}.png", f"/x/{i}.png", "gone" if i % 3 == 2 else None) for i in ids]
    for row in made:
        if row["error"] is None:
            row.update(width=8, height=6, boxes=[[1, 2, 4, 6]], scores=[0.5], classes=[1], names=["b"])
    return made


def test_names_that_are_not_utf8_are_written(tmp_path):
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    shards = ShardFiles(Folder(str(tmp_path)), 1, 1, ["a"], [4])
    shards.write(0, [new_row(0, name, f"/x/{name}")])
    table, coco = (tmp_path / file_name for file_name in shards.file_names(0))
    assert parquet.read_table(table).to_pylist()[0]["path"] == "/x/caf?.png"
    assert json.loads(coco.read_text())["images"][0]["file_name"] == "caf?.png"


def test_passwords_are_not_written(tmp_path):
    url = "ftp://me:secret@host/a.png"
    shards = ShardFiles(Folder(str(tmp_path)), 2, 2, ["a"], [4])
    shards.write(0, [new_row(0, "a.png", url), new_row(1, "b.png", f"{url}?sig=secret", f"{url}: no such file")])
    found = parquet.read_table(tmp_path / shards.file_names(0)[0]).to_pylist()
    assert [row["path"] for row in found] == ["ftp://***@host/a.png", "ftp://***@host/a.png?***"]
    assert [row["error"] for row in found] == [None, "ftp://***@host/a.png: no such file"]


def test_a_shard_is_written_whole_or_not_at_all(tmp_path):
    shards = ShardFiles(Folder(str(tmp_path)), 8, 3, ["a", "b"], [4, 9])
    assert [list(shards.range(i)) for i in range(shards.count)] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    for wrong in ([0, 1], [0, 1, 1], [1, 0, 2], [3, 4, 5]):
        with pytest.raises(RuntimeError, match="each of its images once"):
            shards.write(0, rows(wrong))
    assert shards.finished() == {} and not list(tmp_path.rglob("part*"))
    counts = shards.write(2, rows([6, 7]))
    shards.write(0, rows([0, 1, 2]))
    assert counts == (2, 0, 2) and shards.finished() == {0: (3, 1, 2), 2: (2, 0, 2)}

    table, coco = (tmp_path / name for name in shards.file_names(0))
    content = json.loads(coco.read_text())
    assert [image["id"] for image in content["images"]] == [0, 1]
    assert content["annotations"][1] == {
        "id": 100001, "image_id": 1, "category_id": 9, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0, "score": 0.5
    }  # fmt: skip
    # Not finished: a part without its COCO file, one cut short, one of another length, one of another program.
    coco.rename(tmp_path / "elsewhere")
    assert list(shards.finished()) == [2]
    (tmp_path / "elsewhere").rename(coco)
    whole = table.read_bytes()
    (tmp_path / shards.file_names(2)[0]).write_bytes(whole)
    table.write_bytes(whole[:-20])
    assert shards.finished() == {}
    parquet.write_table(pa.table({"a": [1, 2, 3]}), table)
    assert shards.finished() == {}
    # One whose boxes are lists, as those of version 1.
    shards.write(0, rows([0, 1, 2]))
    assert list(shards.finished()) == [0]
    there = parquet.read_table(table)
    boxes = pa.array([[[1, 2, 4, 6]], [], []], pa.list_(pa.list_(pa.float32())))
    old = there.set_column(there.schema.names.index("boxes"), "boxes", boxes)
    parquet.write_table(old.replace_schema_metadata(there.schema.metadata), table)
    assert shards.finished() == {}


def test_classes_without_a_category_keep_their_number():
    content = coco_content(rows([0]), [], [])
    assert content["annotations"][0]["category_id"] == 1 and content["categories"] == [{"id": 1, "name": "1"}]


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_only_the_broken_image_is_left_out(broken):
    made = rows([0, 1, 3])
    made[broken] = new_row(broken, "b.png", "/x/b.png", "gone")
    content = coco_content(made, ["a", "b"], [4, 9])
    kept = [number for place, number in enumerate([0, 1, 3]) if place != broken]
    assert [image["id"] for image in content["images"]] == kept
    assert [annotation["image_id"] for annotation in content["annotations"]] == kept
    assert content["categories"] == [{"id": 4, "name": "a"}, {"id": 9, "name": "b"}]


@pytest.mark.parametrize(
    "counts", [[3, 4, 0], [3, -1, 0], [3, 1, "x"], [3, True, 0], [3, 1, 1e400], [3.0, 0, 0], 3, {}, [[]], "["]
)
def test_a_part_from_anybody_counts_only_if_its_numbers_can_be_right(tmp_path, counts):
    shards = ShardFiles(Folder(str(tmp_path)), 3, 3, ["a", "b"], [4, 9])
    shards.write(0, rows([0, 1, 2]))
    table = tmp_path / shards.file_names(0)[0]
    text = counts * 100_000 if counts == "[" else json.dumps(counts)
    parquet.write_table(parquet.read_table(table).replace_schema_metadata({b"ppdet.counts": text}), table)
    assert shards.finished() == {}


def test_a_pipe_in_place_of_a_part_is_named(tmp_path):
    shards = ShardFiles(Folder(str(tmp_path)), 3, 3, ["a", "b"], [4, 9])
    shards.write(0, rows([0, 1, 2]))
    table = tmp_path / shards.file_names(0)[0]
    table.unlink()
    os.mkfifo(table)
    with pytest.raises(DataError, match=r"part-00000-of-00001\.parquet: not a regular file"):
        shards.finished()
