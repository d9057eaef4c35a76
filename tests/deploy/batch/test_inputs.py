"""Inputs of a batch job: folders, lists and Parquet, numbered in a fixed order, and read in parts."""

import os

import pyarrow as pa
import pytest
from pyarrow import parquet

from ppdet.deploy.batch.inputs import find_inputs
from ppdet.deploy.batch.ray_pool import split_ranges
from ppdet.deploy.batch.read_images import item_names, read_items
from ppdet.utils.disk import images as image_files
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
    assert [(item.name, item.image) for item in remote] == [(name, str(images.folder / name)) for name in images.names]
    assert inputs.fingerprint() == find_inputs(f"{images.folder}/").fingerprint()


def test_folders_that_are_links(images, tmp_path):
    """Images and tables in them are part of the job, as in the folders themselves; a circle of links ends."""
    (tmp_path / "tables").mkdir()
    parquet.write_table(pa.table({"path": images.names[:2]}), tmp_path / "tables" / "t.parquet")
    (tmp_path / "job").mkdir()
    for link, target in {"photos": images.folder, "album.jpg": images.folder / "below", "t": "../tables"}.items():
        (tmp_path / "job" / link).symlink_to(target, target_is_directory=True)
    (tmp_path / "tables" / "around").symlink_to(tmp_path, target_is_directory=True)
    below = [name.removeprefix("below/") for name in images.names if name.startswith("below/")]
    rest = [name for name in images.names if not name.startswith("below/")]
    expected = [f"album.jpg/{name}" for name in below] + [f"photos/{name}" for name in rest]
    for place in (str(tmp_path / "job"), f"file://{tmp_path}/job"):
        found = read(find_inputs(place), 9)
        assert [item.name for item in found] == expected and {item.error for item in found} == {None}
        assert {os.path.realpath(item.image) for item in found} == {str(images.folder / name) for name in images.names}
        for pattern in ("", "/*/t.parquet", "/../tables/**/t.parquet"):
            inputs = find_inputs(place + pattern, image_dir=str(images.folder), path_column="path")
            assert [item.name for item in read(inputs, 9)] == images.names[:2]


def test_list_with_relative_absolute_and_remote_paths(images, tmp_path, monkeypatch):
    one, two, three = images.names[:3]
    lines = [two, "", str(images.folder / one), f"file://{images.folder / three}", "missing.png", "file:///missing.png"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    found = read(find_inputs(str(tmp_path / "list.txt"), image_dir=str(images.folder)), 2)
    assert [item.name for item in found] == [line for line in lines if line]
    assert [item.path for item in found][:2] == [str(images.folder / two), str(images.folder / one)]
    assert found[2].image == str(images.folder / three)
    assert found[3].image == str(images.folder / "missing.png")
    assert found[4].image == "/missing.png"
    # Without image_dir, from the working directory.
    monkeypatch.chdir(images.folder)
    assert read(find_inputs(str(tmp_path / "list.txt")), 9)[0].path == str(images.folder / two)


def test_parquet_of_paths(images, tmp_path):
    for number, part in enumerate((images.names[:10], [*images.names[10:], None])):
        parquet.write_table(pa.table({"path": part, "other": list(range(len(part)))}), tmp_path / f"{number}.parquet")
    names = [*images.names, ""]
    for place in (tmp_path, f"file://{tmp_path}", f"{tmp_path}/*.parquet"):
        inputs = find_inputs(str(place), image_dir=str(images.folder), path_column="path")
        found = read(inputs, 7)
        assert [item.name for item in found] == names
        assert found[-1] == ("", "", None, "no path (null or empty)") and not any(item.error for item in found[:-1])
        assert item_names(inputs.task(range(len(inputs)))) == [(item.name, item.path) for item in found]


def test_one_image(images):
    name = next(name for name in images.names if name.startswith("below/more/"))
    for place in (str(images.folder / name), f"file://{images.folder}/{name}"):
        [item] = read(find_inputs(place), 7)
        assert (item.name, item.image) == (name.rpartition("/")[2], str(images.folder / name))


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
        ({"place": str(images.folder / images.names[0]), "path_column": "path"}, "not a Parquet file"),
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


MIB = 2**20


def shared_value(value, rows, kind):
    """A column whose rows all have one value, which Parquet stores once."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([value], kind))


def test_a_small_table_does_not_fill_the_memory(tmp_path):
    """5 kB of Parquet in which 2,000 rows share a value of 5 MiB: together 10 GB, and 16 at a time 80 MiB."""
    table, options = tmp_path / "t.parquet", {"compression": "zstd", "store_schema": False}
    columns = {"image": shared_value(bytes(5 * MIB), 2000, pa.binary()), "name": shared_value("n", 2000, pa.string())}
    parquet.write_table(pa.table(columns), table, **options)
    assert table.stat().st_size < 10_000
    del columns
    before = pa.total_allocated_bytes()
    for item in read_items(find_inputs(str(table), bytes_column="image", name_column="name").task(range(5, 9))):
        assert len(item.image) == 5 * MIB and item.name == "n"
        assert pa.total_allocated_bytes() - before < 40 * MIB

    parquet.write_table(pa.table({"path": shared_value("a" * 5 * MIB, 2000, pa.string())}), table, **options)
    with pytest.raises(DataError, match="5,242,880 characters"):
        find_inputs(str(table), path_column="path")


def test_lists_and_tables_that_mean_harm(tmp_path, monkeypatch):
    table, text = tmp_path / "t.parquet", tmp_path / "list.txt"
    rows = {"p": ["a"] * 9, "b": [b"a"] * 9, "n": list(range(9)), "l": [["a"]] * 9, "s": [{"x": {"y": "a"}}] * 9}
    rows.update({f"column\x1b[31m{i}": [1] * 9 for i in range(3000)})
    parquet.write_table(pa.table(rows), table, row_group_size=4)
    os.mkfifo(tmp_path / "pipe.parquet")
    os.mkfifo(tmp_path / "pipe")
    os.symlink("loop", tmp_path / "loop")
    cases = [
        ({"place": f"{tmp_path}/pipe"}, "not a regular file"),
        ({"place": f"{tmp_path}/pipe.parquet"}, "not a regular file"),
        ({"place": f"{tmp_path}/pipe", "path_column": "p"}, "not a regular file"),
        ({"place": "/dev/zero"}, "not a regular file"),
        ({"place": f"{tmp_path}/loop"}, "no such file|symbolic links"),
        ({"place": str(table), "path_column": "no"}, "no column no; it has p, b, n, l, s, "),
        ({"place": str(table), "path_column": "s"}, "column s is struct.*; expected string"),
        ({"place": str(table), "path_column": "s.x"}, "column s.x is struct.*; expected string"),
        ({"place": str(table), "path_column": "l"}, "column l is list.*; expected string"),
        ({"place": str(table), "path_column": "l.list"}, "no column l.list"),
        ({"place": str(table), "bytes_column": "n"}, "column n is int64; expected binary"),
        ({"place": str(table), "bytes_column": "b", "name_column": "b"}, "column b is binary; expected string"),
    ]
    for options, message in cases:
        with pytest.raises(DataError, match=message) as error:
            find_inputs(options.pop("place"), **options)
        assert len(str(error.value)) < 2000

    with monkeypatch.context() as limits:
        limits.setattr(image_files, "MOST_PATHS", 8)
        limits.setattr(image_files, "LONGEST_PATH", 100)
        text.write_text("a\n" * 9)
        for place, options in ((text, {}), (table, {"path_column": "p"}), (table, {"bytes_column": "b"})):
            with pytest.raises(DataError, match="9 lines or rows; a list has at most 8: divide it"):
                find_inputs(str(place), **options)
        text.write_text("a.png\n" + "x" * 101)
        with pytest.raises(DataError, match=r"one has 101 characters \(at most 100\)"):
            find_inputs(str(text))
    for content in ("a.png".encode("utf-16-le"), b"\x80\x81", b"\x89PNG\r\n\x1a\n\0\0"):
        text.write_bytes(content)
        with pytest.raises(DataError, match="one image path per line"):
            find_inputs(str(text))
    text.write_bytes("a.png\nb\x1b[31m.png".encode("utf-16"))
    assert find_inputs(str(text)).names == ["a.png", "b\x1b[31m.png"]


def test_damaged_tables_have_a_row_for_each_of_theirs(tmp_path):
    """Whatever byte of a table is wrong: one error, or as many images as the table says."""
    count = 20
    columns = {"b": [b"x" * i for i in range(count)], "n": list(range(count)), "p": [f"{i}.png" for i in range(count)]}
    parquet.write_table(pa.table(columns), tmp_path / "whole.parquet", row_group_size=7)
    whole, place = (tmp_path / "whole.parquet").read_bytes(), tmp_path / "t.parquet"
    outcomes = set()
    for position in range(4, len(whole), 41):
        for value in (0, 127, 255):
            place.write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
            for options in ({"path_column": "p"}, {"bytes_column": "b", "name_column": "n"}):
                try:
                    inputs = find_inputs(str(place), **options)
                except DataError as error:
                    outcomes.add("refused")
                    assert "\n" not in str(error)
                    continue
                found = [item for task in [inputs.task(range(len(inputs)))] for item in read_items(task)]
                assert len(found) == len(inputs) and all(isinstance(item.name, str) for item in found)
                outcomes.add("error" if any(item.error for item in found if item.name != "0") else "read")
    assert outcomes == {"refused", "error", "read"}
