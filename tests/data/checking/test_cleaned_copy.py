"""The cleaned copy has what can be used, and the original keeps its bytes."""

import json
import os
import shutil

import cv2
import numpy as np
import pytest

from ppdet.data.checking.cleaned_copy import write_cleaned_copy
from ppdet.data.checking.data_check import check_images, read_splits
from ppdet.data.transforms.batches.targets import Gt2FCOSTarget
from ppdet.utils.errors import DataError

CATEGORIES = [{"id": 4, "name": "disc", "supercategory": "thing"}]


def write_split(folder, name, images, boxes, image_dir="images"):
    """A split of noise images; `images` are (file name, width, height), `boxes` (image id, box)."""
    (folder / image_dir).mkdir(exist_ok=True)
    (folder / "annotations").mkdir(exist_ok=True)
    rows = []
    for number, (file_name, width, height) in enumerate(images, start=1):
        rows.append({"id": number, "file_name": file_name, "width": width, "height": height, "license": 3})
        path = folder / image_dir / file_name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            seed = [number, *name.encode()]
            cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    annotations = [
        {"id": 10 * number, "image_id": image, "category_id": 4, "bbox": box, "area": box[2] * box[3], "score": 1}
        for number, (image, box) in enumerate(boxes, start=1)
    ]
    content = {"info": {"year": 2026}, "images": rows, "annotations": annotations, "categories": CATEGORIES}
    (folder / "annotations" / f"{name}.json").write_text(json.dumps(content))


def bytes_of(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def clean(source, target):
    splits = read_splits([str(source)])
    facts = check_images(splits, Gt2FCOSTarget(), 48, 64).facts
    return write_cleaned_copy(splits, facts, str(target))


def read(folder, name):
    return json.loads((folder / "annotations" / f"{name}.json").read_text())


def test_everything_that_is_wrong_is_left_out_or_corrected(tmp_path):
    source, target = tmp_path / "data", tmp_path / "clean"
    source.mkdir()
    listed = [("a.png", 64, 48), ("sub/b.png", 640, 48), ("copy.png", 64, 48), ("gone.png", 64, 48), ("c.png", 64, 48)]
    box = [4.25, 5, 20, 30]
    write_split(
        source,
        "train",
        [*listed, ("a.png", 64, 48)],
        [
            (1, box),
            (1, [4, 5, 20, 30]),  # the same object
            (1, [10, 10, 0, 5]),
            (2, [50, 40, 20.5, 20]),  # leaves its image
            (3, box),
            (4, box),
            (5, box),
            (6, [40, 5, 10, 10]),  # of a.png, which is listed twice
            (77, box),
        ],
    )
    write_split(source, "val", [("v.jpg", 64, 48)], [(1, box)])
    images = source / "images"
    shutil.copy(images / "sub" / "b.png", images / "copy.png")
    (images / "gone.png").unlink()
    leaked = cv2.imread(str(images / "c.png"))
    cv2.imwrite(str(images / "v.jpg"), leaked, [cv2.IMWRITE_JPEG_QUALITY, 85])
    before = bytes_of(source)

    changes = clean(source, target)

    assert bytes_of(source) == before
    train = read(target, "train")
    assert train["info"] == {"year": 2026} and train["categories"] == CATEGORIES
    assert train["images"] == [
        {"id": 1, "file_name": "a.png", "width": 64, "height": 48, "license": 3},
        {"id": 2, "file_name": "sub/b.png", "width": 64, "height": 48, "license": 3},
    ]
    assert [(row["id"], row["image_id"], row["bbox"], row["area"]) for row in train["annotations"]] == [
        (10, 1, box, 600.0),
        (40, 2, [50, 40, 14, 8], 112),
        (80, 1, [40, 5, 10, 10], 100),
    ]
    assert all(row["score"] == 1 for row in train["annotations"])
    assert changes["train"] == {
        "copies left out": 1,
        "unreadable images left out": 1,
        "images left out that a split for evaluation has": 1,
        "images listed twice joined": 1,
        "sizes corrected": 1,
        "second boxes of an object left out": 1,
        "boxes without area left out": 1,
        "boxes clipped": 1,
        "boxes of images left out": 3,
        "boxes of images that are not listed left out": 1,
    }
    assert changes["val"] == {} and read(target, "val") == read(source, "val")
    copied = {str(path.relative_to(target / "images")) for path in (target / "images").rglob("*.*")}
    assert copied == {"a.png", "sub/b.png", "v.jpg"}
    assert (target / "images" / "v.jpg").read_bytes() == (images / "v.jpg").read_bytes()
    assert clean(target, tmp_path / "again") == {"train": {}, "val": {}}


def test_a_name_that_leads_out_of_the_folder_stays_inside(tmp_path):
    source, target = tmp_path / "data", tmp_path / "new" / "clean"
    source.mkdir()
    write_split(source, "train", [("a.png", 64, 48), ("../a.png", 64, 48)], [(1, [4, 5, 20, 30]), (2, [4, 5, 20, 30])])
    clean(source, target)
    assert [row["file_name"] for row in read(target, "train")["images"]] == ["a.png", "a_2.png"]
    assert sorted(path.name for path in (tmp_path / "new").rglob("*.png")) == ["a.png", "a_2.png"]


def test_splits_with_folders_of_their_own_keep_equal_names_apart(tmp_path):
    for name in ("train", "valid"):
        (tmp_path / name).mkdir()
        write_split(tmp_path, name, [("1.png", 64, 48)], [(1, [4, 5, 20, 30])], image_dir=name)
        (tmp_path / "annotations" / f"{name}.json").rename(tmp_path / name / "_annotations.coco.json")
    (tmp_path / "annotations").rmdir()
    target = tmp_path / "clean"
    clean(tmp_path, target)
    for name in ("train", "valid"):
        assert (target / "images" / name / "1.png").read_bytes() == (tmp_path / name / "1.png").read_bytes()
    assert [split.image_dir for split in read_splits([str(target)])] == [
        str(target / "images" / name) for name in ("train", "valid")
    ]


def test_changes_of_the_copy_do_not_reach_the_original_nor_what_it_is_linked_to(tmp_path):
    """The originals are a hard link and a link to files elsewhere, as `ppdet data convert --images link` makes them."""
    source, target = tmp_path / "data", tmp_path / "clean"
    source.mkdir()
    write_split(source, "train", [("a.png", 64, 48), ("b.png", 64, 48)], [(1, [4, 5, 20, 30]), (2, [4, 5, 20, 30])])
    for name, link in (("a.png", os.link), ("b.png", os.symlink)):
        (source / "images" / name).rename(tmp_path / name)
        link(tmp_path / name, source / "images" / name)
    before = bytes_of(source)
    clean(source, target)
    for name in ("a.png", "b.png"):
        copied = target / "images" / name
        assert not copied.is_symlink() and copied.stat().st_nlink == 1
        assert copied.read_bytes() == before[source / "images" / name]
        with open(copied, "r+b") as stream:
            stream.write(b"changed")
    (target / "annotations" / "train.json").write_text("{}")
    assert bytes_of(source) == before


def test_a_full_disk_leaves_no_half_of_a_copy(tmp_path):
    """No file may become larger than 16 KiB: writing more fails, as on a full disk."""
    resource = pytest.importorskip("resource", reason="limits of file sizes are there on Unix alone")
    source, target = tmp_path / "data", tmp_path / "new" / "clean"
    source.mkdir()
    write_split(source, "train", [("a.png", 64, 48), ("b.png", 64, 48)], [(1, [4, 5, 20, 30])])
    noise = np.random.default_rng(1).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    cv2.imwrite(str(source / "images" / "b.png"), noise)
    before = bytes_of(source)
    assert len(before[source / "images" / "b.png"]) > 2**14
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            clean(source, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.value.filename == str(target / "images" / "b.png")
    assert list(target.parent.iterdir()) == [] and bytes_of(source) == before
    target.mkdir()
    clean(source, target)
    assert (target / "images" / "b.png").read_bytes() == before[source / "images" / "b.png"]


def test_the_folder_must_be_new(tmp_path):
    source = tmp_path / "data"
    source.mkdir()
    write_split(source, "train", [("a.png", 64, 48)], [(1, [4, 5, 20, 30])])
    with pytest.raises(DataError, match="it exists and is not empty; name a new folder"):
        clean(source, source)
    with pytest.raises(DataError, match=r"it is within the data set, .*images; name a folder outside of it"):
        clean(source, source / "images" / "clean")


def test_pictures_of_a_fixed_camera_stay_in_training(tmp_path):
    """All images look alike; two of the three for training are no copies of the one for validation."""
    source, target = tmp_path / "data", tmp_path / "clean"
    source.mkdir()
    names = ["v.png", "a.png", "b.png", "copy.png"]
    write_split(source, "val", [("v.png", 64, 48)], [(1, [4, 5, 20, 30])])
    scene = cv2.imread(str(source / "images" / "v.png"))
    for name, change in (("a.png", 1), ("b.png", 2)):
        cv2.imwrite(str(source / "images" / name), np.minimum(scene, 255 - change))
    shutil.copy(source / "images" / "v.png", source / "images" / "copy.png")
    listed = [(name, 64, 48) for name in names[1:]]
    write_split(source, "train", listed, [(number, [4, 5, 20, 30]) for number in (1, 2, 3)])
    splits = read_splits([str(source)])
    checked = check_images(splits, Gt2FCOSTarget(), 48, 64)
    [leak] = [one for one in checked.found if one.kind == "images in two splits"]
    assert leak.text.startswith("images of train that are in val too, or look like one there: 3 of 3, e.g. ")
    assert "--fix leaves only copies out, since so many look alike" in leak.text
    changes = write_cleaned_copy(splits, checked.facts, str(target))
    assert [row["file_name"] for row in read(target, "train")["images"]] == ["a.png", "b.png"]
    assert changes["train"] == {
        "images left out that a split for evaluation has": 1,
        "images kept that look like one for evaluation, more than 10 % of all": 2,
        "boxes of images left out": 1,
    }
    assert len(read(target, "val")["images"]) == 1
