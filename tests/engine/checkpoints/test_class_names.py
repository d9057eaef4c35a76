"""Files that number their classes differently: the training file's order is kept up to deployment."""

import json
import shutil
from pathlib import Path

import paddle
import pytest
import yaml
from oracle import Oracle
from tiny import OTHER_ORDER, rewrite

from ppdet.core.workspace import load_config
from ppdet.deploy.detector import Detector
from ppdet.engine.build import build_dataset, build_trained_model
from ppdet.engine.checkpoints.class_names import classes_of, classes_of_checkpoint, classes_of_weights
from ppdet.engine.checkpoints.manifest import fingerprint, read_manifest, read_sealed, write_sealed
from ppdet.engine.checkpoints.weights import CheckpointError, save_weights
from ppdet.engine.evaluator import Evaluator
from ppdet.engine.export.graph import export_model
from ppdet.engine.hooks.pseudo_labels import read_truth
from ppdet.engine.predictor import Predictor
from ppdet.engine.runs.analysis import evaluate_once
from ppdet.engine.runs.run_folder import RunFolder
from ppdet.engine.trainer import Trainer
from ppdet.utils.errors import DataError

NUMBERS = "EvalReader.batch_size=4"


@pytest.fixture
def data(tiny):
    return tiny.parent / "data"


def test_validation_in_another_order_is_mapped_by_name(tiny, data, log, tmp_path):
    option = rewrite(data, "val.json", ids=OTHER_ORDER)
    cfg = load_config(str(tiny), [f"EvalDataset.{option}", NUMBERS, f"output_eval={tmp_path}"])
    trainer = Trainer(cfg, evaluate=True)
    evaluator = trainer.evaluator
    assert evaluator.dataset.class_names == trainer.reader.dataset.class_names == ["red", "blue"]
    assert evaluator.metric.category_ids == [30, 5]
    assert log.text.count("mapped by name ('red', 'blue')") == 1
    evaluator.output_eval = str(tmp_path)
    oracle = Oracle(evaluator)
    oracle.boxes = {int(r["im_id"].item()): r for r in trainer.reader.dataset.records}  # classes as training has them
    oracle.trained_classes = trainer.model.trained_classes
    assert evaluator(oracle)["AP"] == pytest.approx(1.0)
    assert [row["name"] for row in evaluator.metric.classwise_results()] == ["red", "blue"]
    truth = json.loads((data / "val.json").read_text())["annotations"]
    found = json.loads((tmp_path / "bbox.json").read_text())
    rows = [sorted((e["image_id"], e["category_id"], *e["bbox"]) for e in entries) for entries in (found, truth)]
    assert rows[0] == rows[1], "the ids are those of val.json"


@pytest.mark.parametrize(
    ("names", "more", "parts"),
    [
        ({"red": "Red"}, (), ["val.json): 'Red' (did you mean 'red'?)", "train.json): 'red'"]),
        ({}, ("green",), ["val.json): 'green'", "train.json): nothing"]),
        ({"red": "blue"}, (), ["val.json): nothing", "train.json): 'red'"]),
    ],
)
def test_other_names_are_refused_before_training(tiny, data, names, more, parts):
    option = rewrite(data, "val.json", names=names, more=more)
    with pytest.raises(DataError) as caught:
        Trainer(load_config(str(tiny), [f"EvalDataset.{option}"]), evaluate=True)
    assert all(part in str(caught.value) for part in ["EvalDataset", "TrainDataset", *parts])


def test_unlabeled_images_may_have_any_categories(tiny_semi):
    option = rewrite(tiny_semi.parent / "unlabeled", "other.json", names={"red": "tree"}, more=("house",))
    trainer = Trainer(load_config(str(tiny_semi), [f"UnsupTrainDataset.{option}"]))
    assert trainer.reader.dataset.class_names == ["red", "blue"]


def test_pseudo_labels_are_judged_by_names(tiny_semi, log):
    folder = tiny_semi.parent / "unlabeled"
    cfg = load_config(str(tiny_semi), [f"UnsupTrainDataset.{rewrite(folder, 'other.json', ids=OTHER_ORDER)}"])
    labeled = build_dataset(cfg, "TrainDataset")
    truth = read_truth(build_dataset(cfg, "UnsupTrainDataset"), labeled)
    expected = read_truth(build_dataset(load_config(str(tiny_semi)), "UnsupTrainDataset"), labeled)
    assert truth and {k: v[1].tolist() for k, v in truth.items()} == {k: v[1].tolist() for k, v in expected.items()}


def test_weights_remember_their_classes(finished, tmp_path):
    for name in ("0", "snapshot_6", "model_final", "best_model"):
        known = classes_of_weights(str(finished.folder / name))
        assert (known.names, known.category_ids) == (["red", "blue"], [3, 7]), name
    assert classes_of_weights(finished.folder / "model_final.pdparams").names == ["red", "blue"]
    assert classes_of_checkpoint(finished.folder / "0").names == ["red", "blue"]
    shutil.copy(finished.folder / "model_final.pdparams", tmp_path / "alone.pdparams")
    assert classes_of_weights(tmp_path / "alone") is None


def test_a_copy_of_both_files_remembers_and_other_weights_under_the_name_do_not(finished, tmp_path):
    for suffix in (".pdparams", ".json"):
        shutil.copy(finished.folder / f"best_model{suffix}", tmp_path / f"mine.v2{suffix}")
    assert classes_of_weights(tmp_path / "mine.v2").names == ["red", "blue"]
    (tmp_path / "mine.v2.pdparams").write_bytes((finished.folder / "0.pdparams").read_bytes() + b" ")
    assert classes_of_weights(tmp_path / "mine.v2") is None


def test_what_is_beside_the_best_weights_is_no_checkpoint(finished):
    folder = RunFolder(finished.folder, keep_every=1)
    folder.read_run()
    assert "best_model" not in {prefix.name for prefix in folder.checkpoints(warn=True)}
    assert read_manifest(finished.folder / "best_model.json") is None
    with pytest.raises(CheckpointError, match="weights of the best epoch without training state"):
        Trainer(load_config(str(finished.path)), resume=str(finished.folder / "best_model"))


def test_safetensors_carry_them_wherever_they_go(tiny, tmp_path):
    trainer = Trainer(load_config(str(tiny), ["weights_format=safetensors"]))
    best = trainer.folder.save_best(trainer.model.state_dict())
    best = best.rename(tmp_path / "mine.safetensors")
    assert classes_of_weights(tmp_path / "mine").category_ids == [3, 7]
    best.write_bytes(best.read_bytes()[:100])
    assert classes_of_weights(best) is None, "who reads the arrays says what is wrong"


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"classes": None},
        {"classes": {"names": "ab"}},
        {"classes": {"names": ["a"], "category_ids": [1]}, "files": {}},
        {"classes": {"names": ["a"], "category_ids": [1]}, "files": None},
        {"classes": {"names": [], "category_ids": []}},
        {"classes": {"names": ["a"], "category_ids": []}},
        {"classes": {"names": ["a"], "category_ids": ["1"]}},
    ],
)
def test_what_is_no_list_of_classes_is_none(tmp_path, content):
    (tmp_path / "w.pdparams").touch()
    files = {".pdparams": fingerprint(tmp_path / "w.pdparams")}
    write_sealed(tmp_path / "w.json", {"files": files, "classes": {"names": ["a"], "category_ids": [1]}})
    assert classes_of_weights(tmp_path / "w").names == ["a"]
    write_sealed(tmp_path / "w.json", {"files": files, **content})
    assert classes_of_weights(tmp_path / "w") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"categories": [], "images": []}'])
def test_any_other_json_beside_weights_is_none(tmp_path, text):
    (tmp_path / "w.pdparams").touch()
    (tmp_path / "w.json").write_text(text)
    assert classes_of_weights(tmp_path / "w") is None


@pytest.mark.parametrize(
    ("text", "level", "line"),
    [
        (None, "INFO", "{prefix}: these weights do not name their classes: the data set's order of classes is used"),
        ("{{}", "WARNING", "{prefix}.json is damaged, cannot be read, or belongs to other weights: "),
        ("[[[[1]]]]", "WARNING", "{prefix}.json is damaged, cannot be read, or belongs to other weights: "),
        ("other weights", "WARNING", "{prefix}.json is damaged, cannot be read, or belongs to other weights: "),
    ],
)
def test_why_weights_name_no_classes_is_told(finished, tmp_path, log, text, level, line):
    prefix = tmp_path / "mine"
    shutil.copy(finished.folder / "best_model.pdparams", f"{prefix}.pdparams")
    if text == "other weights":
        shutil.copy(finished.folder / "0.json", f"{prefix}.json")
    elif text:
        Path(f"{prefix}.json").write_text(text)
    log.clear()
    assert build_trained_model(load_config(str(finished.path), [f"weights={prefix}"])).trained_classes is None
    [record] = [record for record in log.records if record.name == "ppdet.engine.checkpoints.class_names"]
    assert record.levelname == level and record.getMessage().startswith(line.format(prefix=prefix))


def test_evaluation_maps_by_name_what_weights_remember(trained):
    path, options, _, data = trained
    numbers = []
    for ids in ({}, OTHER_ORDER):
        option = rewrite(data, "val.json", ids=ids)
        low = ["FCOSHead.nms.score_threshold=0.0", "FCOSHead.nms.keep_top_k=40"]
        cfg = load_config(str(path), [*options, f"EvalDataset.{option}", *low])
        evaluator = Evaluator(cfg, classwise=True)
        numbers.append((evaluator(), evaluator.metric.classwise_results()))
        assert evaluator.metric.category_ids == [ids.get(3, 3), ids.get(7, 7)]
    assert numbers[0] == numbers[1]
    assert len(evaluator.metric.detections), "of which there are some"


def test_other_names_at_evaluation_are_one_warning(trained, log):
    path, options, folder, data = trained
    option = rewrite(data, "val.json", names={"red": "rot"}, ids=OTHER_ORDER)
    cfg = load_config(str(path), [*options, f"EvalDataset.{option}"])
    evaluator, model = Evaluator(cfg), build_trained_model(cfg)
    for _ in range(2):
        evaluator(model)
    warnings = [r.getMessage() for r in log.records if r.levelname == "WARNING" and "other classes" in r.getMessage()]
    assert len(warnings) == 1
    assert "val.json): 'rot'" in warnings[0] and f"weights {folder}/model_final.pdparams: 'red'" in warnings[0]
    assert evaluator.metric.class_names == ["blue", "rot"], "as the data set itself has them"


def test_each_checkpoint_is_evaluated_in_its_own_order(trained):
    path, options, folder, data = trained
    cfg = load_config(str(path), [*options, f"EvalDataset.{rewrite(data, 'val.json', ids=OTHER_ORDER)}"])
    evaluator, model = Evaluator(cfg), build_trained_model(cfg)
    original = shutil.copy(folder / "model_final.json", folder / "original.json")
    orders = []
    for names in (["red", "blue"], ["blue", "red"], None):
        content = {"names": names, "category_ids": [1, 2]}
        files = read_manifest(original).files
        write_sealed(folder / "model_final.json", {"files": files, "classes": content} if names else {})
        evaluate_once(folder / "model_final.pdparams", len(orders), str(names), model, evaluator)
        orders.append((evaluator.metric.class_names, evaluator.metric.category_ids))
    assert orders == [(["red", "blue"], [30, 5]), (["blue", "red"], [5, 30]), (["blue", "red"], [5, 30])]


def test_inference_names_what_the_weights_mean(trained, log):
    path, options, _, data = trained
    option = rewrite(data, "other.json", ids=OTHER_ORDER)
    predictor = Predictor(load_config(str(path), [*options, f"TestDataset.{option}"]))
    assert (predictor.dataset.class_names, predictor.dataset.category_ids) == (["red", "blue"], [30, 5])
    (data / "names.txt").write_text("blue\nred\n")
    predictor = Predictor(load_config(str(path), [*options, "TestDataset.anno_path=names.txt"]))
    assert (predictor.dataset.class_names, predictor.dataset.category_ids) == (["red", "blue"], [3, 7])
    predictor = Predictor(load_config(str(path), [*options, "TestDataset.anno_path=null"]))
    assert (predictor.dataset.class_names, predictor.dataset.category_ids) == (["red", "blue"], [3, 7])
    assert "WARNING" not in log.text


def test_exports_name_what_the_weights_mean(trained, tmp_path):
    path, options, _, data = trained
    option = rewrite(data, "other.json", ids=OTHER_ORDER)
    folder = export_model(load_config(str(path), [*options, f"TestDataset.{option}"]), str(tmp_path / "export"))
    settings = yaml.safe_load((folder / "infer_cfg.yml").read_text())
    assert (settings["label_list"], settings["category_ids"]) == (["red", "blue"], [30, 5])
    detector = Detector(folder)
    assert (detector.class_names, detector.category_ids) == (["red", "blue"], [30, 5])


def test_a_resumed_run_keeps_its_order(trained, log):
    path, options, folder, data = trained
    for option, found in ((rewrite(data, "a.json", ids=OTHER_ORDER), [30, 5]), ("anno_path=train.json", [3, 7])):
        cfg = load_config(str(path), [*options, "epoch=3", f"TrainDataset.{option}"])
        trainer = Trainer(cfg, resume=str(folder / "model_final"))
        dataset = trainer.reader.dataset
        assert (dataset.class_names, dataset.category_ids) == (["red", "blue"], found)
        assert trainer.folder.classes == classes_of(dataset, "TrainDataset")
    assert log.text.count("numbers its classes differently from the checkpoint") == 1
    option = rewrite(data, "b.json", names={"red": "rot"})
    with pytest.raises(DataError, match=r"b\.json\): 'rot'; only in the checkpoint .*model_final: 'red'"):
        Trainer(load_config(str(path), [*options, f"TrainDataset.{option}"]), resume=str(folder / "model_final"))


def test_checkpoints_of_earlier_versions_resume_and_evaluate(trained, log):
    path, options, folder, data = trained
    manifest = {k: v for k, v in read_sealed(folder / "model_final.json").items() if k != "classes"}
    write_sealed(folder / "model_final.json", manifest)
    option = rewrite(data, "a.json", ids=OTHER_ORDER)
    cfg = load_config(str(path), [*options, "epoch=3", f"TrainDataset.{option}"])
    trainer = Trainer(cfg, resume=str(folder / "model_final"))
    assert trainer.epoch == 2 and trainer.reader.dataset.class_names == ["blue", "red"]
    assert build_trained_model(cfg).trained_classes is None
    assert log.text.count("these weights do not name their classes: the data set's order of classes is used") == 1
    predictor = Predictor(load_config(str(path), [*options, f"TestDataset.{option}"]))
    assert predictor.dataset.class_names == ["blue", "red"] and "other classes" not in log.text


def test_a_detector_to_start_from_that_numbers_the_same_classes_differently_is_told(trained, log):
    path, options, folder, data = trained
    begin = [*options, f"pretrain_weights={folder}/best_model"]
    Trainer(load_config(str(path), begin))
    Trainer(load_config(str(path), [*begin, f"TrainDataset.{rewrite(data, 'b.json', names={'red': 'rot'})}"]))
    assert "number the same classes" not in log.text, "fine-tuning for other classes is what people do"
    Trainer(load_config(str(path), [*begin, f"TrainDataset.{rewrite(data, 'a.json', ids=OTHER_ORDER)}"]))
    assert "number the same classes in different ways ('blue', 'red'; 'red', 'blue')" in log.text


def test_a_teacher_of_other_classes_is_told(tiny_semi, log):
    cfg = load_config(str(tiny_semi))
    trainer = Trainer(cfg)
    trainer.folder.path.mkdir(parents=True)
    start = [f"pretrain_weights={trainer.folder.save_best(trainer.model.state_dict())}"]
    Trainer(load_config(str(tiny_semi), start))
    assert "will label" not in log.text
    option = rewrite(tiny_semi.parent / "data", "b.json", names={"red": "rot"})
    Trainer(load_config(str(tiny_semi), [*start, f"TrainDataset.{option}"]))
    assert "other classes, which it will label: only in TrainDataset" in log.text


def test_models_without_a_memory_are_evaluated_as_before(tiny):
    evaluator = Evaluator(load_config(str(tiny)))
    assert not hasattr(paddle.nn.Linear(1, 1), "trained_classes")
    assert evaluator(Oracle(evaluator))["AP"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    "classes",
    [
        {"names": ["a" * 201], "category_ids": [1]},
        {"names": [str(i) for i in range(50_001)], "category_ids": list(range(50_001))},
        {"names": ["a"], "category_ids": [2**63]},
        {"names": ["a"], "category_ids": [True]},
        {"names": ["a", 5], "category_ids": [1, 2]},
        {"names": {"a": 1}, "category_ids": [1]},
        ["a"],
    ],
    ids=range(7),
)
def test_classes_that_no_data_set_has(tmp_path, classes):
    """As if the weights did not name their classes: in the manifest, and in the header."""
    path = tmp_path / "w.safetensors"
    save_weights({"a": paddle.ones([1])}, path, metadata={"classes": json.dumps(classes)})
    write_sealed(tmp_path / "w.json", {"classes": classes, "files": {".safetensors": fingerprint(path)}})
    assert classes_of_weights(path) is None
