"""Columns of large files are kept between runs: they are those of the file as it is, or the file is parsed again."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ppdet.utils.disk import lock
from ppdet.utils.formats import coco_cache
from ppdet.utils.formats.coco_cache import cached_columns

ROOT = Path(__file__).resolve().parents[3]


def write(path, boxes=3, **others):
    images = [{"id": i, "file_name": f"é{i}.png", "width": 64, "height": 48} for i in range(2)]
    rows = [{"image_id": i % 2, "category_id": 1, "bbox": [i, 1, 2, 3.5]} for i in range(boxes)]
    content = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "图"}], **others}
    path.write_text(json.dumps({key: value for key, value in content.items() if value != "absent"}))


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The cache of the test, in which files of every size are kept; the function returns its files."""
    monkeypatch.setenv("PPDET_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(coco_cache, "LEAST_BYTES", 0)
    return lambda: sorted((tmp_path / "cache" / "annotations").glob("*"))


@pytest.fixture
def parsed(monkeypatch):
    """How often files were parsed: the list gets an entry each time."""
    calls = []
    read_columns = coco_cache.read_columns
    monkeypatch.setattr(coco_cache, "read_columns", lambda path: calls.append(path) or read_columns(path))
    return calls


def check_same(one, other):
    assert list(one) == list(other) and one["categories"] == other["categories"]
    assert list(one["images"].names) == list(other["images"].names)
    pairs = [(one["images"][i], other["images"][i]) for i in (0, 2, 3)]
    for mine, yours in [*pairs, *zip(one["annotations"] or (), other["annotations"] or (), strict=True)]:
        assert mine.dtype == yours.dtype
        np.testing.assert_array_equal(mine, yours)


@pytest.mark.parametrize("annotations", [None, [], "some"])
def test_the_second_time_columns_come_from_the_cache(tmp_path, kept, parsed, annotations):
    path = tmp_path / "a.json"
    write(path, **({} if annotations == "some" else {"annotations": annotations}))
    first = cached_columns(path)
    assert len(kept()) == 1 and len(parsed) == 1
    check_same(cached_columns(path), first)
    assert len(parsed) == 1
    cached_columns(path)["annotations" if annotations == "some" else "images"][0][:] = 9  # belongs to the caller alone
    check_same(cached_columns(path), first)


@pytest.mark.parametrize("key", ["annotations", "categories"])
def test_a_list_that_is_absent_stays_absent(tmp_path, kept, key):
    path = tmp_path / "a.json"
    write(path, **{key: "absent"})
    for _ in range(2):
        assert key not in cached_columns(path)
    assert len(kept()) == 1


def test_a_changed_file_is_parsed_again(tmp_path, kept, parsed):
    path = tmp_path / "a.json"
    write(path)
    status = path.stat()
    cached_columns(path)
    write(path, categories=[{"id": 1, "name": "圖"}])  # as many bytes
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as tools do that copy times
    assert path.stat().st_size == status.st_size
    assert cached_columns(path)["categories"] == [{"id": 1, "name": "圖"}]
    other = tmp_path / "b.json"
    write(other, boxes=5)
    os.replace(other, path)
    assert len(cached_columns(path)["annotations"].area) == 5
    assert len(parsed) == 3


def test_a_file_that_changes_while_it_is_parsed_is_not_kept(tmp_path, kept, monkeypatch):
    path = tmp_path / "a.json"
    write(path)
    read_columns = coco_cache.read_columns

    def read_and_change(path):
        found = read_columns(path)
        write(path, boxes=9)
        return found

    monkeypatch.setattr(coco_cache, "read_columns", read_and_change)
    assert len(cached_columns(path)["annotations"].area) == 3
    assert kept() == []


@pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: b"", lambda data: b"x" * 99])
def test_a_damaged_file_of_the_cache_is_written_again(tmp_path, kept, parsed, damage):
    path = tmp_path / "a.json"
    write(path)
    first = cached_columns(path)
    kept()[0].write_bytes(damage(kept()[0].read_bytes()))
    for _ in range(2):
        check_same(cached_columns(path), first)
    assert len(parsed) == 2


def test_a_file_of_the_cache_with_another_bit_anywhere_is_written_again(tmp_path, kept, parsed):
    """A disk may return other bits than were written; boxes that are a little off would be noticed by nobody."""
    path = tmp_path / "a.json"
    write(path)
    first = cached_columns(path)
    (file,) = kept()
    right = file.read_bytes()
    for place in range(0, len(right), 7):
        wrong = bytearray(right)
        wrong[place] ^= 1 << place % 8
        file.write_bytes(wrong)
        check_same(cached_columns(path), first)
    assert len(parsed) > 20 and file.read_bytes() == right


def test_columns_that_another_user_keeps_are_read(tmp_path, kept, parsed, monkeypatch):
    monkeypatch.setattr(os, "utime", lambda path: raise_full())
    path = tmp_path / "a.json"
    write(path)
    check_same(cached_columns(path), cached_columns(path))
    assert len(parsed) == 1


def test_without_a_place_for_a_cache(tmp_path, monkeypatch, kept, parsed):
    path = tmp_path / "a.json"
    write(path)
    for place in (path, "/proc/nowhere"):
        with monkeypatch.context() as patch:
            patch.setenv("PPDET_CACHE_HOME", str(place))
            assert len(cached_columns(path)["annotations"].area) == 3
    monkeypatch.setattr(coco_cache, "save", lambda arrays: raise_full())
    assert len(cached_columns(path)["annotations"].area) == 3
    assert kept() == [] and len(parsed) == 3


def raise_full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_small_and_irregular_files_are_not_kept(tmp_path, kept, monkeypatch):
    path = tmp_path / "a.json"
    write(path, images=[{"id": 1}])
    assert cached_columns(path) is None
    assert cached_columns(tmp_path / "missing.json") is None
    monkeypatch.setattr(coco_cache, "LEAST_BYTES", 10**6)
    write(path)
    assert cached_columns(path) is not None
    assert kept() == []


def test_the_cache_keeps_the_files_that_were_used_last(tmp_path, kept, monkeypatch):
    monkeypatch.setattr(coco_cache, "KEPT", 2)
    paths = [tmp_path / f"{i}.json" for i in range(3)]
    for path in paths:
        write(path)
    for age, path in zip((30, 20), paths):
        before = set(kept())
        cached_columns(path)
        (new,) = set(kept()) - before
        os.utime(new, (1e9 - age, 1e9 - age))
    cached_columns(paths[0])  # used again, later than the second one
    cached_columns(paths[2])
    calls = []
    monkeypatch.setattr(coco_cache, "read_columns", calls.append)
    for path in (paths[0], paths[2], paths[1]):
        cached_columns(path)
    assert calls == [paths[1]]


def test_of_several_processes_one_parses(tmp_path):
    path = tmp_path / "a.json"
    write(path)
    code = (
        "import sys; from ppdet.utils.formats import coco_cache as c\n"
        "read = c.read_columns; c.LEAST_BYTES = 0\n"
        "c.read_columns = lambda path: print('parsed') or read(path)\n"
        "print(len(c.cached_columns(sys.argv[1])['annotations'].area))"
    )
    environment = {**os.environ, "PPDET_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen([sys.executable, "-c", code, path], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    answers = sorted(process.communicate()[0].split() for process in processes)
    assert answers == [["3"], ["3"], ["3"], ["parsed", "3"]]


def test_a_process_that_waits_names_the_annotation_file(tmp_path, kept, monkeypatch, caplog):
    caplog.set_level("INFO")
    is_free = iter([False, True])
    monkeypatch.setattr(lock, "_try_lock", lambda handle: next(is_free))
    path = tmp_path / "a.json"
    write(path)
    assert len(cached_columns(path)["annotations"].area) == 3
    assert f"waiting for another process that parses {path}\n" in caplog.text
