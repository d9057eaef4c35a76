"""What a conversion reads: annotations of its source alone, and images of both folders. It changes none of them."""

import pytest
from exported import BOX, LINE, RECTANGLE, VOC, converted, folder, images, labelstudio_task

from ppdet.cli import data_convert
from ppdet.data.annotations.to_coco import convert_annotations
from ppdet.utils.errors import DataError


def test_one_file_is_converted_to_a_folder_beside_it(tmp_path, monkeypatch):
    """What an earlier conversion wrote there is neither read nor taken for an image of the file."""
    source = folder(tmp_path, {**images("photos/a.png"), "p.json": [labelstudio_task("a.png")]})
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    monkeypatch.chdir(source)
    for target, options in (("sets/one", {}), ("two", {"image_dir": "photos"}), ("two", {"overwrite": True})):
        result = convert_annotations("p.json", target, **options)
        assert [count for count, _ in result.counts.values()] == [1] and not result.losses.counts
    assert (source / "two" / "images" / "a.png").is_file()
    assert {path: path.read_bytes() for path in before} == before
    with pytest.raises(DataError, match="all of which is read, and nothing in it changed"):
        convert_annotations(".", "three")


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (".", {}, "p.json is in .*, which is written to"),
        ("photos", {"image_dir": "photos/sub"}, "photos/sub is in .*: add --images keep"),
        ("out", {"image_dir": "fotos"}, "fotos is no folder"),
    ],
)
def test_files_that_are_read_are_not_replaced(target, options, message, tmp_path, monkeypatch):
    source = folder(tmp_path, {**images("photos/sub/a.png"), "p.json": [labelstudio_task("a.png")]})
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    monkeypatch.chdir(source)
    with pytest.raises(DataError, match=message):
        convert_annotations("p.json", target, overwrite=True, **options)
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before


def test_images_in_the_folder_that_is_written_to_can_stay_there(tmp_path):
    """As after a conversion whose labels were corrected: its images are those of the next one."""
    source = folder(tmp_path, {**images("set/images/x/a.png"), "p.json": [labelstudio_task("a.png")]})
    target = source / "set"
    result = convert_annotations(
        source / "p.json", target, image_dir=str(target / "images"), images="keep", overwrite=True
    )
    assert result.image_dir == str(target / "images" / "x") and (target / "images" / "x" / "a.png").is_file()


def test_annotations_in_the_folder_of_images_are_not_read(tmp_path):
    """Neither in place of those of the source, nor beside them."""
    other = {"imagePath": "a.png", "shapes": [{**RECTANGLE, "label": "dog"}]}
    files = {**images("a.png"), "a.json": other, "a.txt": "1 0.5 0.5 0.1 0.1\n", "classes.txt": "cat\ndog"}
    photos = folder(tmp_path, {f"../photos/{name}": content for name, content in files.items()}).parent / "photos"
    found, losses = converted(tmp_path, {"a.xml": VOC}, image_dir=str(photos))
    assert found == {"all": {"a.png": [BOX]}} and not losses
    with pytest.raises(DataError, match="no annotations of coco"):
        convert_annotations(folder(tmp_path / "none", {"notes.txt": "-"}), tmp_path / "b", image_dir=str(photos))


def test_images_of_another_folder_are_in_a_set_of_yolo_only_if_it_names_them(tmp_path):
    """The 20 photos that nobody has labelled are not images without objects."""
    names = ("a.png", "listed.png", "unlabelled.png")
    photos = folder(tmp_path, images(*(f"../photos/{name}" for name in names))).parent / "photos"
    yaml = "train: train.txt\nval: val.txt\nnames: [cat]"
    files = {"labels/a.txt": LINE, "data.yaml": yaml, "train.txt": "./a.png\n", "val.txt": "./listed.png\n"}
    found, losses = converted(tmp_path, files, image_dir=str(photos))
    assert found == {"train": {"a.png": [BOX]}, "val": {"listed.png": []}}
    assert losses == {
        "images of --image_dir without a label file left out": 1,
        "images without a label file kept as images without objects": 1,
    }


def test_a_label_file_of_yolo_belongs_to_the_image_beside_it_rather_than_to_a_copy_elsewhere(tmp_path):
    photos = folder(tmp_path, images("../photos/a.png")).parent / "photos"
    files = {**images("pics/a.png"), "txt/a.txt": LINE, "classes.txt": "cat"}
    found, losses = converted(tmp_path, files, image_dir=str(photos))
    assert found == {"all": {"a.png": [BOX]}} and losses == {"images of --image_dir without a label file left out": 1}


def test_data_yaml_stands_for_the_data_set_in_its_folder(tmp_path):
    files = {**images("images/a.png"), "labels/a.txt": LINE, "b.yaml": "names: [dog]", "data.yaml": "names: [cat]"}
    source = folder(tmp_path, files)
    assert convert_annotations(source / "data.yaml", tmp_path / "out").classes == ["cat"]
    with pytest.raises(DataError, match="all of which is read"):
        convert_annotations(source / "data.yaml", source / "out")
    (source / "c.yml").write_text("a: 1")
    with pytest.raises(DataError, match=r"c\.yml has no names of classes: name the data.yaml"):
        convert_annotations(source / "c.yml", tmp_path / "other")


def test_what_an_earlier_conversion_left_out_and_its_images_are_not_taken_for_the_new_one(tmp_path, capsys):
    damaged = {**images("a.png", "b.png"), "a.xml": VOC, "b.xml": VOC, "c.xml": "<annotation"}
    converted(tmp_path / "first", damaged)
    out = tmp_path / "first" / "out"
    assert (out / "left_out.txt").is_file()
    source = folder(tmp_path / "second", {**images("b.png"), "b.xml": VOC})
    data_convert.main([str(source), str(out), "--overwrite"])
    assert not (out / "left_out.txt").exists() and (out / "images" / "a.png").is_file()
    assert "\nimages there that no file lists, such as those of an earlier conversion: 1\n" in capsys.readouterr().out
    (source / "b.xml").rename(source / "a.xml")
    (source / "b.png").rename(source / "a.png")
    data_convert.main([str(source), str(tmp_path / "third")])
    data_convert.main([str(source), str(tmp_path / "third"), "--overwrite"])
    assert "no file lists" not in capsys.readouterr().out


def test_a_file_of_classes_without_a_name_says_so(tmp_path):
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(DataError, match=r"^--labels .*empty.txt has no class names in it: put one on each line$"):
        converted(tmp_path, {**images("a.png"), "a.xml": VOC}, labels=str(tmp_path / "empty.txt"))
