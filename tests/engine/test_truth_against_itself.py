"""Annotations evaluated against themselves score AP 1, whatever their ids and the sizes that the file says."""

import json
import pickle
from pathlib import Path

import numpy as np
import paddle
import pytest

from ppdet.core.workspace import load_config
from ppdet.data.transforms import Decode
from ppdet.deploy.results import coco_image_ids, write_results
from ppdet.deploy.slicing import Slicing
from ppdet.engine.distributed import collectives
from ppdet.engine.evaluator import Evaluator
from ppdet.utils.errors import DataError

# First id of the images and of the categories, and how they are written.
IDS = {
    "large": (2**53 + 1, 2**62 + 1, int),
    "largest": (2**63 - 8, 2**63 - 2, int),
    "negative": (-(2**60) - 3, -(2**63) + 1, int),
    "floats": (0, 3, float),  # as tables write them
}


class Oracle(paddle.nn.Layer):
    """Detects the boxes that training is given of the images of a data set."""

    def __init__(self, dataset):
        super().__init__()
        self.rows = {}
        for record in dataset.records:
            sample = Decode()(dict(record))
            scores = np.full((len(sample["gt_bbox"]), 1), 0.9)
            self.rows[int(record["im_id"].item())] = np.concatenate(
                [sample["gt_class"], scores, sample["gt_bbox"]], axis=1
            )

    def forward(self, batch):
        found = [self.rows[image] for image in batch["im_id"].flatten().tolist()]
        counts = [len(rows) for rows in found]
        return paddle.to_tensor(np.concatenate(found).astype("float32")), paddle.to_tensor(counts)


def change_ids(folder, first_image, first_category, spell):
    """The file with other ids: path and ids of the images."""
    path = folder / "data" / "train.json"
    content = json.loads(path.read_text())
    images = {row["id"]: first_image + i for i, row in enumerate(content["images"])}
    categories = {row["id"]: first_category + i for i, row in enumerate(content["categories"])}
    for key, new in (("images", images), ("categories", categories)):
        for row in content[key]:
            row["id"] = spell(new[row["id"]])
    for row in content["annotations"]:
        row.update(image_id=spell(images[row["image_id"]]), category_id=spell(categories[row["category_id"]]))
    path.write_text(json.dumps(content))
    return path, list(images.values())


@pytest.mark.parametrize("kind", IDS)
def test_ids_of_64_bits(tiny, tmp_path, kind):
    _, ids = change_ids(tmp_path, *IDS[kind])
    cfg = load_config(str(tiny), ["EvalReader.batch_size=3"])
    evaluator = Evaluator(cfg, output_eval=str(tmp_path))
    numbers = evaluator(Oracle(evaluator.dataset))
    assert numbers["AP"] == numbers["AR100"] == pytest.approx(1.0)
    written = json.loads((tmp_path / "bbox.json").read_text())
    assert {result["image_id"] for result in written} <= set(ids) and len(set(ids)) == 8
    assert {result["category_id"] for result in written} == set(evaluator.dataset.category_ids)
    assert Evaluator(cfg, output_eval=str(tmp_path)).evaluate_file() == pytest.approx(numbers)


def test_ids_of_64_bits_from_two_ranks(tiny, tmp_path, monkeypatch):
    change_ids(tmp_path, *IDS["large"])
    cfg = load_config(str(tiny))
    oracle = Oracle(Evaluator(cfg).dataset)
    shares = []
    for rank in (1, 0):
        evaluator = Evaluator(cfg)
        evaluator.reader = cfg.create("EvalReader", dataset=evaluator.dataset, rank=rank, world_size=2)
        # What the other rank sends goes through pickle.
        monkeypatch.setattr(collectives, "gather", lambda value: [value, *pickle.loads(pickle.dumps(shares))])
        monkeypatch.setattr(collectives, "rank", lambda rank=rank: rank)
        numbers = evaluator(oracle)
        shares.append(((evaluator.metric.detections, evaluator.metric.image_ids, evaluator.metric.sizes), 1.0, 0))
    assert len(shares[0][0][1]) == 4 and len(evaluator.metric.image_ids) == 8
    assert numbers["AP"] == pytest.approx(1.0)


def test_what_inference_writes(tiny, tmp_path):
    """deploy's bbox.json, with the file's ids and with file names alone."""
    path, _ = change_ids(tmp_path, *IDS["large"])
    evaluator = Evaluator(load_config(str(tiny)), output_eval=str(tmp_path))
    rows, data = Oracle(evaluator.dataset).rows, evaluator.dataset
    paths = [record["im_file"] for record in data.records]
    assert coco_image_ids(str(path), paths) == [int(record["im_id"].item()) for record in data.records]
    options = {"class_names": data.class_names, "category_ids": data.category_ids, "save_results": True}
    for image_ids in (coco_image_ids(str(path), paths), None):
        found = enumerate(rows[int(record["im_id"].item())].astype(np.float32) for record in data.records)
        write_results(found, paths, str(tmp_path), visualize=False, image_ids=image_ids, **options)
        assert evaluator.evaluate_file()["AP"] == pytest.approx(1.0)


def spoil(folder, **sizes):
    """The file says a wrong size of all images (96 x 128), and each has boxes beyond its right, below and outside."""
    path = folder / "data" / "train.json"
    content = json.loads(path.read_text())
    for row in content["images"]:
        row.update(sizes)
    for row in content["images"]:
        for box in ([100, 60, 60, 30], [20, 80, 30, 200], [130, 10, 20, 20], [10, 97, 20, 20], [-30, -30, 29, 90]):
            area = box[2] * box[3]
            entry = {"id": len(content["annotations"]) + 1, "image_id": row["id"], "bbox": box, "area": area}
            content["annotations"].append({**entry, "category_id": 3, "iscrowd": 0})
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(("width", "height"), [(128, 96), (96, 128), (64, 48), (256, 192)])
def test_boxes_are_those_of_training_whatever_size_the_file_says(tiny, tmp_path, width, height, log):
    spoil(tmp_path, width=width, height=height)
    cfg = load_config(str(tiny))
    evaluator = Evaluator(cfg, output_eval=str(tmp_path))
    numbers = evaluator(Oracle(evaluator.dataset))
    assert numbers["AP"] == numbers["AR100"] == pytest.approx(1.0)
    lines = [line for line in log.messages if "evaluated clipped to these" in line]
    assert len(lines) == 1 and "16 boxes reach beyond" in lines[0] and "24 lie outside" in lines[0]
    evaluator(Oracle(evaluator.dataset))
    assert sum("evaluated clipped to these" in line for line in log.messages) == 1
    assert Evaluator(cfg, output_eval=str(tmp_path)).evaluate_file() == pytest.approx(numbers)


MARKED = {
    "ignored": lambda rows: [row.update(ignore=1) for row in rows if row["image_id"] < 5],
    "all ignored": lambda rows: [row.update(ignore=1) for row in rows],
    "crowds": lambda rows: [row.update(iscrowd=1) for row in rows if row["image_id"] < 5],
    "crowds of masks": lambda rows: [row.update(iscrowd=1, area=5) for row in rows if row["image_id"] < 5],
    "without area": lambda rows: [row.update(bbox=[5, 5, 0, 0]) for row in rows if row["image_id"] == 2],
}


@pytest.mark.parametrize("kind", MARKED)
def test_images_of_marked_boxes_are_evaluated(tiny, tmp_path, kind, log):
    """Every detection of the unmarked file, and one on the background of each image, with allow_empty and without."""
    oracle = Oracle(Evaluator(load_config(str(tiny))).dataset)
    oracle.rows = {image: np.concatenate([rows, [[0, 0.95, 1, 1, 9, 9]]]) for image, rows in oracle.rows.items()}
    path = tmp_path / "data" / "train.json"
    content = json.loads(path.read_text())
    MARKED[kind](content["annotations"])
    path.write_text(json.dumps(content))
    numbers = []
    for allow_empty in ("true", "false"):
        evaluator = Evaluator(load_config(str(tiny), [f"EvalDataset.allow_empty={allow_empty}"]))
        numbers.append(evaluator(oracle))
        assert sorted(evaluator.metric.image_ids) == list(range(1, 9))
    assert numbers[0] == numbers[1] and 0.1 < numbers[0]["AP"] < 1
    assert "marked ignore" not in log.text and "load_crowd" not in log.text


@pytest.mark.parametrize(
    ("given", "slot", "expected"), [("null", "Eval", 8), ("false", "Eval", 4), ("true", "Train", 8)]
)
def test_which_data_sets_are_evaluated_can_be_said(tiny, tmp_path, given, slot, expected):
    path = tmp_path / "data" / "train.json"
    content = json.loads(path.read_text())
    MARKED["ignored"](content["annotations"])
    path.write_text(json.dumps(content))
    cfg = load_config(str(tiny), [f"{slot}Dataset.for_evaluation={given}"])
    assert len(cfg.create(f"{slot}Dataset")) == expected


class Nothing(paddle.nn.Layer):
    def forward(self, batch):
        return paddle.zeros([0, 6]), paddle.zeros([len(batch["im_id"])], "int32")


@pytest.mark.parametrize(
    ("resize", "slicing"),
    [
        (None, None),
        ("{Resize: {target_size: [50, 999]}}", None),
        ("{Resize: {target_size: [37, 211], keep_ratio: false}}", None),
        (None, Slicing((64, 50), (0.0, 0.0))),
        ("{Resize: {target_size: [37, 211], keep_ratio: false}}", Slicing((64, 50), (0.25, 0.25))),
    ],
)
def test_the_size_of_an_image_is_known_however_it_is_read(tiny, tmp_path, resize, slicing):
    """Images of 96 x 128 are resized, or come in windows: their boxes are clipped to the whole image."""
    spoil(tmp_path, width=64, height=48)
    transforms = ", ".join(filter(None, ["{Decode: {}}", resize, "{NormalizeImage: {}}", "{Permute: {}}"]))
    options = ["EvalReader.batch_size=5", f"EvalReader.sample_transforms=[{transforms}]"]
    evaluator = Evaluator(load_config(str(tiny), options), slicing=slicing)
    evaluator(Nothing())
    assert list(evaluator.metric.sizes.values()) == [(96, 128)] * 8


def test_images_that_are_gone_are_not_needed_for_a_file_of_results(tiny, tmp_path):
    evaluator = Evaluator(load_config(str(tiny)), output_eval=str(tmp_path))
    numbers = evaluator(Oracle(evaluator.dataset))
    for record in evaluator.dataset.records:
        Path(record["im_file"]).unlink()
    assert evaluator.evaluate_file() == pytest.approx(numbers)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "result 0 is 1, expected an object"),
        ('{"images": [], "annotations": []}', "COCO JSON, expected a list of COCO results"),
        ("[{", "not JSON"),
        ('[{"image_id": 1}]', "result 0 has no 'category_id'"),
        ('[{"image_id": "1", "category_id": 3, "bbox": [1, 2, 3, 4], "score": 1}]', "image_id of result 0 is '1'"),
        ('[{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3], "score": 1}]', "bbox [1, 2, 3], expected a number and"),
        (
            '[{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 1' + "0" * 400 + "}]",
            "expected a number and",
        ),
        ('[{"image_id": 1, "category_id": 3, "bbox": 5, "score": "high"}]', "score 'high' and bbox 5"),
        ('[{"image_id": 99999999999999999999, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 1}]', "at most 64 bits"),
        ('[{"file_name": "a\\u0000", "category_id": 3, "bbox": [1, 2, 3, 4], "score": 1}]', "which no image of"),
        ('[{"file_name": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 1}]', "which no image of"),
    ],
)
def test_files_of_results_that_are_none(tiny, tmp_path, content, message):
    (tmp_path / "bbox.json").write_text(content)
    with pytest.raises(DataError) as caught:
        Evaluator(load_config(str(tiny)), output_eval=str(tmp_path)).evaluate_file()
    assert message in str(caught.value) and "bbox.json" in str(caught.value)


def test_results_of_other_images_and_classes_are_counted(tiny, tmp_path, log):
    results = [{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}]
    results += [{**results[0], "image_id": 99}, {**results[0], "category_id": 0}, {**results[0], "score": None}]
    (tmp_path / "bbox.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(results).encode())
    evaluator = Evaluator(load_config(str(tiny)), output_eval=str(tmp_path))
    evaluator.evaluate_file()
    assert len(evaluator.metric.detections) == 1 and "8 images, 1 detection, " in log.text
    assert "1 of 4 results are left out: their image_id, e.g. 99, is not evaluated" in log.text
    assert "1 of 4 results are left out: their category_id, e.g. 0, is not evaluated" in log.text
    assert "1 detections with NaN or infinity were left out" in log.text
