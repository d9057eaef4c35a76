"""Splits of COCO files for semi-supervised training; test_gen_semi_coco.py has folders and the command line."""

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ppdet.data.sources import COCODataSet
from ppdet.data.splitting.split import shuffled, split_annotations, stratify
from ppdet.utils.errors import DataError


def make_content(images=100, seed=0):
    """Ids in no order, gaps in them, fields of their own; class 9 in one image alone, every fifth image empty."""
    rng = np.random.default_rng(seed)
    keys = ("id", "file_name", "width", "height", "flickr_url")
    ids = (rng.permutation(images) * 7 + 3).tolist()
    content = {
        "info": {"description": "für alle"},
        "images": [dict(zip(keys, (i, f"{i:05d}.jpg", 64, 48, f"http://x/{i}"))) for i in ids],
        "licenses": [{"id": 1, "name": "by"}],
        "annotations": [],
        "categories": [{"id": 2, "name": "common"}, {"id": 5, "name": "seldom"}, {"id": 9, "name": "rare"}],
        "type": "instances",
    }
    categories = [5 if k % 10 == 1 else 2 for k in range(images) if k % 5] * 2
    for number, image in enumerate([i for k, i in enumerate(ids) if k % 5] * 2):
        add_box(content, image, categories[number], segmentation=[[0.1, 0.2, 1e-7]])
    add_box(content, ids[3 % images], 9)
    return content


def add_box(content, image, category, box=(1, 2.5, 10, 20), **fields):
    number = len(content["annotations"]) + 1
    row = {"id": number, "image_id": image, "category_id": category, "bbox": list(box), "iscrowd": 0, **fields}
    content["annotations"].append(row)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture
def anno_path(tmp_path):
    return write(tmp_path / "data" / "annotations" / "train.json", make_content())


def ids(path):
    return [row["id"] for row in json.loads(Path(path).read_text())["images"]]


def labeled_ids(path, **options):
    return [set(ids(split.labeled.path)) for split in split_annotations(path, **options)]


def test_every_image_is_in_one_file_with_its_annotations_order_and_fields(anno_path):
    content = json.loads(anno_path.read_text())
    (split,) = split_annotations(anno_path, percents=[30])
    folder = anno_path.parents[1] / "semi_annotations"
    assert split.labeled.path == str(folder / "train.1@30.json")
    assert split.unlabeled.path == str(folder / "train.1@30-unlabeled.json")
    assert sorted(os.listdir(folder)) == ["train.1@30-unlabeled.json", "train.1@30.json"]
    chosen = set(ids(split.labeled.path))
    assert len(chosen) == 30
    for part, is_in in ((split.labeled, chosen.__contains__), (split.unlabeled, lambda i: i not in chosen)):
        expected = {
            **content,
            "images": [row for row in content["images"] if is_in(row["id"])],
            "annotations": [row for row in content["annotations"] if is_in(row["image_id"])],
        }
        written = json.loads(Path(part.path).read_text())
        assert written == expected and list(written) == list(content)
        classes = {row["category_id"] for row in expected["annotations"]}
        assert (part.images, part.boxes, part.classes) == (
            len(expected["images"]),
            len(expected["annotations"]),
            len(classes),
        )
    assert split.categories == 3
    assert json.dumps(written) == Path(split.unlabeled.path).read_text()


def test_the_order_drawn_is_that_of_a_seed_everywhere():
    assert shuffled(10, 1).tolist() == [9, 2, 4, 7, 5, 0, 8, 6, 3, 1]
    firsts = Counter(int(shuffled(10, seed)[0]) for seed in range(1, 2001))
    assert set(firsts) == set(range(10)) and max(firsts.values()) < 260  # 200 expected, deviation 13
    assert sorted(shuffled(1000, 3)) == list(range(1000))


def test_two_runs_and_another_order_of_the_images_give_the_same(anno_path, tmp_path):
    options = {"percents": [5, 10], "seeds": [1, 2]}
    first = split_annotations(anno_path, **options)
    files = {part.path: Path(part.path).read_bytes() for s in first for part in (s.labeled, s.unlabeled)}
    again = split_annotations(anno_path, **options, output_dir=tmp_path / "again")
    other = [part.path for s in again for part in (s.labeled, s.unlabeled)]
    assert [Path(path).read_bytes() for path in other] == list(files.values())
    content = json.loads(anno_path.read_text())
    content["images"].reverse()
    write(anno_path, content)
    assert labeled_ids(anno_path, **options) == [set(ids(s.labeled.path)) for s in again]


def test_a_smaller_share_is_part_of_a_larger_one(anno_path):
    one, two, five, number = labeled_ids(anno_path, percents=[5, 10, 50], images=7)
    assert one < number < two < five
    assert [len(part) for part in (one, number, two, five)] == [5, 7, 10, 50]


def test_seeds_differ(anno_path):
    folds = labeled_ids(anno_path, percents=[20], seeds=[1, 2, 3, 2])
    assert len(folds) == 3
    assert len(set.union(*folds)) > 40  # 49 expected of independent draws, 20 of equal ones


@pytest.mark.parametrize(
    ("percent", "name", "count"),
    [("10", "10", 10), ("10.0", "10", 10), (5, "5", 5), (1.5, "1.5", 1), ("2.50", "2.5", 2), ("1e1", "10", 10)],
)
def test_names_and_rounding(anno_path, percent, name, count):
    (split,) = split_annotations(anno_path, percents=[percent], seeds=[3])
    assert Path(split.labeled.path).name == f"train.3@{name}.json"
    assert split.labeled.images == count


@pytest.mark.parametrize("percent", [0.7, 2.8, 32.3, 64.6])
def test_shares_are_exact(tmp_path, percent):
    assert min(int(1000 * percent / 100), int(1000 * (percent / 100))) < round(10 * percent)  # floats fall short
    (split,) = split_annotations(write(tmp_path / "a" / "x.json", make_content(1000)), percents=[percent])
    assert split.labeled.images == round(10 * percent)


def test_drop_annotations(anno_path):
    (split,) = split_annotations(anno_path, images=20, drop_annotations=True)
    assert Path(split.labeled.path).name == "train.1@20images.json"
    assert Path(split.unlabeled.path).name == "train.1@20images-unlabeled.json"
    unlabeled = json.loads(Path(split.unlabeled.path).read_text())
    assert unlabeled["annotations"] == [] and len(unlabeled["images"]) == 80
    assert (split.unlabeled.boxes, split.unlabeled.classes) == (0, 0) and split.labeled.boxes > 0
    assert unlabeled["categories"] == json.loads(anno_path.read_text())["categories"]


def test_boxes_without_use_are_not_counted_and_strays_are_left_out(anno_path, log):
    content = make_content()
    content["annotations"] = []
    image = content["images"][0]["id"]
    add_box(content, image, 2)
    add_box(content, image, 5, iscrowd=1)
    add_box(content, image, 9, box=(5, 5, 0, 4))
    add_box(content, image, 9, box=(5, 5, None, 4))
    add_box(content, 123456, 9)
    write(anno_path, content)
    (split,) = split_annotations(anno_path, percents=[50])
    assert (split.labeled.boxes + split.unlabeled.boxes, split.labeled.classes + split.unlabeled.classes) == (1, 1)
    written = [json.loads(Path(p.path).read_text())["annotations"] for p in (split.labeled, split.unlabeled)]
    assert sorted(map(len, written)) == [0, 4]
    assert "1 annotations of images not in the file are left out" in log.text


def test_stratified_has_every_class(anno_path):
    content = json.loads(anno_path.read_text())
    rare = content["images"][3]["id"]
    seeds = range(1, 21)
    plain = labeled_ids(anno_path, percents=[5], seeds=seeds)
    assert sum(rare in part for part in plain) < 5  # of 20, 1 expected
    splits = split_annotations(anno_path, percents=[5], seeds=seeds, stratified=True)
    for split in splits:
        assert rare in ids(split.labeled.path)
        assert (split.labeled.images, split.unlabeled.images) == (5, 95)
        assert split.labeled.classes == 3
        assert not set(ids(split.labeled.path)) & set(ids(split.unlabeled.path))
    assert len({tuple(ids(split.labeled.path)) for split in splits}) > 15
    assert labeled_ids(anno_path, percents=[5], seeds=seeds, stratified=True) == [
        set(ids(split.labeled.path)) for split in splits
    ]


def shares(classes, images):
    counts = Counter(c for i in images for c in classes[i])
    return np.array([counts[c] for c in range(12)]) / len(images)


def test_stratified_shares_are_nearer_to_the_whole():
    rng = np.random.default_rng(5)
    likely = 0.6 / np.arange(1, 13)
    classes = [set(np.flatnonzero(rng.random(12) < likely).tolist()) for _ in range(1000)]
    whole = shares(classes, range(1000))
    errors = []
    for seed in range(1, 21):
        order = shuffled(1000, seed).tolist()
        chosen, needed = stratify(classes, order, 50)
        assert len(chosen) == 50 and needed <= 12 and (shares(classes, chosen) > 0).all()
        errors.append([np.abs(shares(classes, part) - whole).mean() for part in (chosen, order[:50])])
    stratified, plain = np.mean(errors, axis=0)
    assert stratified < 0.4 * plain


def test_stratified_says_how_many_images_are_needed(anno_path):
    content = make_content()
    content["annotations"] = []
    for row, category in zip(content["images"], (2, 5, 9)):
        add_box(content, row["id"], category)
    write(anno_path, content)
    with pytest.raises(DataError, match=r"2 labeled images cannot .* needs 3 images \(3 %\)"):
        split_annotations(anno_path, images=2, stratified=True)
    (split,) = split_annotations(anno_path, percents=[3], stratified=True)
    assert set(ids(split.labeled.path)) == {row["id"] for row in content["images"][:3]}


def test_covering_prefers_images_with_many_missing_classes():
    classes = [{0}, {0, 1}, {0, 1, 2}, {1}, set()]
    assert stratify(classes, [0, 1, 2, 3, 4], 1) == ({2}, 1)
    chosen, needed = stratify([{0}, {1}, {2}], [2, 0, 1], 1)
    assert needed == 3 and len(chosen) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"percents": [0]}, "percent 0 is not between 0 and 100"),
        ({"percents": ["100"]}, "percent 100 is not between 0 and 100"),
        ({"percents": [-3]}, "percent -3 is not between"),
        ({"percents": ["nan"]}, "percent nan is not between"),
        ({"percents": ["ten"]}, "percent 'ten' is not a number"),
        ({"percents": ["0.5"]}, r"0\.5 % of the 100 images in .*train\.json is no image: the minimum is 1 %"),
        ({"images": 100}, r"100 labeled images of the 100 in .*: expected 1 to 99"),
    ],
)
def test_wrong_shares(anno_path, options, message):
    with pytest.raises(DataError, match=message):
        split_annotations(anno_path, **options)
    assert not (anno_path.parents[1] / "semi_annotations").exists()


@pytest.mark.parametrize("images", [3, 7, 205, 30001])
def test_the_least_percentage_is_enough(tmp_path, images):
    content = {**make_content(1), "images": [{"id": i} for i in range(images)], "annotations": []}
    path = write(tmp_path / "a" / "x.json", content)
    with pytest.raises(DataError, match="the minimum is") as caught:
        split_annotations(path, percents=["0.00001"])
    least = str(caught.value).split()[-2]
    assert split_annotations(path, percents=[least])[0].labeled.images == 1


def changed(**changes):
    return {**make_content(4), **changes}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "is not JSON"),
        ("[1]", "is not COCO"),
        (changed(images=[], annotations=[]), "has no images"),
        (changed(images=None), "no list 'images'"),
        (changed(annotations={}), "'annotations' is not a list"),
        (changed(categories=[]), "no list 'categories'"),
        (changed(images=[{"id": 1}, {"id": 1}], annotations=[]), "two images have the same id"),
        (changed(images=[{"id": 1}, {"id": "2"}]), "id of image 1 is '2', expected an integer"),
        (changed(images=[3]), "image 0 has no 'id'"),
        (changed(annotations=[{"image_id": 3}]), "annotation 0 has no 'category_id'"),
        (changed(annotations=[{"image_id": 3, "category_id": 77}]), "category_id 77, which no category has"),
    ],
)
def test_wrong_files(tmp_path, content, message):
    path = write(tmp_path / "data" / "annotations" / "train.json", content)
    with pytest.raises(DataError, match=message) as caught:
        split_annotations(path, percents=[50])
    assert "train.json" in str(caught.value) and "\n" not in str(caught.value)
    assert os.listdir(tmp_path / "data") == ["annotations"]


def test_what_cannot_be_written(anno_path, tmp_path):
    with pytest.raises(DataError, match=r"nothing\.json does not exist"):
        split_annotations(tmp_path / "nothing.json", percents=[10])
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write to .*file/folder .*--output_dir"):
        split_annotations(anno_path, percents=[10], output_dir=tmp_path / "file" / "folder")
    before = anno_path.read_bytes()
    (anno_path.parent / "train.1@20-unlabeled.json").symlink_to(anno_path)
    with pytest.raises(DataError, match="is the annotation file itself"):
        split_annotations(anno_path, percents=[10, 20], output_dir=anno_path.parent)
    assert anno_path.read_bytes() == before and len(os.listdir(anno_path.parent)) == 2


def test_a_failure_leaves_what_was_there(anno_path, monkeypatch):
    (split,) = split_annotations(anno_path, percents=[10])
    before = {path: path.read_bytes() for path in Path(split.labeled.path).parent.iterdir()}
    monkeypatch.setattr(
        "ppdet.data.splitting.split_files.compress", lambda *_: (_ for _ in ()).throw(OSError(28, "full"))
    )
    with pytest.raises(OSError, match="full"):
        split_annotations(anno_path, percents=[10], stratified=True)
    assert {path: path.read_bytes() for path in Path(split.labeled.path).parent.iterdir()} == before


def test_bccd(shared, tmp_path):
    path = shared / "data" / "bccd" / "annotations" / "train.json"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    (split,) = split_annotations(path, percents=[10], output_dir=tmp_path)
    one, two = set(ids(split.labeled.path)), set(ids(split.unlabeled.path))
    assert (len(one), len(two)) == (20, 185) == (split.labeled.images, split.unlabeled.images)
    assert one | two == set(ids(path)) and len(one | two) == 205
    assert split.labeled.boxes + split.unlabeled.boxes == 2804  # and one box without area
    assert split.labeled.image_dir == str(shared / "data" / "bccd" / "images")
    data = COCODataSet(
        dataset_dir=str(path.parents[1]), image_dir="images", anno_path=split.labeled.path, data_fields=["gt_bbox"]
    )
    assert sum(len(record["gt_bbox"]) for record in data.records) == split.labeled.boxes
