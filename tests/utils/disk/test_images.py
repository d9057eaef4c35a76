"""Image files are found by the ends of their names, and a folder or list without any is one error."""

import pytest

from ppdet.utils.disk.images import find_images, parse_image_list
from ppdet.utils.errors import DataError


def test_images_of_a_folder_and_its_subfolders_are_sorted(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("z.JPG", "a.webp", "b/c.Tiff", "notes.txt", "b/png"):
        (tmp_path / name).touch()
    assert find_images(tmp_path) == [str(tmp_path / name) for name in ("a.webp", "b/c.Tiff", "z.JPG")]


def test_a_folder_without_images_is_an_error_that_says_what_an_image_is(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"no image in .*: expected files ending in \.jpg \.jpeg"):
        find_images(tmp_path)


def test_a_list_is_text_with_a_path_per_line():
    assert parse_image_list(b"a.jpg\n\n b c.jpg \r\n", "list.txt") == ["a.jpg", "b c.jpg"]
    for content, message in ((b"\n", "no image paths"), (b"\xff\xd8\xff", "one image path per line"), (b"a\0", "NUL")):
        with pytest.raises(DataError, match=f"list.txt: .*{message}"):
            parse_image_list(content, "list.txt")
