"""Which formats are read, and what is said about a file or folder that has none of them."""

import json

import pytest
from exported import LINE, converted, folder, images

from ppdet.data.annotations.recognition import READERS
from ppdet.data.annotations.to_coco import convert_annotations
from ppdet.utils.errors import DataError
from ppdet.utils.formats.label_formats import READ_FORMATS

VIA = {"a.png123": {"filename": "a.png", "size": 123, "regions": []}}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("export.zip", b"PK\x03\x04 and so on", r"export.zip is a ZIP archive: unpack it, and name the folder$"),
        (
            "via.json",
            json.dumps(VIA).encode(),
            r"is VGG Image Annotator JSON: no annotations of coco, .* export one",
        ),
        ("notes.txt", b"nothing", "no annotations of coco, .*; --from NAME reads the file as one of these"),
        ("a.png.csv", b"cat,1,2,3,4,a.png,100,80\n", "rename the columns, or put such a line above the rows"),
        ("xywh.csv", b"image,label,x,y,width,height\na.png,cat,1,2,3,4\n", r"make xmax = x \+ width"),
    ],
)
def test_of_a_file_it_is_said_what_it_is_and_not_what_lies_around_it(name, content, message, tmp_path):
    source = folder(tmp_path, {**images("a.png"), "classes.txt": "cat"})
    (source / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        convert_annotations(source / name, tmp_path / "out")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"1.heic": "", "1.txt": LINE, "classes.txt": "cat"}, "1.heic, are in a format that is not read: convert them"),
        ({"export.zip": "", "readme.txt": ""}, "unpack .*export.zip first"),
    ],
)
def test_of_a_folder_it_is_said_what_to_do_first(files, message, tmp_path):
    with pytest.raises(DataError, match=message):
        converted(tmp_path, files)


def test_label_files_of_images_that_are_not_read_and_files_of_macos_are_told_apart(tmp_path):
    files = {**images("b.png"), "a.heic": "", "c.gif": "", "a.txt": LINE, "b.txt": LINE, "classes.txt": "cat"}
    files |= {"._b.txt": LINE, "._a.json": "\1", "d.txt": LINE}
    (folder(tmp_path, files) / "._b.png").write_bytes(b"\0\5\26\7")
    found, losses = converted(tmp_path, {})
    assert list(found["all"]) == ["b.png"]
    assert losses == {
        "images in a format that is not read left out: convert them to JPEG or PNG": 2,
        "label files without an image left out": 1,
    }


def test_every_format_that_is_named_has_a_reader():
    assert set(READ_FORMATS) == {*READERS, "yolo"} and len(READ_FORMATS) == len(READERS) + 1
