"""What labelling tools export becomes COCO with the same boxes, and what cannot be used is counted and named."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from ppdet.data.annotations.to_coco import convert_annotations
from ppdet.utils.errors import DataError

BOXES = [("cat", (10.0, 5.0, 30.0, 20.0)), ("dog", (0.0, 0.0, 40.0, 30.0))]  # of an image of 64 x 48 pixels
VOC = "<annotation><filename>{name}</filename><size><width>64</width><height>48</height></size>{objects}</annotation>"
OBJECT = (
    "<object><name>{}</name><difficult>0</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>"
    "<ymax>{}</ymax></bndbox></object>"
)


def image(path: Path, seed: int = 0, size: tuple[int, int] = (48, 64)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC))
    return path


def corners(box: tuple) -> tuple:
    return box[0], box[1], box[0] + box[2], box[1] + box[3]


def voc_folder(folder: Path, count: int = 1) -> Path:
    for number in range(count):
        name = f"{number}.png"
        image(folder / "JPEGImages" / name, number)
        objects = "".join(OBJECT.format(label, *corners(box)) for label, box in BOXES)
        path = folder / "Annotations" / f"{number}.xml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(VOC.format(name=name, objects=objects))
    return folder


def boxes_in(path: Path) -> dict[str, list[tuple]]:
    """For each file name, the sorted (class, x, y, width, height)."""
    content = json.loads(path.read_text())
    names = {row["id"]: row["name"] for row in content["categories"]}
    files = {row["id"]: row["file_name"] for row in content["images"]}
    found: dict[str, list[tuple]] = {name: [] for name in files.values()}
    for row in content["annotations"]:
        found[files[row["image_id"]]].append((names[row["category_id"]], *row["bbox"]))
    return {name: sorted(rows) for name, rows in found.items()}


@pytest.mark.parametrize(
    ("form", "rounding"),
    # YOLO's six decimals of a share of 640 pixels, for center and size; CVAT's two decimals.
    [("labelme", 0), ("cvat", 0.005), ("labelstudio", 1e-4), ("yolo", 640 * 1e-6)],
)
def test_boxes_of_each_tool_are_those_of_the_original(form, rounding, shared, tmp_path):
    truth: dict[str, list[tuple]] = {}
    for part in ("train", "val", "test"):
        truth |= boxes_in(shared / "data" / "bccd" / "annotations" / f"{part}.json")
    result = convert_annotations(shared / "cases" / "formats" / form, tmp_path / "out")
    assert result.classes == ["Platelets", "RBC", "WBC"] and not result.losses.counts
    (file,) = result.counts
    converted = boxes_in(Path(file))
    assert len(converted) == 5 and {path.name for path in (tmp_path / "out" / "images").iterdir()} == set(converted)
    for name, boxes in converted.items():
        assert [row[0] for row in boxes] == [row[0] for row in truth[name]]
        numbers, expected = [sorted(rows) for rows in (boxes, truth[name])]
        if rounding:
            used = [
                min(np.abs(np.subtract(row[1:], one[1:])).max() for one in expected if one[0] == row[0])
                for row in numbers
            ]
            assert max(used) <= rounding
        else:
            assert numbers == expected


@pytest.mark.parametrize(("form", "parts"), [("roboflow_coco", {"train", "val"}), ("labelstudio_coco", {"all"})])
def test_placeholders_and_doubled_folders_of_coco_are_gone(form, parts, shared, tmp_path):
    result = convert_annotations(shared / "cases" / "formats" / form, tmp_path)
    assert {Path(path).stem for path in result.counts} == parts and not result.has_images
    assert [images for images, _ in result.counts.values()] == [6] * len(parts)
    content = json.loads(Path(next(iter(result.counts))).read_text())
    assert content["categories"] == [{"id": 1, "name": "raccoon"}]
    assert content["images"][0]["file_name"] == "raccoon-1.jpg"
    assert content["annotations"][0]["bbox"] == [19.9, 21.7, 108.6, 78.8]


def test_pascal_voc_with_its_own_split(tmp_path):
    source = voc_folder(tmp_path / "voc", 3)
    lists = source / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("0\n1\n")
    (lists / "val.txt").write_text("2\n")
    convert_annotations(source, tmp_path / "out")
    expected = sorted((label, *box) for label, box in BOXES)
    assert boxes_in(tmp_path / "out/annotations/train.json") == {"0.png": expected, "1.png": expected}
    assert boxes_in(tmp_path / "out/annotations/val.json") == {"2.png": expected}


@pytest.mark.parametrize(
    "table",
    [
        "filename,width,height,class,xmin,ymin,xmax,ymax\n0.png,64,48,cat,10,5,40,25\n0.png,64,48,dog,0,0,40,30\n",
        "pictures/0.png,10,5,40,25,cat\npictures/0.png,0,0,40,30,dog\n",
        "ImageID;LabelName;XMin;XMax;YMin;YMax\n0;cat;0.15625;0.625;0.1041666667;0.5208333333\n0;dog;0;0.625;0;0.625\n",
    ],
    ids=["tensorflow", "retinanet", "open-images"],
)
def test_tables(table, tmp_path):
    image(tmp_path / "source" / "pictures" / "0.png")
    (tmp_path / "source" / "boxes.csv").write_text(table)
    convert_annotations(tmp_path / "source", tmp_path / "out")
    expected = sorted((label, *box) for label, box in BOXES)
    assert boxes_in(tmp_path / "out/annotations/all.json") == {"0.png": expected}


def test_label_studio_takes_the_last_answer_and_finds_uploaded_files(tmp_path):
    image(tmp_path / "source" / "a b.png")
    region = {"original_width": 64, "original_height": 48, "type": "rectanglelabels"}
    value = {"x": 15.625, "y": 12.5, "width": 50.0, "height": 25.0, "rotation": 0, "rectanglelabels": ["cat"]}
    empty = {"result": [], "was_cancelled": True}
    answer = {"result": [{**region, "value": value}, {**region, "value": {**value, "rotation": 30}}]}
    task = {"data": {"image": "/data/upload/1/0a1b2c3d-a%20b.png"}, "annotations": [answer, empty]}
    unseen = {"data": {"image": "/data/upload/1/0a1b2c3d-c.png"}, "annotations": [], "predictions": [answer]}
    (tmp_path / "source" / "p.json").write_text(json.dumps([task, unseen]))
    result = convert_annotations(tmp_path / "source", tmp_path / "out")
    assert boxes_in(tmp_path / "out/annotations/all.json") == {"a b.png": [("cat", 10.0, 6.0, 32.0, 12.0)]}
    assert result.losses.counts == {
        "tasks of Label Studio whose predictions nobody has accepted left out": 1,
        "rotated boxes left out": 1,
    }


def test_damaged_files_objects_and_images_are_counted_and_the_rest_is_converted(tmp_path):
    source = voc_folder(tmp_path / "voc", 5)
    annotations = source / "Annotations"
    (annotations / "1.xml").write_text("<annotation><object>")
    (source / "JPEGImages" / "2.png").write_bytes(b"no image")
    (source / "JPEGImages" / "3.png").unlink()
    wrong = (
        OBJECT.format("cat", 30, 5, 10, 9) + OBJECT.format("cat", "nan", 5, 10, 9) + "<object><name>x</name></object>"
    )
    (annotations / "4.xml").write_text(VOC.format(name="4.png", objects=wrong + OBJECT.format("cow", 1, 2, 3, 4)))
    result = convert_annotations(source, tmp_path / "out")
    assert set(boxes_in(tmp_path / "out/annotations/all.json")) == {"0.png", "4.png"}
    assert boxes_in(tmp_path / "out/annotations/all.json")["4.png"] == [("cow", 1.0, 2.0, 2.0, 2.0)]
    assert sorted(result.losses.counts.values()) == [1, 1, 1, 1, 2]
    listed = (tmp_path / "out" / "left_out.txt").read_text()
    assert all(name in listed for name in ("1.xml", "2.png", "3.png", "4.xml"))


RIGHT = {"shape_type": "rectangle", "points": [[1, 2], [3, 4]], "label": "cat"}
REGION = {"original_width": 64, "x": 12.5, "y": 25, "width": 50, "height": 50, "rectanglelabels": ["cat"]}
CVAT = '<annotations><meta><task><labels><label><name/></label></labels></task></meta><image name="0.png">{}</image>'


@pytest.mark.parametrize(
    ("name", "content", "counts"),
    [
        (
            "a.json",
            {
                "shapes": [
                    1,
                    None,
                    {},
                    {**RIGHT, "points": "ab"},
                    {**RIGHT, "label": None},
                    {**RIGHT, "points": []},
                    RIGHT,
                ]
            },
            [1, 1, 4],
        ),
        ("a.json", {"shapes": [{**RIGHT, "shape_type": "circle"}, {**RIGHT, "label": "c" * 1001}, RIGHT]}, [1, 1]),
        ("p.json", [REGION, 3, {**REGION, "width": "a"}, {**REGION, "rectanglelabels": []}, {"value": 5}], [1, 3]),
        (
            "a.xml",
            CVAT.format(
                '<box label="c" xtl="x" ytl="1" xbr="2" ybr="3"/><box/><polygon label="p" points=";;"/>'
                '<points label="q"/>'
                '<box label="cat" rotation="9" xtl="1" ytl="1" xbr="2" ybr="3"/>'
                '<box label="cat" xtl="1" ytl="1" xbr="2" ybr="3"/>'
            )
            + "</annotations>",
            [1, 1, 3],
        ),
        ("0.txt", "0 0.5 0.5 0.1 0.1\n1e400 1 1 1 1\n-1 0 0 1 1\n5 .5 .5 .1 .1\nx\n0\n0 inf 0 0 0", [1, 2, 3]),
    ],
    ids=["labelme", "labelme-kinds", "labelstudio", "cvat", "yolo"],
)
def test_each_damaged_object_is_counted_and_the_one_beside_it_read(name, content, counts, tmp_path):
    source = image(tmp_path / "source" / "0.png").parent
    if name == "a.json":
        content["imagePath"] = "0.png"
    if name == "p.json":
        content = [{"id": 1, "image": "/data/upload/0.png", "label": content}]
    (source / "classes.txt").write_text("cat\n")
    (source / name).write_text(content if isinstance(content, str) else json.dumps(content))
    result = convert_annotations(source, tmp_path / "out")
    assert [row[0] for row in boxes_in(tmp_path / "out/annotations/all.json")["0.png"]] == ["cat"]
    assert sorted(result.losses.counts.values()) == counts


def test_linked_images_do_not_change_when_they_are_replaced(tmp_path):
    source = voc_folder(tmp_path / "voc")
    before = (source / "JPEGImages" / "0.png").read_bytes()
    convert_annotations(source, tmp_path / "out", images="link")
    convert_annotations(source, tmp_path / "out", overwrite=True)
    assert (source / "JPEGImages" / "0.png").read_bytes() == before
    assert not (tmp_path / "out" / "images" / "0.png").samefile(source / "JPEGImages" / "0.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_pipes_are_not_waited_for(tmp_path):
    source = voc_folder(tmp_path / "voc")
    for name in ("Annotations/p.xml", "Annotations/p.json", "JPEGImages/p.png", "data.yaml"):
        os.mkfifo(source / name)
    (source / "Annotations" / "q.xml").write_text(VOC.format(name="p.png", objects=""))
    result = convert_annotations(source, tmp_path / "out")
    assert set(boxes_in(tmp_path / "out/annotations/all.json")) == {"0.png"}
    assert sorted(result.losses.counts.values()) == [1, 1]


def test_names_that_leave_the_folder_lead_nowhere(tmp_path):
    image(tmp_path / "secret.png")
    source = voc_folder(tmp_path / "voc", 1)
    for number, name in enumerate(("../../secret.png", str(tmp_path / "secret.png"), "a\\..\\..\\secret.png")):
        (source / "Annotations" / f"x{number}.xml").write_text(VOC.format(name=name, objects=""))
    result = convert_annotations(source, tmp_path / "out")
    assert set(boxes_in(tmp_path / "out/annotations/all.json")) == {"0.png"}
    assert result.losses.counts == {"annotated images whose file was not found left out": 3}
    assert [path.name for path in (tmp_path / "out" / "images").iterdir()] == ["0.png"]


def test_entities_of_xml_are_not_expanded(tmp_path):
    source = voc_folder(tmp_path / "voc", 1)
    secret = tmp_path / "secret.txt"
    secret.write_text("cat")
    start = f'<!DOCTYPE annotation [<!ENTITY a "aaaa"><!ENTITY b SYSTEM "file://{secret}">]>'
    objects = OBJECT.format("&a;", 1, 2, 3, 4) + OBJECT.format("&b;", 1, 2, 3, 4)
    (source / "Annotations" / "1.xml").write_text(start + VOC.format(name="0.png", objects=objects))
    result = convert_annotations(source, tmp_path / "out")
    assert result.classes == ["cat", "dog"]
    assert "declares XML entities" in (tmp_path / "out" / "left_out.txt").read_text()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no annotations of coco, labelstudio"),
        ({"a.json": "{}"}, "no annotations of coco, labelstudio"),
        ({"a.json": '{"images": ['}, "a.json is not JSON"),
        ({"0.txt": "0 0.5 0.5 0.1 0.1"}, "put one class name on each line of classes.txt"),
        ({"0.txt": "0 0.5 0.5 0.1 0.1", "data.yaml": "a: &x [1]\nnames: *x"}, "it has aliases"),
        ({"0.txt": "0 0.5 0.5 0.1 0.1", "data.yaml": "names: {99999999999: a}"}, "expected whole numbers from 0"),
        ({"a.json": '{"shapes": [], "imagePath": "0.png"}'}, "no object with a class was found"),
    ],
)
def test_what_cannot_be_converted_is_one_line(files, message, tmp_path):
    source = image(tmp_path / "source" / "0.png").parent
    for name, text in files.items():
        (source / name).write_text(text)
    with pytest.raises(DataError, match=message):
        convert_annotations(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_into_the_source_or_over_other_files(tmp_path):
    source = voc_folder(tmp_path / "voc")
    with pytest.raises(DataError, match="name a folder outside of it"):
        convert_annotations(source, source / "coco")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("")
    with pytest.raises(DataError, match="add --overwrite"):
        convert_annotations(source, tmp_path / "out")
    convert_annotations(source, tmp_path / "out", overwrite=True)
    convert_annotations(voc_folder(source, 4), tmp_path / "out", overwrite=True, split="50/50")
    assert {path.name for path in (tmp_path / "out" / "annotations").iterdir()} == {"train.json", "val.json"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_full_disk_leaves_no_half_of_a_data_set(tmp_path, overwrite):
    """No file may become larger than 16 KiB: writing more fails, as on a full disk."""
    resource = pytest.importorskip("resource", reason="limits of file sizes are there on Unix alone")
    source, target = voc_folder(tmp_path / "voc", 2), tmp_path / "out"
    if overwrite:
        convert_annotations(source, target)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    noise = np.random.default_rng(1).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    large = source / "JPEGImages" / "1.png"
    cv2.imwrite(str(large), noise)
    before[large] = large.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            convert_annotations(source, target, overwrite=overwrite, split="50/50")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.value.filename == str(target / "images" / "1.png")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert target.exists() == overwrite


def test_images_can_stay_or_be_linked(tmp_path):
    source = voc_folder(tmp_path / "voc")
    result = convert_annotations(source, tmp_path / "keep", images="keep")
    assert result.image_dir == str(source / "JPEGImages") and not (tmp_path / "keep" / "images").exists()
    convert_annotations(source, tmp_path / "link", images="link")
    assert (tmp_path / "link" / "images" / "0.png").samefile(source / "JPEGImages" / "0.png")


def test_of_files_with_one_name_the_one_in_the_named_folder_is_taken(tmp_path):
    source = tmp_path / "source"
    for folder, size in (("a", (48, 64)), ("b", (24, 32)), ("c", (12, 16))):
        image(source / "frames" / folder / "0.png", size=size)
    rows = "".join(f"{name},cat,1,2,3,4\n" for name in ("frames/a/0.png", "C:\\data\\b\\0.png", "0.png"))
    (source / "t.csv").write_text(f"filename,class,xmin,ymin,xmax,ymax\n{rows}")
    result = convert_annotations(source, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "annotations" / "all.json").read_text())
    assert [(row["file_name"], row["width"]) for row in content["images"]] == [("a/0.png", 64), ("b/0.png", 32)]
    assert result.losses.counts == {"annotated images whose name several files have left out": 1}


def test_a_file_of_classes_orders_and_selects_them(tmp_path):
    (tmp_path / "names.txt").write_text("dog\ncow\n")
    result = convert_annotations(voc_folder(tmp_path / "voc"), tmp_path / "out", labels=str(tmp_path / "names.txt"))
    assert result.classes == ["dog", "cow"]
    assert boxes_in(tmp_path / "out/annotations/all.json") == {"0.png": [("dog", 0.0, 0.0, 40.0, 30.0)]}
    assert sum(result.losses.counts.values()) == 1


def test_images_that_look_alike_come_into_one_part(tmp_path):
    source = voc_folder(tmp_path / "voc", 6)
    for number in range(6):  # a copy of each that was compressed
        picture = cv2.imread(str(source / "JPEGImages" / f"{number}.png"))
        cv2.imwrite(str(source / "JPEGImages" / f"copy{number}.jpg"), picture)
        text = VOC.format(name=f"copy{number}.jpg", objects=OBJECT.format("cat", 1, 2, 3, 4))
        (source / "Annotations" / f"copy{number}.xml").write_text(text)
    result = convert_annotations(source, tmp_path / "out", split="0.5/0.5")
    assert result.similar == 12
    for part in ("train", "val"):
        names = {Path(name).stem for name in boxes_in(tmp_path / "out/annotations" / f"{part}.json")}
        assert {name.removeprefix("copy") for name in names} == {name for name in names if "copy" not in name}
        assert len(names) == 6
