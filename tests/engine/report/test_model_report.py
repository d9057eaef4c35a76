"""The report of an evaluation: its figures against boxes that are judged by hand, and its page in a browser."""

import json

import cv2
import numpy as np
import pytest
from browsing import CUT_TABLES, UNREADABLE, opened
from commands import call
from oracle import Oracle

from ppdet.core.workspace import load_config
from ppdet.engine.evaluator import Evaluator
from ppdet.engine.report.judged_boxes import CORRECT, MISSED
from ppdet.engine.report.model_analysis import JudgedBox, analyze
from ppdet.engine.report.model_page import sections
from ppdet.engine.report.model_pictures import ImageBook
from ppdet.engine.report.model_report import _save_thresholds
from ppdet.engine.report.thresholds_file import read_thresholds
from ppdet.metrics.coco_metric import COCOMetric
from ppdet.utils.errors import DeployError
from ppdet.visualize.draw import class_color

HOSTILE = "</script><b onclick=1>red\"'"


@pytest.fixture
def results(tiny, tmp_path):
    """bbox.json whose detections of red boxes are judged in `test_figures`; the name of red is hostile."""
    path = tiny.parent / "data" / "train.json"
    content = json.loads(path.read_text())
    content["images"], content["annotations"] = content["images"][:4], []
    content["categories"][0]["name"] = HOSTILE
    boxes = [(1, 3, 10, 10), (2, 3, 10, 10), (3, 3, 10, 10), (3, 7, 80, 60), (4, 3, 10, 10)]
    for number, (image, category, x, y) in enumerate(boxes, 1):
        one = {
            "id": number,
            "image_id": image,
            "category_id": category,
            "bbox": [x, y, 20, 20],
            "area": 400,
            "iscrowd": 0,
        }
        content["annotations"].append(one)
    path.write_text(json.dumps(content))
    found = [
        (1, 3, [10, 10, 20, 20], 0.9),  # right
        (1, 3, [11, 10, 20, 20], 0.85),  # found twice
        (2, 3, [10, 10, 20, 20], 0.8),  # right
        (2, 3, [80, 10, 30, 20], 0.75),  # nothing there
        (3, 3, [10, 10, 20, 20], 0.7),  # right
        (3, 3, [80, 60, 20, 20], 0.65),  # a blue box: wrong class
        (3, 3, [20, 10, 20, 20], 0.2),  # below the best threshold
        (4, 3, [24, 10, 20, 20], 0.66),  # poor place: IoU 6 / 34
    ]
    rows = [{"image_id": i, "category_id": c, "bbox": b, "score": s} for i, c, b, s in found]
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "bbox.json").write_text(json.dumps(rows))
    return tmp_path / "old"


def test_figures(tiny, results):
    evaluator = Evaluator(load_config(str(tiny)), output_eval=str(results))
    evaluator.evaluate_file()
    analysis = analyze(evaluator.metric)
    red, blue = analysis.classes
    # 3 of 5 kept are right, of 4 boxes: the F1 of all other numbers of kept detections is lower.
    assert red.best == (pytest.approx(0.68), pytest.approx(6 / 9), pytest.approx(3 / 5), pytest.approx(3 / 4))
    assert blue.best is None and blue.threshold == 0.5
    for one, other in zip(analysis.classes, evaluator.metric.classwise_results()):
        assert (one.name, one.boxes) == (other["name"], other["boxes"])
        assert (one.ap["AP"], one.ap["AP50"]) == pytest.approx((other["AP"], other["AP50"]))
    kinds = {image: sorted(box.kind for box in boxes) for image, boxes in analysis.judged.items()}
    assert kinds == {
        1: [CORRECT, "found twice"],
        2: [CORRECT, "nothing there"],
        3: [CORRECT, MISSED],
        4: [MISSED],
    }
    assert analysis.confusion.tolist() == [[3, 0, 1], [0, 0, 1], [2, 0, 0]]
    assert analysis.tide["counts"]["Cls"] == 1 and analysis.tide["counts"]["Dupe"] == 1
    assert [(one.image, one.kind) for one in analysis.label_errors] == [(2, "not labeled")]
    assert analysis.f1 == pytest.approx({1: 2 / 3, 2: 2 / 3, 3: 2 / 3, 4: 0})


def test_many_ids_and_crowds_agree_with_coco():
    """Ids of 64 bits in no order, crowds, and images without boxes: AP as faster-coco-eval has it."""
    rng = np.random.default_rng(5)
    categories = [2**40, 7, 1]
    images = [int(i) for i in rng.permutation(2**41 + np.arange(12))]
    records, rows, counts = [], [], []
    for image in images:
        corner = rng.uniform(0, 60, (4, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(10, 40, (4, 2))], axis=1)
        labels = rng.integers(0, 3, 4)
        crowd = (rng.random(4) < 0.2).astype(np.int32)
        records.append({"im_id": np.array([image]), "gt_bbox": boxes, "gt_class": labels[:, None], "is_crowd": crowd})
        found = np.concatenate([boxes + rng.normal(0, 3, boxes.shape), boxes + 50])
        rows.append(np.column_stack([np.tile(labels, 2), rng.random(8), found]))
        counts.append(8)
    metric = COCOMetric(anno_path=None, category_ids=categories, class_names=list("abc"), records=records)
    metric.update(np.concatenate(rows), counts, images)
    analysis = analyze(metric)
    expected = metric.classwise_results()
    assert [one.ap["AP"] for one in analysis.classes] == pytest.approx([one["AP"] for one in expected])
    assert np.mean([one.ap["APm"] for one in analysis.classes]) == pytest.approx(metric.compute()["APm"])
    assert [one.boxes for one in analysis.classes] == [one["boxes"] for one in expected]
    assert set(analysis.judged) == set(images)


@pytest.fixture
def cells(tmp_path):
    """A metric of two classes, and a book of its two images, which are gray.

    Image 1 has a labeled cell; the model finds it, and two cells at which nothing is labeled. Image 2 has two cells;
    the model finds them with little certainty, and is as uncertain of a third one.
    """
    truth = {1: [[10, 10, 40, 40]], 2: [[10, 10, 40, 40], [60, 10, 90, 40]]}
    records, paths = [], {}
    for image, boxes in truth.items():
        labels = np.zeros((len(boxes), 1), np.int64)
        crowd = np.zeros(len(boxes), np.int32)
        record = {"im_id": np.array([image]), "gt_bbox": np.float64(boxes), "gt_class": labels, "is_crowd": crowd}
        records.append(record)
        paths[image] = str(tmp_path / f"{image}.png")
        cv2.imwrite(paths[image], np.full((120, 120, 3), 128, np.uint8))
    found = [
        (0, 0.95, 10, 10, 40, 40),
        (0, 0.9, 60, 60, 90, 90),
        (0, 0.8, 10, 60, 40, 90),
        (0, 0.32, 10, 10, 40, 40),
        (0, 0.31, 60, 60, 90, 90),
        (0, 0.3, 60, 10, 90, 40),
    ]
    metric = COCOMetric(anno_path=None, category_ids=[1, 2], class_names=["cell", "other"], records=records)
    metric.update(np.array(found), [3, 3], [1, 2])
    return metric, ImageBook(paths, metric.class_names)


def part(analysis, book, title):
    """The HTML of a section of the page, with its note."""
    section = next(one for one in sections(analysis, book, 10, None, None) if one.title == title)
    return " ".join(map(str, (section.note, *section.parts)))


def test_label_errors_are_sure_and_shown_by_image(cells):
    metric, book = cells
    analysis = analyze(metric)
    assert analysis.classes[0].best.threshold < 0.3
    found = [(one.image, one.score, one.box) for one in analysis.label_errors]
    # That of image 2 is above the threshold, but 0.31 is not sure.
    assert found == [(1, 0.9, (60, 60, 90, 90)), (1, 0.8, (10, 60, 40, 90))]
    shown = part(analysis, book, "Likely label errors")
    assert "The matrix pairs a detection with a box of any class, all other" in part(analysis, book, "Errors")
    assert "2 places in 1 image" in shown and shown.count("<li") == 1 and shown.count("<img") == 2
    assert "the model sees cell with 0.90; nothing is labeled where the model sees cell with 0.80<" in shown
    # The picture has these boxes alone, in the color of their class.
    boxes = [JudgedBox(one.kind, one.label, one.score, one.box) for one in analysis.label_errors]
    (picture,) = book.beside_truth([1], analysis, [""], [boxes])
    times = 320 // 120
    corner = {name: [tuple(panel[at * times, at * times]) for at in (10, 60)] for name, panel in picture.panels}
    assert corner == {"labels": [class_color(0), (128,) * 3], "model": [(128,) * 3, class_color(0)]}
    assert [tag.score for tag in picture.tags] == [0.9, 0.8]


def test_lines_tell_right_wrong_and_missed_boxes(cells):
    metric, book = cells
    analysis = analyze(metric)
    places = {CORRECT: (5, 5, 30, 30), "nothing there": (60, 10, 90, 40), MISSED: (10, 60, 50, 110)}
    boxes = [JudgedBox(kind, 0, None if kind == MISSED else 0.9, place) for kind, place in places.items()]
    (picture,) = book.beside_truth([1], analysis, [""], [boxes])
    is_line = (picture.panels[1][1] == class_color(0)).all(axis=2)
    times = 320 // 120
    # Pixels of the lower line of each box: one row, three rows, and three rows with as many gaps as dashes.
    ink = {
        kind: is_line[y2 * times - 4 : y2 * times + 5, x1 * times + 8 : x2 * times - 8].sum(axis=1).tolist()
        for kind, (x1, _, x2, y2) in places.items()
    }
    lengths = {kind: (x2 - x1) * times - 16 for kind, (x1, _, x2, _) in places.items()}
    assert ink[CORRECT] == [0] * 4 + [lengths[CORRECT]] + [0] * 4
    assert ink["nothing there"] == [0] * 3 + [lengths["nothing there"]] * 3 + [0] * 3
    assert ink[MISSED][:3] == ink[MISSED][6:] == [0] * 3
    assert all(0.3 < found / lengths[MISSED] < 0.7 for found in ink[MISSED][3:6])
    assert "a dashed one was missed" in part(analysis, book, "Pictures")


def test_right_boxes_of_crowded_images_have_no_text(cells):
    metric, book = cells
    analysis, grown = analyze(metric), {}
    for number in (8, 9):
        boxes = [JudgedBox(CORRECT, 0, 0.9, (10, 50, 90, 90))] * number
        (picture,) = book.beside_truth([1], analysis, [""], [boxes])
        grown[number] = (picture.panels[1][1] != 128).any(axis=2).sum()
    assert grown[9] == 2 * 160 + 2 * 80 < grown[8]


def test_a_model_of_low_scores_accuses_no_label(cells):
    metric, book = cells
    metric.detections["score"] /= 10
    shown = part(analyze(metric), book, "Likely label errors")
    assert "None were found: no detection with a score of 0.5 or more" in shown and "<img" not in shown


def test_classes_of_one_name_get_no_threshold(cells, tmp_path, log, monkeypatch):
    """The file has thresholds by name, so that it could have that of one of them only."""
    metric, book = cells
    monkeypatch.setattr("ppdet.engine.report.model_analysis.ENOUGH_BOXES", 1)
    metric.class_names = ["cell", "cell"]
    analysis = analyze(metric)
    assert analysis.classes[0].best and not _save_thresholds(analysis, tmp_path)
    assert not (tmp_path / "thresholds.json").exists()
    assert "several classes have one name: no threshold is written for 'cell'" in log.text
    shown = part(analysis, book, "Thresholds")
    assert " (not written)" in shown and "those of classes with one name are not written" in shown


def test_few_images_and_boxes_choose_no_thresholds(tiny, results, tmp_path, log, monkeypatch):
    """Red has 4 boxes in 4 images, too few to be sure of; the report and the reader of its file say so."""
    folder = tmp_path / "report"
    options = ("-c", tiny, "--json_eval", "--output_eval", results, "--report", folder, "--report_pictures", 1)
    call("tools/eval.py", *options)
    said = "fewer than 10 labeled boxes to choose a threshold by: none is written for "
    assert said in log.text and "onclick" in log.text.split(said)[1].splitlines()[0]
    assert not (folder / "thresholds.json").exists() and "(open it in a browser); detections are beside it" in log.text
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Only 4 images evaluated: AP and thresholds may be far from those on more images, and a best_model" in page
    assert "0.680 (not written)" in page and "There is no thresholds.json. A threshold that is chosen by fewer" in page
    monkeypatch.setattr("ppdet.engine.report.model_analysis.ENOUGH_BOXES", 4)
    call("tools/eval.py", *options)
    assert read_thresholds(folder / "thresholds.json", [HOSTILE]) == {HOSTILE: pytest.approx(0.68)}
    assert "thresholds.json: chosen on 4 images only: others may need other thresholds" in log.text


def test_the_page_of_two_models(browser, tiny, results, tmp_path, log, monkeypatch):
    evaluator = Evaluator(load_config(str(tiny)), output_eval=str(tmp_path / "perfect"))
    evaluator(Oracle(evaluator))
    (tiny.parent / "data" / "images" / "004.png").write_bytes(b"no image")
    new = tmp_path / "new"
    monkeypatch.setattr("ppdet.engine.report.model_analysis.ENOUGH_BOXES", 1)  # red has 4, blue has 1
    # By the command, from the file of detections, beside the other model's.
    options = ("--json_eval", "--output_eval", tmp_path / "perfect", "--report", new, "--compare", results)
    call("tools/eval.py", "-c", tiny, *options)
    assert sorted(path.name for path in new.iterdir()) == ["bbox.json", "report.html", "thresholds.json"]
    assert read_thresholds(new / "thresholds.json", [HOSTILE, "blue"]).keys() == {HOSTILE, "blue"}
    assert log.text.count("the report leaves out a picture: ") == 1 and "004.png" in log.text
    for width in (390, 1280):
        page = opened(browser, new / "report.html", width)
        assert page.problems == [] and page.evaluate(UNREADABLE) == [] and page.evaluate(CUT_TABLES) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        titles = page.locator("h2").all_inner_texts()
        assert titles[:3] == ["Overview", "Beside another model", "Classes"] and len(titles) == 9
        assert page.locator("dd").first.inner_text() == "100.0"
        assert page.locator("tbody th").filter(has_text=HOSTILE).count() > 0 and page.locator("b").count() == 0
        row = page.locator("#part1 tbody tr").first.locator("td").all_inner_texts()
        assert row[1] == "100.0" and float(row[2]) == pytest.approx(100 - float(row[0]), abs=0.11)
        last = page.locator(".gallery").last
        assert last.locator("li").count() == 3
        last.locator("[data-role=class]").select_option(label="blue")
        assert last.locator("li:visible").count() == 1
        page.context.close()


def test_mistakes_are_told_before_the_evaluation(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(Evaluator, "__call__", lambda *_: pytest.fail("the evaluation began"))
    monkeypatch.setattr("ppdet.engine.build.build_trained_model", lambda cfg: None)
    command = ("tools/eval.py", "-c", tiny, "-o", f"weights={tiny}")
    said = call(*command, "--report", tmp_path / "new", "--compare", tmp_path / "nosuch", code=2)
    assert "nosuch/bbox.json: no such file" in said.replace("\\", "/") and not (tmp_path / "new").exists()
    (tmp_path / "nosuch").mkdir()
    (tmp_path / "nosuch" / "bbox.json").write_text('[{"image_id": 1, "category_id": 3, "score": 1}]')
    assert "bbox" in call(*command, "--report", tmp_path / "new", "--compare", tmp_path / "nosuch", code=2)
    for option in ("--report", "--output_eval"):
        assert f"{tiny}: " in call(*command, option, tiny, code=2)


def test_detections_are_saved_before_the_figures(tiny, results, tmp_path, monkeypatch):
    def fails(metric):
        raise MemoryError

    monkeypatch.setattr("ppdet.engine.report.model_report.analyze", fails)
    with pytest.raises(MemoryError):
        call("tools/eval.py", "-c", tiny, "--json_eval", "--output_eval", results, "--report", tmp_path / "new")
    assert len(json.loads((tmp_path / "new" / "bbox.json").read_text())) == 8


def test_a_model_is_compared_with_the_file_that_it_replaces(tiny, results, tmp_path, monkeypatch):
    """The folder of the other model's report may be that of the new one."""
    evaluator = Evaluator(load_config(str(tiny)))
    monkeypatch.setattr("ppdet.engine.build.build_trained_model", lambda cfg: Oracle(evaluator))
    shown = []
    monkeypatch.setattr("ppdet.engine.report.model_report.compare", lambda old, new: shown.append((old, new)))
    call(
        "tools/eval.py",
        "-c",
        tiny,
        "-o",
        f"weights={tiny}",
        "--output_eval",
        results,
        "--report",
        results,
        "--compare",
        results,
    )
    ((old, new),) = shown
    assert old.numbers["AP50"] < new.numbers["AP50"] == 1


def test_mistakes_get_one_line(tiny, tmp_path):
    assert "--compare is for --report" in call("tools/eval.py", "-c", tiny, "--compare", tmp_path, code=2)
    options = ("-c", tiny, "--save_prediction_only", "--report", tmp_path)
    assert "leave --save_prediction_only out" in call("tools/eval.py", *options, code=2)
    path = tmp_path / "thresholds.json"
    for text, message in (
        ("[]", "expected {"),
        ("{", "not JSON"),
        ('{"thresholds": {"red": 2}}', "the threshold of 'red' is 2, expected a number from 0 to 1"),
        ('{"thresholds": {"red": true}}', "the threshold of 'red' is True"),
        ('{"thresholds": {"green": 0.5}}', "the model has no class 'green', it has 'red', 'blue'"),
    ):
        path.write_text(text)
        with pytest.raises(DeployError, match=message):
            read_thresholds(path, ["red", "blue"])
    with pytest.raises(DeployError, match=r"writes thresholds\.json if the model is right often enough; without --t"):
        read_thresholds(tmp_path / "absent.json", ["red"])
