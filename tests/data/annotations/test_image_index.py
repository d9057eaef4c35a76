"""Which of several files an annotation means."""

import os
import unicodedata

from ppdet.data.annotations.image_index import ImageIndex
from ppdet.data.annotations.labeled_set import LabeledImage


def tree(tmp_path, *names: str) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")


def found(tmp_path, name: str, near: str = "export/labels.json", image_dir: str | None = "photos") -> tuple[str, str]:
    index = ImageIndex(str(tmp_path / "export"), str(tmp_path / image_dir) if image_dir else None)
    path, reason = index.find(LabeledImage(name, str(tmp_path / near), None, lambda size: []))
    return os.path.relpath(path, tmp_path).replace(os.sep, "/") if path else "", reason


def test_the_folder_that_is_named_for_images_goes_before_files_near_the_annotations(tmp_path):
    tree(tmp_path, "export/old/1.jpg", "export/2.jpg", "export/3.jpg", "export/4.jpg", "export/4/a.jpg")
    tree(tmp_path, "photos/1.jpg", "photos/2.jpg", "photos/4.png", "photos/x/5.jpg", "photos/y/5.jpg", "export/5.jpg")
    assert found(tmp_path, "/data/upload/3/1a2b3c4d-1.jpg")[0] == "photos/1.jpg"
    assert found(tmp_path, "2.jpg")[0] == "photos/2.jpg"
    assert found(tmp_path, "2.jpg", image_dir=None)[0] == "export/2.jpg"
    assert found(tmp_path, "3.jpg")[0] == "export/3.jpg"
    assert found(tmp_path, "4.jpg")[0] == "export/4.jpg"  # one of its full name goes before one of its stem
    assert found(tmp_path, "y/5.jpg")[0] == "photos/y/5.jpg"
    assert found(tmp_path, "upload/5.jpg") == ("", "annotated images whose name several files have left out")


def test_names_differ_in_letter_case_accents_and_blanks_between_systems(tmp_path):
    decomposed = unicodedata.normalize("NFD", "Zähler 1.jpg")
    tree(tmp_path, f"export/{decomposed}", "export/IMG_2.JPG", "export/ lead.jpg")
    assert found(tmp_path, "Zähler 1.jpg", image_dir=None)[0] == f"export/{decomposed}"
    assert found(tmp_path, "img_2.jpg", image_dir=None)[0] == "export/IMG_2.JPG"
    assert found(tmp_path, "img_2.png", image_dir=None)[0] == "export/IMG_2.JPG"
    for name in (" lead.jpg", "lead.jpg", "/data/upload/3/1a2b3c4d- lead.jpg"):
        assert found(tmp_path, name, image_dir=None)[0] == "export/ lead.jpg"


def test_images_in_formats_that_are_not_read_are_said_to_be_there(tmp_path):
    tree(tmp_path, "export/1.HEIC", "export/2.gif", "export/2.jpg")
    said = "images in a format that is not read left out: convert them to JPEG or PNG"
    assert found(tmp_path, "1.heic") == found(tmp_path, "1.jpg") == ("", said)
    assert found(tmp_path, "2.gif")[0] == "export/2.jpg"  # it was converted
