"""Each kind of fault of a data set is found, with an image that shows it, and sound data is not."""

import json
import shutil

import cv2
import numpy as np
import pytest

from ppdet.data.checking.data_check import check_files, check_images, read_splits
from ppdet.data.checking.level_fit import fit_levels
from ppdet.data.transforms.batches.targets import Gt2FCOSTarget
from ppdet.utils.errors import DataError

BOX, OTHER = [4, 5, 20, 30], [30, 8, 25, 36]


class Data:
    """A data set of two splits, whose images are noise, and so unlike each other."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "images").mkdir()
        (folder / "annotations").mkdir()
        self.splits = {"train": ([], []), "val": ([], [])}
        for split, count in (("train", 24), ("val", 10)):
            for number in range(count):
                self.add(split, f"{split}{number}.png", [BOX, OTHER])

    def add(self, split, name, boxes, size=(64, 48)):
        images = self.splits[split][0]
        identity = len(images) + 1
        rng = np.random.default_rng([identity, split == "val"])
        cv2.imwrite(str(self.folder / "images" / name), rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
        images.append({"id": identity, "file_name": name, "width": size[0], "height": size[1]})
        for place, box in enumerate(boxes):
            self.box(split, identity, box, place % 2 + 1)
        return identity

    def box(self, split, image, box, category=1):
        rows = self.splits[split][1]
        rows.append({"id": len(rows) + 1, "image_id": image, "category_id": category, "bbox": box})

    def path(self, name):
        return self.folder / "images" / name

    def write(self):
        categories = [{"id": 1, "name": "disc"}, {"id": 2, "name": "square"}]
        for split, (images, annotations) in self.splits.items():
            content = {"images": images, "annotations": annotations, "categories": categories}
            (self.folder / "annotations" / f"{split}.json").write_text(json.dumps(content))
        return str(self.folder)

    def check(self, short=48, long=64):
        splits = read_splits([self.write()])
        checked = check_images(splits, Gt2FCOSTarget(), short, long)
        return splits, checked, [*check_files(splits), *checked.found]

    def found(self):
        _, _, found = self.check()
        return {one.kind: one for one in found if one.kind != "levels"}


@pytest.fixture
def data(tmp_path):
    return Data(tmp_path)


def test_sound_data_has_no_finding(data):
    assert data.found() == {}


def test_missing_and_broken_images(data):
    data.path("train3.png").unlink()
    whole = data.path("val2.png").read_bytes()
    data.path("val2.png").write_bytes(whole[: len(whole) // 2])
    data.path("val4.png").write_bytes(b"")
    found = data.found()
    assert set(found) == {"missing images", "broken images"}
    assert found["missing images"].text.startswith(f"train: 1 of 24 images missing, e.g. {data.path('train3.png')}")
    assert found["broken images"].text.startswith(f"val: 2 of 10 images unreadable, e.g. {data.path('val2.png')}")
    assert {one.severity for one in found.values()} == {"error"}


def test_wrong_sizes(data):
    data.add("train", "sized.png", [BOX], size=(128, 96))
    [wrong] = data.found().values()
    assert (wrong.kind, wrong.severity) == ("wrong sizes", "error")
    assert "1 of 25 images with another size" in wrong.text and "64 x 48 pixels, listed as 128 x 96" in wrong.text
    assert [example.path for example in wrong.examples] == [str(data.path("sized.png"))]


def test_copies_within_a_split_and_near_duplicates_across(data):
    data.add("train", "copy.png", [BOX, OTHER])
    shutil.copy(data.path("train7.png"), data.path("copy.png"))
    data.add("val", "leak.jpg", [BOX, OTHER])
    cv2.imwrite(str(data.path("leak.jpg")), cv2.imread(str(data.path("train1.png"))), [cv2.IMWRITE_JPEG_QUALITY, 85])
    found = data.found()
    assert set(found) == {"copies", "images in two splits"}
    assert found["copies"].severity == "warning" and "e.g. train7.png and copy.png" in found["copies"].text
    leak = found["images in two splits"]
    assert leak.severity == "error" and leak.text.startswith(
        "images of train that are in val too, or look like one there: 1 of 25, e.g. train1.png and leak.jpg: AP on"
    )
    assert leak.text.endswith("--fix leaves them out of training")
    assert [(example.split, example.path[-10:]) for example in leak.examples] == [
        ("train", "train1.png"),
        ("val", "s/leak.jpg"),
    ]


def test_one_file_in_two_splits(data):
    data.splits["val"][0].append({"id": 99, "file_name": "train5.png", "width": 64, "height": 48})
    data.box("val", 99, BOX)
    assert "e.g. train5.png and train5.png" in data.found()["images in two splits"].text


def test_boxes(data):
    for box in ([10, 10, 0, 0], [100, 5, 20, 20]):
        data.box("train", 2, box)
    data.box("train", 3, [4.5, 5, 20, 30])  # IoU 19.5 / 20.5 with BOX, 0.95
    data.box("train", 4, [9, 5, 20, 30])  # IoU 0.6 exactly
    data.add("val", "empty.png", [])
    found = data.found()
    assert set(found) == {*("boxes without area", "doubled boxes", "crowding", "empty images", "hidden boxes")}
    assert found["boxes without area"].text.startswith(
        "train: 2 of 52 boxes cannot be used (1 without area, 1 outside of their image), e.g. [10, 10, 0, 0]"
    )
    assert len(found["boxes without area"].examples) == 2
    assert found["doubled boxes"].text.startswith("train: 1 box drawn twice")
    assert found["crowding"].text.startswith("train: 1 pair of boxes of one class")
    assert found["empty images"].text.startswith("val: 1 of 11 images without a box")


def test_images_with_crowds_alone_are_not_called_empty(data):
    identity = data.add("train", "crowd.png", [BOX])
    data.splits["train"][1][-1]["iscrowd"] = 1
    data.add("train", "empty.png", [])
    _, _, found = data.check()
    assert identity == 25 and [one.text for one in found if one.kind == "empty images"] == [
        "train: 1 of 26 images without a box: left out unless allow_empty is true",
        "train: 1 of 26 images with boxes marked iscrowd or ignore alone: training leaves them out unless allow_empty "
        "is true",
    ]


def test_classes_missing_in_val_rare_and_of_other_names(data):
    data.splits["val"][1][:] = [row for row in data.splits["val"][1] if row["category_id"] == 1]
    rows = data.splits["train"][1]
    rows[:] = [row for row in rows if row["category_id"] == 1 or row["image_id"] == 1]
    found = data.found()
    assert found["annotations"].text == "val: 1 of 2 classes have no box: 'square': AP leaves them out"
    _, _, listed = data.check()
    assert [one.text for one in listed if one.kind == "class balance"] == [
        "train: 1 class with fewer than 20 boxes ('square'): label more of them",
        "train: the most frequent class has 24 times as many boxes as 'square': look at AP class by class",
    ]
    path = data.folder / "annotations" / "val.json"
    path.write_text(path.read_text().replace("square", "Square"))
    [other] = [one for one in check_files(read_splits([str(data.folder)])) if one.kind == "classes"]
    assert other.severity == "error" and "different classes ('Square', 'square')" in other.text


def test_images_that_no_file_lists(data):
    data.write()
    cv2.imwrite(str(data.path("more.png")), np.zeros((9, 9, 3), np.uint8))
    assert "1 image that no file lists, e.g." in data.found()["images not listed"].text


def test_levels_and_boxes_without_a_location():
    """By hand, at twice the image's size, for locations at 4, 12, … and 8, 24, … with the bound 64 and radius 1.5."""
    target = Gt2FCOSTarget(object_sizes_boundary=[64], downsample_ratios=[8, 16])
    boxes = np.array([[1.0, 1, 1.5, 1.5], [10, 10, 30, 30], [9.5, 9.5, 30.5, 30.5], [0, 0, 60, 60]], np.float32)
    classes = np.array([[0], [1], [0], [1]])
    fit = fit_levels([(boxes, classes, (64, 64))], target, 128, 128)
    np.testing.assert_allclose(fit.sides, [1, 40, 42, 120])
    assert fit.classes.tolist() == [0, 1, 0, 1]
    assert fit.is_missed.tolist() == [True, False, False, False]  # no location lies between 2 and 3 pixels
    # Both boxes in the middle have the locations 36 and 44 in x and in y, and the smaller one takes all four.
    assert fit.is_hidden.tolist() == [False, False, True, False]
    # The largest box: of 52, 60 and 68, only 60 has no distance above 64; of 40, 56 and 72, only (56, 56) has none.
    assert fit.positives.tolist() == [4 + 1, 9 - 1]
    assert fit.located.tolist() == [2, 1]
    assert fit.starving() == []


def test_folders_are_searched_and_errors_say_what_to_do(data, tmp_path):
    data.write()
    assert [split.name for split in read_splits([str(tmp_path)])] == ["train", "val"]
    roboflow = tmp_path / "roboflow" / "valid"
    roboflow.mkdir(parents=True)
    shutil.copy(tmp_path / "annotations" / "val.json", roboflow / "_annotations.coco.json")
    with pytest.raises(DataError, match="images were not found in or beside its folder: name theirs with --image_dir"):
        read_splits([str(tmp_path / "roboflow")])
    for number in range(10):
        shutil.copy(data.path(f"val{number}.png"), roboflow)
    [split] = read_splits([str(tmp_path / "roboflow")])
    assert (split.name, split.is_evaluated, split.image_dir) == ("valid", True, str(roboflow))
    with pytest.raises(DataError, match=r"no COCO file in it .* `ppdet data convert` makes them"):
        read_splits([str(tmp_path / "images")])


def test_real_slides(shared):
    """BCCD as it came: two boxes without area, and slides 37 (val) and 38 (train) of one view; see the reference."""
    splits = read_splits([str(shared / "data" / "bccd" / "annotations" / f"{name}.json") for name in ("train", "val")])
    for split in splits:  # of 292 images, the few that matter
        keep = ("00037", "00038", "00338", "00343", "00001")
        split.dataset.records = [r for r in split.dataset.records if r["im_file"][-9:-4] in keep]
    found = check_images(splits, Gt2FCOSTarget(), 480, 640).found
    assert {(one.kind, one.text[:6]) for one in found if one.kind == "boxes without area"} == {
        ("boxes without area", "train:"),
        ("boxes without area", "val: 1"),
    }
    [leak] = [one for one in found if one.kind == "images in two splits"]
    assert "BloodImage_00038.jpg and BloodImage_00037.jpg" in leak.text
