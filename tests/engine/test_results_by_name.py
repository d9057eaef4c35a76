"""Files of detections name their classes: --json_eval judges them by these, however the data set is numbered."""

import json

import numpy as np
import pytest
from oracle import Oracle
from tiny import OTHER_ORDER, rewrite

from ppdet.core.workspace import load_config
from ppdet.deploy.results import coco_results
from ppdet.engine.evaluator import Evaluator


@pytest.fixture
def data(tiny):
    return tiny.parent / "data"


def test_results_of_inference_are_evaluated_by_names(tiny, data, tmp_path, log):
    truth = json.loads((data / "train.json").read_text())
    names = {category["id"]: category["name"] for category in truth["categories"]}
    files = {image["id"]: str(data / "images" / image["file_name"]) for image in truth["images"]}
    results = []
    for one in truth["annotations"]:
        x, y, w, h = one["bbox"]
        row = np.array([[[3, 7].index(one["category_id"]), 0.9, x, y, x + w, y + h]])
        results += coco_results(one["image_id"], files[one["image_id"]], row, [3, 7], ["red", "blue"])
    assert {result["category_name"] for result in results} == {"red", "blue"}
    assert all(names[result["category_id"]] == result["category_name"] for result in results)
    swapped = rewrite(data, "val.json", ids={3: 7, 7: 3})
    other_names = rewrite(data, "names.json", names={"red": "rot", "blue": "blau"})
    more = [{**results[0], "category_name": "green"}, {**results[1], "category_name": "tree"}]
    for option, content, told in (
        ("anno_path=train.json", results, ""),
        (swapped, results, ""),
        (swapped, results + more, "2 results are left out: EvalDataset does not have their classes: 'green', 'tree'"),
        # Names that match nothing: the ids are used.
        (
            other_names,
            results,
            "of classes 'blue', 'red', but EvalDataset has 'rot', 'blau': their category_id is used",
        ),
    ):
        log.clear()
        (tmp_path / "bbox.json").write_text(json.dumps(content))
        evaluator = Evaluator(load_config(str(tiny), [f"EvalDataset.{option}"]), output_eval=str(tmp_path))
        assert evaluator.evaluate_file()["AP"] == pytest.approx(1.0)
        assert told in log.text and ("bbox.json: " in log.text) == bool(told)


def test_results_of_evaluation_are_evaluated_by_names(tiny, data, tmp_path, log):
    evaluator = Evaluator(load_config(str(tiny)), output_eval=str(tmp_path))
    evaluator(Oracle(evaluator))
    found = json.loads((tmp_path / "bbox.json").read_text())
    assert {(e["category_id"], e["category_name"]) for e in found} == {(3, "red"), (7, "blue")}
    for ids in ({3: 7, 7: 3}, OTHER_ORDER, {3: 0, 7: 1}):
        cfg = load_config(str(tiny), [f"EvalDataset.{rewrite(data, 'val.json', ids=ids)}"])
        assert Evaluator(cfg, output_eval=str(tmp_path)).evaluate_file()["AP"] == pytest.approx(1.0)
    # Files of PaddleDetection have no names, models without names number them: their ids are used, without a warning.
    log.clear()
    for number, entry in enumerate(found):
        del entry["category_name"]
        if number % 2:
            entry["category_name"] = "1"
    (tmp_path / "bbox.json").write_text(json.dumps(found))
    assert Evaluator(load_config(str(tiny)), output_eval=str(tmp_path)).evaluate_file()["AP"] == pytest.approx(1.0)
    assert "category_id" not in log.text
