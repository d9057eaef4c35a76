"""Tasks of Label Studio that nobody has labelled are counted and called so."""

import pytest
from exported import BOX, converted, images, labelstudio, labelstudio_task

from ppdet.utils.errors import DataError

PREDICTED = {"data": {"image": "/d/b.png"}, "predictions": [{"result": [labelstudio(to_name="image")]}]}
NOT_ACCEPTED = "tasks of Label Studio whose predictions nobody has accepted left out"


def test_predictions_that_nobody_has_accepted(tmp_path):
    """With and without the key "annotations", which exports have and the tasks that `ppdet infer` writes have not."""
    tasks = [labelstudio_task("a.png"), PREDICTED, {**PREDICTED, "annotations": []}]
    found, losses = converted(tmp_path, {**images("a.png", "b.png"), "p.json": tasks})
    assert found == {"all": {"a.png": [BOX]}} and losses == {NOT_ACCEPTED: 2}


def test_tasks_with_predictions_alone_are_no_data_set(tmp_path):
    with pytest.raises(DataError, match=f"no annotated image is left to convert: {NOT_ACCEPTED}: 1 "):
        converted(tmp_path, {**images("b.png"), "tasks.json": [PREDICTED]})


def test_without_images_the_reasons_are_those_of_each_image(tmp_path):
    seen = {"data": {"image": "/d/empty.png"}, "annotations": [{"result": []}]}
    tasks = [labelstudio_task("a.png"), labelstudio_task("a.png"), seen]
    found, losses = converted(tmp_path, {"p.json": tasks})
    assert found == {"all": {"d/a.png": [BOX]}}
    assert losses == {
        "annotations of an image that has others already left out": 1,
        "images without a file, whose size the annotations do not say either, left out": 1,
    }


def test_regions_of_turned_images_are_counted(tmp_path):
    task = labelstudio_task("a.png")
    for region in task["annotations"][0]["result"]:
        region["image_rotation"] = 90
    found, losses = converted(tmp_path, {**images("a.png"), "p.json": [task]})
    assert found == {"all": {"a.png": [BOX]}}
    assert losses == {"regions of images that were turned in Label Studio, which may be in other places": 1}
