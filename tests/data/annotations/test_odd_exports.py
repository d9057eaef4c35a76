"""Exports that are laid out in an unusual way: their boxes and their split are right, or the error says what to do."""

import json

import pytest
from exported import BOX, CVAT, HEADING, LINE, POLYGON, RECTANGLE, VOC, converted, folder, images, labelstudio

from ppdet.utils.errors import DataError


@pytest.mark.parametrize(
    "files",
    [
        {"labels/a.txt": "", "data.yaml": "names: [cat]"},
        {"labels/a.txt": "\n", "classes.txt": "cat"},
        {"a.json": {"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": "cat"}]}},
        {
            "a.xml": CVAT.format("").replace(
                "<image", "<meta><l><labels><label><name>cat</name></label></labels></l></meta><image"
            )
        },
    ],
    ids=["yolo-data.yaml", "yolo-classes.txt", "coco", "cvat"],
)
def test_images_without_any_object_are_kept_where_classes_are_named(files, tmp_path):
    found, _ = converted(tmp_path, {**images("images/a.png"), **files})
    assert found == {"all": {"a.png": []}}


EMPTY_LABELME = {"shapes": [], "imagePath": "a.png"}
EMPTY_TASK = {"data": {"image": "/a.png"}, "annotations": [{"result": []}]}


@pytest.mark.parametrize(
    "files",
    [
        {"a.xml": "<annotation></annotation>"},
        {"a.json": EMPTY_LABELME},
        {"a.json": [EMPTY_TASK]},
        {"a.csv": f"{HEADING}a.png,,,,,\n"},
    ],
    ids=["voc", "labelme", "labelstudio", "csv"],
)
def test_without_names_of_classes_the_error_asks_for_them(files, tmp_path):
    files = {**images("a.png"), **files}
    with pytest.raises(DataError, match=r"no object with a class was found.*name these classes with --labels FILE"):
        converted(tmp_path, files)
    (tmp_path / "classes.names").write_text("cat\n")
    assert converted(tmp_path, files, labels=str(tmp_path / "classes.names"))[0] == {"all": {"a.png": []}}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "there are no files in it"),
        ({"a.png": ""}, "it has images and nothing else: .* need these first: `ppdet data pick FOLDER"),
        ({"a.png": "", "a.txt": ""}, "put the names of the classes that are not in them into classes.txt"),
        ({"a.png": "", "data.yaml": "names: [cat]"}, "no label files of YOLO: images/a.jpg needs labels/a.txt"),
        ({"a.csv": HEADING}, "a heading without rows"),
        ({"a.png": "", "a.csv": ""}, "a.csv is an empty table"),
        ({"a.png": "", "a.csv": "filename,class,x,y,width,height\n"}, "no column xmin, ymin, xmax, ymax among"),
    ],
)
def test_folders_without_annotations_say_what_is_missing(files, message, tmp_path):
    (tmp_path / "source").mkdir()
    with pytest.raises(DataError, match=message):
        converted(tmp_path, files)


def test_label_files_of_yolo_are_found_behind_many_empty_ones(tmp_path):
    names = [f"{number:03d}" for number in range(25)]
    files = {f"{name}.txt": "" for name in names} | {"999.txt": LINE, "classes.txt": "cat"}
    found, _ = converted(tmp_path, {**images("999.png", *(f"{name}.png" for name in names)), **files})
    assert found["all"]["999.png"] == [BOX] and len(found["all"]) == 26


@pytest.mark.parametrize("shape", ["[2, 3]", "[2, 2]"])
def test_keypoints_of_yolo_are_no_polygon(shape, tmp_path):
    points = "0.45 0.45 2 0.55 0.55 2" if shape == "[2, 3]" else "0.45 0.45 0.55 0.55"
    files = {"a.txt": f"{LINE.strip()} {points}\n", "data.yaml": f"names: [cat]\nkpt_shape: {shape}"}
    found, losses = converted(tmp_path, {**images("a.png"), **files})
    assert found["all"]["a.png"] == [BOX] and not losses


def test_yolo_in_pixels_is_left_out_and_polygons_become_boxes(tmp_path):
    oriented = "0 0.1 0.25 0.3 0.25 0.3 0.5 0.1 0.5\n"
    files = {"a.txt": f"{LINE}0 20 30 20 20\n{oriented}", "data.yaml": 'names: {"0": cat}'}
    found, losses = converted(tmp_path, {**images("a.png"), **files})
    assert found["all"]["a.png"] == [BOX, BOX]
    assert losses == {
        "objects left out whose numbers are no shares of the image's sides, such as pixels": 1,
        "polygons replaced by the boxes around them": 1,
    }


def test_label_files_of_yolo_in_other_folders_belong_to_the_images_of_these_folders(tmp_path):
    labels = {"txt/one/1.txt": LINE, "txt/two/1.txt": LINE * 2, "classes.txt": "cat"}
    found, losses = converted(tmp_path, {**images("pics/one/1.png", "pics/two/1.png", "pics/three/1.png"), **labels})
    assert found["all"] == {"one/1.png": [BOX], "two/1.png": [BOX, BOX], "three/1.png": []}
    assert losses == {"images without a label file kept as images without objects": 1}


def test_a_label_file_of_yolo_is_not_given_to_a_second_image_of_its_name(tmp_path):
    found, _ = converted(tmp_path, {**images("one/1.png", "two/1.png"), "one/1.txt": LINE, "classes.txt": "cat"})
    assert found["all"] == {"one/1.png": [BOX], "two/1.png": []}


def test_letter_case_of_names_of_yolo_counts_only_where_no_other_file_fits(tmp_path):
    (tmp_path / "a").touch()
    if (tmp_path / "A").exists():
        pytest.skip("this file system does not tell A from a")
    labels = {"txt/A.txt": LINE, "txt/a.txt": LINE * 2, "txt/img_1.txt": LINE * 3, "classes.txt": "cat"}
    found, losses = converted(tmp_path, {**images("pics/A.png", "pics/a.png", "pics/IMG_1.png"), **labels})
    assert {name: len(boxes) for name, boxes in found["all"].items()} == {"A.png": 1, "a.png": 2, "IMG_1.png": 3}
    assert not losses


def test_images_of_yolo_with_one_label_file_are_counted(tmp_path):
    files = {**images("images/a.png", "images/a.PNG.png"), "labels/a.txt": LINE, "classes.txt": "cat"}
    (folder(tmp_path, files) / "images" / "a.jpg").write_bytes((tmp_path / "source/images/a.png").read_bytes())
    found, losses = converted(tmp_path, {})
    assert found["all"] == {"a.jpg": [BOX], "a.png": [BOX], "a.PNG.png": []}
    assert losses["images that have their label file with another image in common: its boxes are in both"] == 2


@pytest.mark.parametrize(
    ("yaml", "parts"),
    [
        ("path: /home/me/x\ntrain: images/t17\nval: images/v17", {"train": ["t17/a.png"], "val": ["v17/b.png"]}),
        ("path: ../x\ntrain: [t.txt]\nval: C:\\x\\v.txt", {"train": ["t17/a.png"], "val": ["v17/b.png"]}),
        ("train: images\nval: images", {"all": ["t17/a.png", "v17/b.png"]}),
        ("train: images/none\nval: 3", {"all": ["t17/a.png", "v17/b.png"]}),
    ],
    ids=["folders", "lists", "the same", "missing"],
)
def test_the_split_of_data_yaml(yaml, parts, tmp_path):
    files = {
        "data.yaml": f"{yaml}\nnames: [cat]",
        "t.txt": "./images/t17/a.png\n",
        "v.txt": "D:\\y\\images\\v17\\b.png",
    }
    labels = {"labels/t17/a.txt": LINE, "labels/v17/b.txt": LINE}
    found, _ = converted(tmp_path, {**images("images/t17/a.png", "images/v17/b.png"), **labels, **files})
    assert {part: sorted(names) for part, names in found.items()} == parts


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("_annotations.csv", f"{HEADING}{{}}.png,cat,10,20,30,40\n"),
        ("{}.xml", VOC),
        ("{}.json", json.dumps({"imagePath": "{}.png", "shapes": [RECTANGLE]})),
    ],
    ids=["csv", "voc", "labelme"],
)
def test_the_split_of_folders(name, content, tmp_path):
    files = {
        f"{part}/{name.replace('{}', stem)}": content.replace("{}", stem)
        for part, stem in (("train", "a"), ("valid", "b"))
    }
    found, _ = converted(tmp_path, {**images("train/a.png", "valid/b.png"), **files})
    assert found == {"train": {"train/a.png": [BOX]}, "val": {"valid/b.png": [BOX]}}


def test_one_image_under_two_names_in_a_table(tmp_path):
    table = f"{HEADING}x/a.png,cat,10,20,30,40\n.\\x\\a.png,dog,1,2,3,4\n"
    found, losses = converted(tmp_path, {**images("x/a.png"), "a.csv": table})
    assert found["all"]["a.png"] == [BOX, ("dog", 1, 2, 2, 2)] and not losses


@pytest.mark.parametrize(
    "files",
    [
        {"a.xml": CVAT.format('<polygon label="cat" points="10,20"/>')},
        {"a.xml": "<annotation><object><name>cat</name><polygon><x1>1</x1><y1>2</y1></polygon></object></annotation>"},
        {"a.json": {"imagePath": "a.png", "shapes": [{"label": "cat", "points": [[1, 2]], "shape_type": "polygon"}]}},
    ],
    ids=["cvat", "voc", "labelme"],
)
def test_polygons_of_one_point_are_no_boxes(files, tmp_path):
    (tmp_path / "classes.names").write_text("cat\n")
    found, losses = converted(tmp_path, {**images("a.png"), **files}, labels=str(tmp_path / "classes.names"))
    assert found["all"]["a.png"] == [] and losses == {"objects with fewer than two points left out": 1}


def test_a_polygon_of_pascal_voc_without_a_box(tmp_path):
    content = f"<annotation><object><name>cat</name><polygon>{POLYGON}</polygon></object></annotation>"
    found, losses = converted(tmp_path, {**images("a.png"), "a.xml": content})
    assert found["all"]["a.png"] == [BOX] and losses == {"polygons replaced by the boxes around them": 1}


def test_label_studio_tasks_of_several_images_are_left_out_and_full_turns_are_none(tmp_path):
    turned = labelstudio(to_name="image", value={"rotation": 360})
    two = [labelstudio(to_name="image1"), labelstudio(to_name="image2")]
    tasks = [
        {"data": {"image": "/d/a.png"}, "annotations": [{"result": [turned]}]},
        {"data": {"image1": "/d/b.png", "image2": "/d/c.png"}, "annotations": [{"result": two}]},
    ]
    found, losses = converted(tmp_path, {**images("a.png", "b.png", "c.png"), "tasks.json": tasks})
    assert found["all"] == {"a.png": [BOX]}
    assert losses == {"tasks of Label Studio whose boxes are of several images left out": 1}


def test_labels_with_scores_that_are_detections_are_no_labels(tmp_path):
    """A person who deletes a label file that `ppdet infer` wrote says that the image has no objects."""
    scored = LINE.strip() + " 0.9\n"
    files = {"labels/a.txt": LINE, "with_score/a.txt": scored, "with_score/b.txt": scored, "data.yaml": "names: [cat]"}
    found, losses = converted(tmp_path, {**images("images/a.png", "images/b.png"), **files})
    assert found == {"all": {"a.png": [BOX], "b.png": []}}
    assert losses == {"images without a label file kept as images without objects": 1}


def test_a_folder_of_that_name_without_other_labels_is_read(tmp_path):
    files = {"with_score/a.txt": LINE.strip() + " 0.9\n", "classes.txt": "cat"}
    assert converted(tmp_path, {**images("images/a.png"), **files})[0] == {"all": {"a.png": [BOX]}}
