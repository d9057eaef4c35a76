"""Files with another number of classes than the weights are answered with both lists; lists of names get their ids."""

import pytest
import yaml
from tiny import rewrite

from ppdet.core.workspace import load_config
from ppdet.engine.build import build_trained_model
from ppdet.engine.evaluator import Evaluator
from ppdet.engine.export.graph import export_model
from ppdet.engine.predictor import Predictor
from ppdet.engine.runs.analysis import evaluate_checkpoints
from ppdet.utils.errors import ConfigError, DataError


def other_files(data):
    """The option for anno_path, the classes only in this file, and the classes only in the weights."""
    (data / "one.txt").write_text("red\n")
    (data / "three.txt").write_text("blue\nred\ngreen\n")
    yield rewrite(data, "new.json", more=("green",)), "'green'", "nothing"
    yield (
        rewrite(data, "other.json", names={"red": "Red"}, more=("green",)),
        "'Red' (did you mean 'red'?), 'green'",
        ("'red'"),
    )
    yield "anno_path=one.txt", "nothing", "'blue'"
    yield "anno_path=three.txt", "'green'", "nothing"


@pytest.mark.parametrize("number", range(4))
def test_another_number_of_classes_lists_both_sides(trained, tmp_path, number):
    path, options, folder, data = trained
    option, theirs, ours = list(other_files(data))[number]
    both = (
        f"only in {{}} ({data / option.partition('=')[2]}): {theirs}; only in the weights {folder}/model_final.pdparams"
    )
    test = load_config(str(path), [*options, f"TestDataset.{option}"])
    attempts = [("TestDataset", Predictor, test), ("TestDataset", lambda cfg: export_model(cfg, str(tmp_path)), test)]
    if option.endswith("json"):
        val = load_config(str(path), [*options, f"EvalDataset.{option}"])
        attempts.append(("EvalDataset", Evaluator, val))
        # Checkpoints of a folder remember them too; which is named there is no matter.
        with pytest.raises(DataError, match=rf"only in EvalDataset .*; only in the weights {folder}/.*: {ours} "):
            evaluate_checkpoints(
                [load_config(val.path, [*options[:-2], "weights=null", f"EvalDataset.{option}"])], [folder]
            )
    for slot, attempt, cfg in attempts:
        with pytest.raises(DataError) as error:
            attempt(cfg)
        assert str(error.value).startswith(f"the classes differ: {both.format(slot)}: {ours} (names are compared")
        assert f"set {slot}.anno_path to the file that the weights were trained on" in str(error.value)


def test_num_classes_alone_does_not_make_them_fit(trained):
    path, options, folder, data = trained
    option = f"EvalDataset.{rewrite(data, 'new.json', more=('green',))}"
    cfg = load_config(str(path), [*options, option, "num_classes=3"])
    Evaluator(cfg)
    with pytest.raises(ConfigError) as error:
        build_trained_model(cfg)
    said = f"num_classes is 3, but the weights {folder}/model_final.pdparams have 2 classes ('red', 'blue'): set "
    assert str(error.value).startswith(f"{said}num_classes=2")


@pytest.mark.parametrize("weights", ["null", "nowhere/model_final", "https://example.invalid/w.pdparams"])
def test_weights_that_are_not_here_are_not_asked(trained, weights):
    path, options, _, data = trained
    (data / "one.txt").write_text("red\n")
    with pytest.raises(ConfigError, match=r"one.txt has 1 classes \(red\), but num_classes is 2"):
        Predictor(load_config(str(path), [*options, f"weights={weights}", "TestDataset.anno_path=one.txt"]))


@pytest.mark.parametrize(
    ("names", "labels"),
    [("blue\nred\n", ["red", "blue"]), ("red\nblue\n", ["red", "blue"]), ("rot\nblau\n", ["rot", "blau"])],
)
def test_lists_of_names_get_the_ids_of_the_weights(trained, tmp_path, names, labels):
    path, options, folder, data = trained
    (data / "names.txt").write_text(names)
    cfg = load_config(str(path), [*options, "TestDataset.anno_path=names.txt"])
    exported = yaml.safe_load((export_model(cfg, str(tmp_path / "export")) / "infer_cfg.yml").read_text())
    assert (exported["label_list"], exported["category_ids"]) == (labels, [3, 7])
    dataset = Predictor(cfg).dataset
    assert (dataset.class_names, dataset.category_ids) == (labels, [3, 7])
    # Weights without a memory know no ids, and a COCO file keeps its own.
    (folder / "model_final.json").unlink()
    dataset = Predictor(cfg).dataset
    assert (dataset.class_names, dataset.category_ids) == (names.split(), [0, 1])


def test_a_coco_file_keeps_its_own_ids(trained):
    path, options, _, data = trained
    option = rewrite(data, "zero.json", ids={3: 1, 7: 0})
    dataset = Predictor(load_config(str(path), [*options, f"TestDataset.{option}"])).dataset
    assert (dataset.class_names, dataset.category_ids) == (["red", "blue"], [1, 0])
