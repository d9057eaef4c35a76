"""Inputs of a batch job: folders, lists and Parquet, numbered in a fixed order, and read in parts."""

import pyarrow as pa
import pytest
from pyarrow import parquet

from ppdet.deploy.batch.inputs import find_inputs
from ppdet.deploy.batch.ray_pool import split_ranges
from ppdet.deploy.batch.read_images import read_items
from ppdet.utils.errors import DataError


def read(inputs, size):
    """All images as workers read them, by tasks of `size` images."""
    tasks = [inputs.task(images) for images in split_ranges([range(len(inputs))], size)]
    return [item for task in tasks for item in read_items(task)]


def test_folder_by_path_and_by_url(images):
    inputs = find_inputs(str(images.folder))
    assert [item.name for item in read(inputs, 5)] == images.names
    assert [item.image for item in read(inputs, 5)] == [str(images.folder / name) for name in images.names]
    remote = read(find_inputs(f"file://{images.folder}"), 20)
    assert [(item.name, item.image) for item in remote] == [
        (name, (images.folder / name).read_bytes()) for name in images.names
    ]
    assert inputs.fingerprint() == find_inputs(f"{images.folder}/").fingerprint()


def test_list_with_relative_absolute_and_remote_paths(images, tmp_path, monkeypatch):
    one, two, three = images.names[:3]
    lines = [two, "", str(images.folder / one), f"file://{images.folder / three}", "missing.png", "file:///missing.png"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    found = read(find_inputs(str(tmp_path / "list.txt"), image_dir=str(images.folder)), 2)
    assert [item.name for item in found] == [line for line in lines if line]
    assert [item.path for item in found][:2] == [str(images.folder / two), str(images.folder / one)]
    assert found[2].image == (images.folder / three).read_bytes()
    assert found[3].image == str(images.folder / "missing.png")
    assert found[4].image is None and found[4].error == "no such file or directory"
    # Without image_dir, from the working directory.
    monkeypatch.chdir(images.folder)
    assert read(find_inputs(str(tmp_path / "list.txt")), 9)[0].path == str(images.folder / two)


def test_parquet_of_paths(images, tmp_path):
    for number, part in enumerate((images.names[:10], [*images.names[10:], None])):
        parquet.write_table(pa.table({"path": part, "other": list(range(len(part)))}), tmp_path / f"{number}.parquet")
    names = [*images.names, ""]
    for place in (tmp_path, f"file://{tmp_path}", f"{tmp_path}/*.parquet"):
        inputs = find_inputs(str(place), image_dir=str(images.folder), path_column="path")
        assert [item.name for item in read(inputs, 7)] == names


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_parquet_of_bytes(images, tmp_path, size):
    """Parts that begin and end anywhere: in groups of rows, between them, between files."""
    encoded = [(images.folder / name).read_bytes() for name in images.names]
    encoded[4] = None
    for number, (start, stop) in enumerate(((0, 11), (11, 12), (12, len(encoded)))):
        struct = [{"bytes": value, "path": "x"} for value in encoded[start:stop]]
        table = pa.table({"image": struct, "key": list(range(start, stop))})
        parquet.write_table(table, tmp_path / f"{number}.parquet", row_group_size=4)
    inputs = find_inputs(f"file://{tmp_path}", bytes_column="image.bytes", name_column="key")
    found = read(inputs, size)
    assert [(item.name, item.image) for item in found] == [(str(i), value) for i, value in enumerate(encoded)]
    assert [i for i, item in enumerate(found) if item.error] == [4, images.names.index("empty.jpg")]
    unnamed = read(find_inputs(str(tmp_path), bytes_column="image.bytes"), size)
    assert unnamed[12].name == "2.parquet#0" and unnamed[12].path == f"file://{tmp_path}/2.parquet#0"

    (tmp_path / "1.parquet").write_bytes(b"no longer Parquet")
    found = read(inputs, size)
    assert [i for i, item in enumerate(found) if item.image is None] == [4, 11]
    assert "not a Parquet file" in found[11].error and found[12].image == encoded[12]


def test_inputs_that_do_not_fit(images, tmp_path):
    parquet.write_table(pa.table({"path": ["a"], "data": [b"a"]}), tmp_path / "t.parquet")
    table = str(tmp_path / "t.parquet")
    (tmp_path / "empty.txt").write_text("\n\n")
    cases = [
        ({"place": str(tmp_path / "missing")}, "no such file or folder"),
        ({"place": str(tmp_path)}, "no image in .*; it has Parquet files: name their column"),
        ({"place": str(tmp_path / "empty.txt")}, "no image paths in it"),
        ({"place": str(images.folder / images.names[0])}, "a text file with one image path per line"),
        ({"place": table}, "name its column with --path_column or --bytes_column; it has path, data"),
        ({"place": table, "path_column": "paht"}, "no column paht; it has path, data"),
        ({"place": table, "path_column": "data"}, "column data is binary; expected string"),
        ({"place": table, "bytes_column": "path"}, "column path is string; expected binary"),
        ({"place": str(tmp_path / "empty.txt"), "bytes_column": "path"}, "empty.txt: not a Parquet file"),
        ({"place": str(tmp_path / "*.pq"), "bytes_column": "path"}, "no Parquet files there"),
        ({"place": "nosuch://place/x"}, "nosuch://place/x: .*nosuch"),
    ]
    for options, message in cases:
        with pytest.raises(DataError, match=message):
            find_inputs(options.pop("place"), **options)
