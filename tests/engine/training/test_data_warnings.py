"""What looks wrong with data is one warning each, told by whoever trains or evaluates, on rank 0."""

import json
import shutil
from types import SimpleNamespace

import paddle
import pytest
from tiny import write_tiny_coco

from ppdet.core.workspace import load_config
from ppdet.data.classes import Classes
from ppdet.engine.build import build_train_reader
from ppdet.engine.distributed import collectives
from ppdet.engine.evaluator import Evaluator
from ppdet.engine.hooks import PositivesHook
from ppdet.engine.trainer import Trainer
from ppdet.engine.training.dry_run import dry_run
from ppdet.utils.errors import DataError


@pytest.fixture
def data(tiny):
    """The data set with 24 images to train on, and 12 others to evaluate on."""
    folder = tiny.parent / "data"
    write_tiny_coco(folder, images=24)
    write_tiny_coco(folder / "other", images=12, seed=7)
    return folder


def edited(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def each_box(change):
    def edit(content):
        for annotation in content["annotations"]:
            annotation["bbox"] = change(*annotation["bbox"])

    return edit


def warnings(log):
    return [r.getMessage() for r in log.records if r.levelname == "WARNING"]


def evaluated(data):
    """Overrides that evaluate on the other images."""
    return [f"EvalDataset.dataset_dir={data / 'other'}", "EvalDataset.allow_empty=true"]


def test_sound_data_is_not_told(tiny, data, log):
    Trainer(load_config(str(tiny), evaluated(data)), evaluate=True)
    assert warnings(log) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (each_box(lambda x, y, w, h: [x, y, x + w, y + h]), "the boxes look like [x1, y1, x2, y2]"),
        (each_box(lambda x, y, w, h: [x / 128, y / 96, w / 128, h / 96]), "boxes lie in 0..1, as shares of the image"),
        (lambda c: c["annotations"][0].update(image_id=99), "annotations belong to images that the file does not list"),
        (lambda c: c["annotations"][0].update(bbox=[5, 5, 0, 0]), "boxes cannot be used (1 without area), e.g. [5, 5,"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, None, 4]), "boxes cannot be used (1 null or not numbers)"),
        (lambda c: c["annotations"][0].update(bbox=[500, 5, 9, 9]), "boxes cannot be used (1 outside of their image)"),
        (lambda c: [a.update(category_id=7) for a in c["annotations"]], "1 of 2 classes have no box: 'red'"),
    ],
)
@pytest.mark.parametrize("slot", ["TrainDataset", "EvalDataset"])
def test_each_mistake_is_one_warning(tiny, data, log, slot, change, text):
    path = (data if slot == "TrainDataset" else data / "other") / "train.json"
    edited(path, change)
    cfg = load_config(str(tiny), evaluated(data))
    build_train_reader(cfg)
    Evaluator(cfg)
    (line,) = warnings(log)
    assert line.startswith(f"{slot} ({path}): ") and text in line


def test_three_pictures(tiny, data, log):
    few = ["TrainDataset.sample_num=3", *evaluated(data), "EvalDataset.sample_num=2"]
    Trainer(load_config(str(tiny), few), evaluate=True)
    train, val = warnings(log)
    assert "only 3 images to train on" in train and "only 2 images to evaluate on" in val


def test_validation_on_the_training_file(tiny, data, log):
    edited(data / "train.json", lambda c: c["annotations"][0].update(image_id=99))
    Trainer(load_config(str(tiny)), evaluate=True)
    first, second = warnings(log)
    assert "does not list" in first, "and once only, though both read the file"
    assert second.startswith(f"EvalDataset and TrainDataset are the same file, {data / 'train.json'}")


def test_training_images_among_those_of_validation(tiny, data, log):
    shutil.copytree(data / "images", data / "copied")
    edited(data / "train.json", lambda c: c["images"].__delitem__(slice(20, None)))
    edited(data / "train.json", lambda c: c.update(annotations=[a for a in c["annotations"] if a["image_id"] <= 20]))
    shutil.copy(data / "train.json", data / "val.json")
    for folder in ("images", "copied"):
        log.clear()
        cfg = load_config(str(tiny), ["EvalDataset.anno_path=val.json", f"EvalDataset.image_dir={folder}"])
        Trainer(cfg, evaluate=True)
        (line,) = warnings(log)
        assert line.startswith(f"20 of the 20 images of EvalDataset are TrainDataset's too, e.g. {data / folder}/0")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c.update(annotations=[]), "it has no annotations"),
        (each_box(lambda x, y, w, h: [x, y, 0, 0]), "boxes cannot be used"),
        (lambda c: [a.update(image_id=99) for a in c["annotations"]], "does not list"),
        (lambda c: [a.update(iscrowd=1) for a in c["annotations"]], "45 marked iscrowd, which load_crowd"),
        (lambda c: [a.update(ignore=1) for a in c["annotations"]], "45 marked ignore, which are never trained on"),
        (lambda c: [a.update(ignore=i % 2, bbox=None) for i, a in enumerate(c["annotations"])], "22 marked ignore"),
        (lambda c: [a.update(ignore=i % 2, bbox=None) for i, a in enumerate(c["annotations"])], "23 null or not"),
    ],
)
def test_nothing_to_learn_from_is_an_error(tiny, data, change, text):
    edited(data / "train.json", change)
    with pytest.raises(DataError, match="none of its 24 images has a usable box: there is nothing to learn") as caught:
        build_train_reader(load_config(str(tiny), ["TrainDataset.allow_empty=true"]))
    assert text in str(caught.value) and str(data / "train.json") in str(caught.value)


def test_marked_annotations_may_be_without_a_box(tiny, data, log):
    """As the crowds of some tools, which have a mask alone; they are left out anyway."""
    edited(data / "train.json", lambda c: [c["annotations"][i].update({k: 1, "bbox": None}) for i, k in MARKS])
    build_train_reader(load_config(str(tiny)))
    assert warnings(log) == []
    build_train_reader(load_config(str(tiny), ["TrainDataset.load_crowd=true"]))
    (line,) = warnings(log)
    assert "1 of 44 boxes cannot be used (1 null or not numbers)" in line, "now it is wanted"


MARKS = [(0, "iscrowd"), (1, "ignore")]


def test_only_training_is_told_to_leave_out_a_class(tiny, data, log):
    """A category less would be an error in the file that is evaluated."""
    edited(data / "other" / "train.json", lambda c: [a.update(category_id=7) for a in c["annotations"]])
    Evaluator(load_config(str(tiny), evaluated(data)))
    assert warnings(log)[0].endswith("1 of 2 classes have no box: 'red': AP leaves them out")


@pytest.mark.parametrize("size", [(96, 128), (64, 48), (30, 20)])
def test_wrong_sizes_are_no_fault_of_the_boxes(tiny, data, log, size):
    """The images themselves are asked where boxes leave them; Decode tells of the sizes."""
    edited(data / "train.json", lambda c: [i.update(width=size[0], height=size[1]) for i in c["images"]])
    build_train_reader(load_config(str(tiny)))
    assert warnings(log) == []


def test_wrong_sizes_of_more_images_than_are_looked_at(tiny, data, log, monkeypatch):
    monkeypatch.setattr("ppdet.data.sources.coco_boxes.MAX_FILES", 5)
    edited(data / "train.json", lambda c: [i.update(width=30, height=20) for i in c["images"]])
    build_train_reader(load_config(str(tiny)))
    assert warnings(log) == []


def test_unlabeled_images_need_no_boxes(tiny_semi, log):
    edited(tiny_semi.parent / "unlabeled" / "train.json", lambda c: c.update(annotations=[]))
    build_train_reader(load_config(str(tiny_semi)))
    assert [line for line in warnings(log) if "only 8 images to train on" not in line] == []


def test_unlabeled_images_among_those_of_validation(tiny_semi, log):
    folder = tiny_semi.parent / "unlabeled"
    content = json.loads((folder / "train.json").read_text())
    content.update(images=content["images"][:3])
    content.update(annotations=[a for a in content["annotations"] if a["image_id"] <= 3])
    (folder / "val.json").write_text(json.dumps(content))
    places = [f"EvalDataset.dataset_dir={folder}", "EvalDataset.anno_path=val.json"]
    Trainer(load_config(str(tiny_semi), places), evaluate=True)
    told = [line for line in warnings(log) if "images of EvalDataset" in line]
    assert len(told) == 1 and told[0].startswith("3 of the 3 images of EvalDataset are UnsupTrainDataset's too, e.g. ")


def test_without_allow_empty_the_error_says_what_is_wrong_with_the_boxes(tiny, data):
    sound = (data / "train.json").read_text()
    for change, text in (
        (lambda c: [a.update(image_id=99) for a in c["annotations"]], "does not list, e.g. image_id 99"),
        (each_box(lambda x, y, w, h: [x, y, 0, 0]), "cannot be used"),
        (lambda c: c.update(annotations=[]), "it has no annotations"),
        (lambda c: [a.update(ignore=1) for a in c["annotations"]], "45 marked ignore, which are never trained on"),
    ):
        (data / "train.json").write_text(sound)
        edited(data / "train.json", change)
        with pytest.raises(DataError, match="no image is left to use") as caught:
            build_train_reader(load_config(str(tiny)))
        assert text in str(caught.value) and "see allow_empty" not in str(caught.value)


def test_evaluation_without_annotations_is_told_unless_only_detections_are_wanted(tiny, data, log):
    edited(data / "other" / "train.json", lambda c: c.update(annotations=[]))
    cfg = load_config(str(tiny), evaluated(data))
    Evaluator(cfg, predictions_only=True)
    assert warnings(log) == []
    Evaluator(cfg)
    (line,) = warnings(log)
    assert "it has no annotations: nothing can be learned from it, and AP is undefined (-1)" in line


def test_other_ranks_are_silent(tiny, data, log, monkeypatch):
    edited(data / "train.json", lambda c: c["annotations"][0].update(image_id=99))
    monkeypatch.setattr(collectives, "rank", lambda: 1)
    monkeypatch.setattr(collectives, "world_size", lambda: 2)
    build_train_reader(load_config(str(tiny)))
    assert warnings(log) == [] and PositivesHook().done


def test_steps_without_a_positive_are_told(tiny, data, log):
    edited(data / "train.json", each_box(lambda x, y, w, h: [x / 128, y / 96, w / 128, h / 96]))
    cfg = load_config(str(tiny), ["epoch=1", "TrainDataset.sample_num=4"])
    found = dry_run(Trainer(cfg))
    assert found["positives"] == 0 < found["boxes"]
    assert f"no location was positive in the first 1 steps (2 images with {found['boxes']} boxes)" in log.text
    log.clear()
    Trainer(cfg).train()
    told = [line for line in warnings(log) if "no location was positive" in line]
    assert len(told) == 1 and "in the first 2 steps (4 images with " in told[0] and "train_batch.jpg" in told[0]


class Steps:
    """What PositivesHook asks of a trainer, for steps with these positives and boxes."""

    def __init__(self, positives, boxes, log_iter):
        labels = [[0] * boxes + [-1] * (3 - boxes), [-1] * 3]
        self.batches = [{"im_id": paddle.to_tensor([1, 2]), "gt_class": paddle.to_tensor(labels)}]
        self.losses = {"positives": paddle.to_tensor([0, positives])}
        self.step, self.log_iter = 0, log_iter

    @property
    def is_log_step(self):
        return self.step % self.log_iter == 0


@pytest.mark.parametrize(
    ("positives", "boxes", "interval", "told_after"),
    [(0, 2, 1, 10), (0, 2, 20, 21), (1, 2, 1, None), (0, 0, 1, 100), (0, 0, 7, 106)],
)
def test_when_missing_positives_are_told(log, positives, boxes, interval, told_after):
    hook, trainer, told = PositivesHook(), Steps(positives, boxes, interval), []
    for trainer.step in range(150):
        hook.after_step(trainer)
        told += [trainer.step + 1] * (len(warnings(log)) - len(told))
    assert told == ([told_after] if told_after else [])
    if told_after:
        number = f"in the first {told_after} steps ({2 * told_after} images with {boxes * told_after} boxes)"
        assert number in warnings(log)[0]


def test_boxes_in_lists_and_losses_without_positives(log):
    lists = {"im_id": [1, 2], "gt_class": [paddle.zeros([2, 1]), paddle.zeros([0, 1])]}
    hook = PositivesHook(steps=1)
    hook.after_step(SimpleNamespace(losses={}, batches=[lists], is_log_step=True))
    assert hook.steps == 0
    hook.after_step(SimpleNamespace(losses={"positives": paddle.zeros([1])}, batches=[lists], is_log_step=True))
    assert "(2 images with 2 boxes)" in warnings(log)[0]


def test_an_empty_file_is_told_once_by_evaluation(tiny, data, log):
    edited(data / "other" / "train.json", lambda c: c.update(annotations=[]))
    evaluator = Evaluator(load_config(str(tiny), evaluated(data)))
    evaluator.metric.update([], [0] * 12, range(1, 13))
    assert evaluator.metric.compute()["AP"] == -1
    assert ["it has no annotations" in line for line in warnings(log)] == [True]


def test_classes_of_several_checkpoints_of_one_run_are_told_once(tiny, data, log):
    evaluator = Evaluator(load_config(str(tiny), evaluated(data)))
    for epoch in range(3):
        evaluator.use_classes(Classes(["red", "green"], [3, 7], f"the weights {epoch}.pdparams"))
    (line,) = warnings(log)
    assert "the weights were trained on other classes" in line
    evaluator.use_classes(Classes(["red", "black"], [3, 7], "others"))
    assert len(warnings(log)) == 2


def test_an_evaluation_of_crowds_alone_is_told(tiny, data, log):
    edited(data / "other" / "train.json", lambda c: [a.update(iscrowd=1) for a in c["annotations"]])
    Evaluator(load_config(str(tiny), [f"EvalDataset.dataset_dir={data / 'other'}"]))
    (line,) = warnings(log)
    assert line.endswith("are marked iscrowd; detections in crowd boxes are ignored: AP is undefined (-1)")
