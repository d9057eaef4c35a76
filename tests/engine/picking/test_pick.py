"""`ppdet data pick` writes a list of images to label next, and a page that shows them."""

import json
import re
import shutil

import numpy as np
import pytest
from noise import noisy, write_padded

from ppdet.cli.data_pick import main
from ppdet.engine.picking import pick
from ppdet.utils.errors import DataError

NAME = "a <b>&'\".png"  # the name of an image that a stranger gave it


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six images of noise, a copy of the first one, a file that is no image, and a detector with random weights."""
    folder = tmp_path_factory.mktemp("pick")
    noisy(write_padded(folder, images=6))
    images = folder / "data" / "images"
    shutil.copy(images / "001.png", images / NAME)
    (images / "broken.png").write_bytes(b"no image")
    return folder


def picked(output):
    return [path.rpartition("images/")[2] for path in (output / "pick.txt").read_text().splitlines()]


def test_a_detector_picks_images_that_are_not_labeled(folder, tmp_path, log):
    images = folder / "data" / "images"
    labeled = tmp_path / "labeled.json"
    content = {"images": [{"id": 1, "file_name": "data/002.png"}], "annotations": [], "categories": []}
    labeled.write_text(json.dumps(content))
    detector = ["-c", str(folder / "padded.yml"), "-o", f"weights={folder / 'noise.pdparams'}", "device=cpu"]
    options = ["--labelled", str(labeled), "--number", "9", "--output_dir", str(tmp_path), "--draw_threshold", "0"]
    main([str(images), *detector, *options])
    found = picked(tmp_path)
    # 7 images can be read; of these, one is labeled, and of the two that are the same one is left.
    assert len(found) == 5 and "002.png" not in found and len({"001.png", NAME} & set(found)) == 1
    for text in (
        "1 of 8 images could not be read",
        "1 near-duplicates of other",
        "5 images to label next",
        "pick.html",
    ):
        assert text in log.text
    assert "with --near_duplicates they are picked too" in log.text
    page = (tmp_path / "pick.html").read_text()
    assert page.count("<img ") == 5 and "<b>" not in page
    objects = [float(text) for text in re.findall(r"\d\. ([\d.]+) uncertain objects", page)]
    assert len(objects) == 5 and max(objects) > 0


def test_without_a_detector_images_are_spread_by_their_colors(folder, tmp_path, log):
    images = folder / "data" / "images"
    main([str(images), "--number", "7", "--near_duplicates", "--output_dir", str(tmp_path)])
    found = picked(tmp_path)
    assert len(set(found)) == 7 and found[-1] in ("001.png", NAME)  # the copy is the last choice
    assert "fewer images" not in log.text and "uncertain" not in (tmp_path / "pick.html").read_text()


def test_features_belong_to_their_images_in_batches_with_an_unreadable_one(folder):
    cfg = noisy(folder / "padded.yml", ["TestReader.batch_size=3", "device=cpu"])
    images = folder / "data" / "images"
    names = ["001.png", "broken.png", "002.png", "003.png", "004.png", NAME]
    seen = pick.look_with_detector(cfg, [str(images / name) for name in names], lambda items, total, title: items)
    assert [path.rpartition("/")[2] for path in seen.paths] == [name for name in names if name != "broken.png"]
    assert np.linalg.norm(seen.features, axis=1) == pytest.approx(np.ones(5))
    # The copy has the features of its original, and no other image has.
    distances = np.linalg.norm(seen.features - seen.features[-1], axis=1)
    assert distances[0] < 1e-5 < distances[1:4].min()


def test_a_detector_that_sees_nothing_is_a_warning(folder, log):
    paths = [str(folder / "data" / "images" / f"00{number}.png") for number in (1, 2, 3)]
    seen = pick.Seen(paths, [pick.NO_ROWS] * 3, np.array([[0.0], [1.0], [3.0]]), ["cell"])
    picks = pick.pick(seen, 2, [], lambda items, total, title: items)
    assert picks.chosen == [0, 2] and "detects nothing in any image" in log.text


def test_labels_are_counted_by_the_names_of_their_classes(tmp_path):
    labeled = tmp_path / "labeled.json"
    content = {
        "images": [{"id": 7, "file_name": "a.jpg"}],
        "categories": [{"id": 3, "name": "b"}, {"id": 2, "name": "a "}],
    }
    boxes = [{"id": n, "image_id": 7, "category_id": n, "bbox": [0, 0, 2, 2]} for n in (2, 3)]
    labeled.write_text(json.dumps(content | {"annotations": [*boxes, boxes[1] | {"id": 9}]}))
    assert pick.labels_of_classes(pick.read_labeled(str(labeled)), str(labeled)) == {"a": 1, "b": 2}
    labeled.write_text(json.dumps({"images": content["images"]}))
    assert not pick.labels_of_classes(pick.read_labeled(str(labeled)), str(labeled))


def test_of_two_classes_the_one_with_few_labels_is_picked(folder):
    paths = [str(folder / "data" / "images" / f"00{number}.png") for number in (1, 2)]
    rows = [np.array([[number, 0.5, 0, 0, 9, 9]]) for number in (0, 1)]
    seen = pick.Seen(paths, rows, np.array([[0.0], [1.0]]), ["a", "b"])
    for counts, chosen in (({"a": 5}, [1]), ({"b": 5, "c": 9}, [0])):
        assert pick.pick(seen, 1, [], lambda items, total, title: items, counts=counts).chosen == chosen


def test_labeled_images_are_found_by_name_or_near_their_annotations(tmp_path):
    labeled = tmp_path / "annotations" / "train.json"
    labeled.parent.mkdir()
    labeled.write_text(json.dumps({"images": [{"id": 1, "file_name": "x/b.jpg"}, {"id": 2, "file_name": "y/b.jpg"}]}))
    content = pick.read_labeled(str(labeled))
    # The file's folders decide where the images' folders are the same; otherwise the name alone does.
    assert pick.labeled_images(content, str(labeled), ["x/b.jpg", "y/b.jpg", "y/a.jpg", "z/b.jpg"]) == [
        "x/b.jpg",
        "y/b.jpg",
    ]
    assert pick.labeled_images(content, str(labeled), ["z/b.jpg", "z/a.jpg"]) == ["z/b.jpg"]
    with pytest.raises(
        DataError, match=r"neither among those to pick from, beginning with z/a\.jpg, nor near this file"
    ):
        pick.labeled_images(content, str(labeled), ["z/a.jpg"])
    near = tmp_path / "images" / "x" / "b.jpg"
    near.parent.mkdir(parents=True)
    near.touch()
    assert pick.labeled_images(content, str(labeled), ["z/a.jpg"]) == [str(near)]


def test_copies_of_labeled_images_elsewhere_are_not_picked(folder, tmp_path, log):
    images, data = folder / "data" / "images", tmp_path / "my_data"
    (data / "images").mkdir(parents=True)
    (data / "annotations").mkdir()
    for name, number in (("train", 2), ("val", 3)):
        shutil.copy(images / f"00{number}.png", data / "images" / f"{name}.png")
        content = {"images": [{"id": 1, "file_name": f"{name}.png"}], "annotations": [], "categories": []}
        (data / "annotations" / f"{name}.json").write_text(json.dumps(content))
    labeled = [str(data / "annotations" / f"{name}.json") for name in ("train", "val")]
    main([str(images), "--labelled", *labeled, "--number", "9", "--output_dir", str(tmp_path)])
    found = picked(tmp_path)
    assert len(found) == 4 and not {"002.png", "003.png"} & set(found)
    assert f"of these, 2 are not in {images}" in log.text


def test_mistakes_name_options_of_this_command(folder, tmp_path, capsys):
    images, listed = folder / "data" / "images", tmp_path / "all.json"
    names = [path.name for path in images.iterdir()]
    rows = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    listed.write_text(json.dumps({"images": rows, "annotations": [], "categories": []}))
    for file, said in (
        (tmp_path / "nosuch.json", "nosuch.json: there is no such file: name the COCO files of the labeled images, or"),
        (
            listed,
            "all images are labeled already, or show the same pictures as labeled ones: add other images, or pick",
        ),
    ):
        with pytest.raises(SystemExit) as end:
            main([str(images), "--labelled", str(file), "--output_dir", str(tmp_path)])
        assert end.value.code == 2 and said in capsys.readouterr().err
