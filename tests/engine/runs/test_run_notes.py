"""What a run's own numbers say about it, and what they do not."""

import json
import shutil

import cv2
import numpy as np
import pytest
from oracle import Oracle

from ppdet.core.workspace import load_config
from ppdet.engine.hooks.history import HISTORY
from ppdet.engine.hooks.run_summary import training_ap
from ppdet.engine.runs.run_notes import DataFacts, needs_training_ap, run_notes
from ppdet.engine.trainer import Trainer


def facts(**changes):
    return DataFacts(
        **{
            "names": ["car", "bus"],
            "boxes": np.array([900, 80]),
            "trained": 205,
            "evaluated": 500,
            "undetected": [],
            **changes,
        }
    )


def notes(values, more=None, **changes):
    evaluations = {epoch: {"AP": value, **(more or {})} for epoch, value in enumerate(values, start=1)}
    return "\n".join(run_notes(evaluations, len(values), facts(**changes)))


def test_the_result_names_the_data():
    text = notes([0.1, 0.4, 0.3])
    assert "of 1 class\none evaluation is too few" in notes([0.1], names=["car"], boxes=np.array([900]))
    assert text.startswith(
        "AP 0.400 after epoch 2 of 3, on 500 images; trained on 205 images with 980 boxes of 2 classes\n"
    )
    assert "3 evaluations are too few to tell whether AP was still rising" in text
    assert text.endswith("with half of them (TrainDataset.sample_num=102): they do if its AP is clearly lower")
    assert "on 40 images, too few for more than a rough figure; trained" in notes([0.1], evaluated=40)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.1, 0.2, 0.3, 0.35, 0.4, 0.45], "AP was still rising, by 0.100 in the last third: more epochs may help"),
        ([0.1, 0.3, 0.4, 0.4, 0.405, 0.4], "AP was flat in the last third: more epochs will bring little"),
        ([0.1, 0.3, 0.4, 0.38, 0.36, 0.35], "AP fell by 0.050 after epoch 3: use best_model"),
        ([0.0, 0.001, 0.01, 0.01], "almost nothing was learned: look at train_batch.jpg"),
    ],
)
def test_the_trend(values, expected):
    trends = ("still rising", "was flat", "fell by", "almost nothing")
    text = notes(values)
    assert expected in text and sum(text.count(word) for word in trends) == 1


def test_nothing_was_learned_or_nothing_that_holds_for_other_images():
    """The AP of the final weights on training images tells one from the other."""
    text = notes([0.0, 0.01], trained=4, on_training=(0.978, 4))
    assert "the training images were learned (AP 0.978 on 4 images of TrainDataset), so that boxes, learning" in text
    assert "4 images to train on are too few, or those of EvalDataset show something else: label more" in text
    assert "almost nothing" not in text and "train_batch.jpg" not in text
    text = notes([0.0, 0.01], on_training=(0.004, 20))
    assert "almost nothing was learned, not even of the training images (AP 0.004 on 20 images of Tr" in text
    assert "look at train_batch.jpg" in text
    assert not needs_training_ap({1: {"AP": 0.0}, 2: {"AP": 0.3}}) and needs_training_ap({1: {"AP": 0.01}})
    assert not needs_training_ap({}) and not needs_training_ap({1: {"AP": -1.0}})


def test_few_validation_images_cannot_compare_epochs():
    text = notes([0.1, 0.3, 0.4, 0.38, 0.36, 0.35], evaluated=1)
    assert "AP on 1 image is little more than chance and cannot compare epochs: best_model has the weights of " in text
    assert "epoch 3, model_final those of the last one" in text and "use best_model" not in text
    assert "use best_model" in notes([0.1, 0.3, 0.4, 0.38, 0.36, 0.35], evaluated=10)


def test_half_of_a_few_images_is_no_advice():
    text = notes([0.3], trained=1)
    assert "label more images: fewer than 20 are memorized" in text and "sample_num" not in text
    assert "trained on 1 image with" in text


def test_weak_sides():
    text = notes([0.3], {"AP50": 0.7, "AP75": 0.1, "APs": 0.05, "APl": 0.5})
    assert "not tight (AP50 0.700, AP75 0.100)" in text and "found worse (APs 0.050, APl 0.500)" in text
    text = notes([0.3], {"AP50": 0.5, "AP75": 0.3, "APs": -1.0, "APl": 0.5})  # there are no small objects
    assert "not tight" not in text and "found worse" not in text
    text = notes([0.3], boxes=np.array([900, 7]), undetected=["bus"])
    assert "no detection with a score of 0.3 or more of 'bus'" in text
    assert "fewer than 50 boxes to learn from: 'bus': label more of them, or let their images come more often" in text
    assert "repeat_threshold" not in notes([0.1], boxes=np.array([9, 8])), "no class is rarer than the others"
    assert "repeat_threshold" not in notes([0.1], boxes=np.array([900, 7]), trained=19), "too few images to repeat any"


def test_a_run_that_ended_early_says_so():
    evaluations = {epoch: {"AP": 0.0} for epoch in (3, 6, 9)}
    first = run_notes(evaluations, 30, facts(), trained=9)[0]
    assert first.startswith("AP 0.000 after epoch 9 of 30 (training ended early, after epoch 9), on 500 images")
    assert "ended" not in run_notes(evaluations, 9, facts(), trained=9)[0]


def test_without_a_usable_evaluation_nothing_is_said():
    assert run_notes({}, 3, facts()) == [] and run_notes({1: {"AP": -1.0}}, 1, facts()) == []


def test_a_run_ends_with_its_curves_and_notes(finished, tmp_path, log, monkeypatch):
    """The trainer of a finished run, which has nothing left to train."""
    monkeypatch.setattr("ppdet.engine.hooks.run_summary.FEWEST_STEPS", 8)
    options, folder = finished.copy_to(tmp_path / "output")
    trainer = Trainer(load_config(str(finished.path), options), evaluate=True, resume="auto")
    trainer.train()
    assert (folder / HISTORY).exists() and "nothing to train" in log.text
    picture = cv2.imread(str(folder / "curves.png"))
    assert picture.shape[1] > picture.shape[0] > 300 and len(np.unique(picture)) > 10
    assert f"curves of loss, learning rate and AP: {folder / 'curves.png'}" in log.text
    best = max(numbers["AP"] for _, numbers in finished.witness.evaluations)
    assert f"AP {best:.3f} after epoch 2 of 2, on 8 images, too few for more than a rough figure" in log.text
    assert "trained on 8 images with 16 boxes of 2 classes" in log.text


def test_a_run_whose_ap_is_zero_is_evaluated_on_its_training_images(finished, tmp_path, log):
    options, folder = finished.copy_to(tmp_path / "output")
    history = folder / HISTORY
    lines = [json.loads(line) for line in history.read_text().splitlines()]
    for line in lines:
        if line["event"] == "evaluation":
            line["numbers"]["AP"] = 0.0
            line["undetected"] = ["blue"]
    history.write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = finished.path.parent / "data"
    shutil.copy(data / "train.json", tmp_path / "val.json")
    options += [f"EvalDataset.anno_path={tmp_path / 'val.json'}"]
    trainer = Trainer(load_config(str(finished.path), options), evaluate=True, resume="auto")
    value, count = training_ap(trainer, trainer.evaluator)
    assert 0 <= value < 0.1 and count == 8
    trainer.model = Oracle(trainer.evaluator)
    trainer.train()
    assert "the training images were learned (AP 1.000 on 8 images of TrainDataset)" in log.text
    assert "no detection with a score of 0.3 or more of 'blue'" in log.text  # by the process that evaluated
    trainer.evaluator.dataset.anno_path = trainer.reader.dataset.anno_path
    assert training_ap(trainer, trainer.evaluator) is None  # AP is that of the training images already


def test_short_runs_have_no_curves(finished):
    assert not (finished.folder / "curves.png").exists()
