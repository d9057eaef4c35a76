"""Image files are found by the ends of their names, and a folder or list without any is one error."""

import os

import pytest

from ppdet.utils.disk.images import find_images, parse_image_list
from ppdet.utils.errors import DataError


def test_images_of_a_folder_and_its_subfolders_are_sorted(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("z.JPG", "a.webp", "b/c.Tiff", "notes.txt", "b/png"):
        (tmp_path / name).touch()
    assert find_images(tmp_path) == [str(tmp_path / name) for name in ("a.webp", "b/c.Tiff", "z.JPG")]


def test_links_to_folders_are_followed_once(tmp_path):
    """Real folders keep their own paths; links in a circle end; a link to a folder around it is left out."""
    for name in ("named/own/a.jpg", "elsewhere/b.jpg", "elsewhere/deep/c.jpg", "beside.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    links = {
        "named/sub": "../elsewhere",
        "named/twice": "../elsewhere",
        "named/another_own": "own",
        "named/photo.jpg": "../elsewhere/deep",
        "named/own/up": "..",
        "named/own/far_up": "/",
        "named/here": ".",
        "named/lost.jpg": "nowhere",
        "elsewhere/back": "../named",
        "elsewhere/deep/loop.jpg": "loop.jpg",
        "link": "named",
    }
    for link, target in links.items():
        (tmp_path / link).symlink_to(target, target_is_directory=True)
    expected = ["lost.jpg", "own/a.jpg", "photo.jpg/c.jpg", "photo.jpg/loop.jpg", "sub/b.jpg"]
    for folder in ("named", "link"):
        assert find_images(tmp_path / folder) == [str(tmp_path / folder / name) for name in expected]
    assert find_images(tmp_path / "elsewhere") == [
        str(tmp_path / "elsewhere" / name)
        for name in ("b.jpg", "back/lost.jpg", "back/own/a.jpg", "deep/c.jpg", "deep/loop.jpg")
    ]


def test_folders_that_cannot_be_read_are_told(tmp_path, monkeypatch, log):
    (tmp_path / "a.jpg").touch()
    monkeypatch.chdir(tmp_path)
    for _ in range(5000 // 200):  # a path that is longer than any file system takes
        os.mkdir("x" * 200)
        os.chdir("x" * 200)
    os.chdir(tmp_path)
    assert find_images(tmp_path) == [str(tmp_path / "a.jpg")]
    [record] = log.records
    assert record.getMessage().startswith(f"{tmp_path}: folders in it that cannot be read: 1 (")


def test_a_folder_without_images_is_an_error_that_says_what_an_image_is(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"no image in .*: expected files ending in \.jpg \.jpeg"):
        find_images(tmp_path)


def test_a_list_is_text_with_a_path_per_line():
    assert parse_image_list(b"a.jpg\n\n b c.jpg \r\n", "list.txt") == ["a.jpg", "b c.jpg"]
    for content, message in ((b"\n", "no image paths"), (b"\xff\xd8\xff", "one image path per line"), (b"a\0", "NUL")):
        with pytest.raises(DataError, match=f"list.txt: .*{message}"):
            parse_image_list(content, "list.txt")
