"""Measuring the teacher's pseudo-labels: what is selected, and what a run logs and draws."""

import json

import cv2
import numpy as np
import paddle
import pytest
from tiny import TINY_SEMI_YAML, TINY_YAML, write_tiny_coco

from ppdet.core.workspace import load_config
from ppdet.engine.hooks import Hook, PseudoLabelHook, pseudo_labels
from ppdet.engine.hooks.history import HISTORY, PSEUDO_LABELS, read_history
from ppdet.engine.hooks.pseudo_labels import select
from ppdet.engine.runs.analysis import read_run, table
from ppdet.engine.trainer import Trainer
from ppdet.modeling.architectures.base import DenseMaps
from ppdet.utils.locations import Locations

KEYS = ["fg_sum", "mean_score", "precision", "recall", "box_iou"]


def write_semi(folder):
    data = write_tiny_coco(folder / "data")
    path = folder / "tiny.yml"
    text = TINY_YAML + TINY_SEMI_YAML.replace("ema_decay: 0.9", "ema_decay: 0.5")
    text = text.replace("  sup_batch_size: 2", "  sup_batch_size: 4").replace(
        "unsup_batch_size: 3", "unsup_batch_size: 2"
    )
    path.write_text(text.format(output=folder / "output", data=data, unlabeled=data))
    return path


class Witness(Hook):
    def __init__(self):
        self.looks = []

    def after_pseudo_labels(self, trainer, figures, picture):
        self.looks.append((trainer.iteration, figures, picture))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Configuration, folder and witness of two epochs of two steps; the last is not one of snapshot_epoch's."""
    pytest.importorskip("visualdl")
    pytest.importorskip("tensorboardX")
    folder = tmp_path_factory.mktemp("semi")
    path, witness = write_semi(folder), Witness()
    options = ["use_vdl=true", "use_tensorboard=true", "snapshot_iters=3"]
    Trainer(load_config(str(path), options), hooks=[witness]).train()
    return path, folder / "output" / "tiny", witness


@pytest.fixture
def semi(tmp_path):
    return write_semi(tmp_path)


def look(path, *options):
    """The trainer of a run that measures before its first step, its hook, and the recorded figures."""
    witness = Witness()
    trainer = Trainer(load_config(str(path), list(options)), hooks=[witness])
    hook = next(hook for hook in trainer.hooks if isinstance(hook, PseudoLabelHook))
    hook.measure_on_rank_0(trainer, trainer.epoch)
    return trainer, hook, witness.looks


@pytest.mark.parametrize("even", [False, True])
def test_selection_against_loops(even):
    rng = np.random.default_rng(0)
    strides, shift, ratio = [8, 16], 0.5, 0.1
    steps = [(8, 8), (32 // 2, 48 // 5) if even else (16, 16)]

    def made_up(images):
        shapes = [(images, 4, 6), (images, 2, 5)]
        return DenseMaps(
            [rng.normal(size=(n, 3, h, w)).astype("float32") for n, h, w in shapes],
            [rng.uniform(0, 50, (n, 4, h, w)).astype("float32") for n, h, w in shapes],
            [],
        )

    batches = [made_up(2), made_up(1)]
    rows, first = [], 0
    for batch in batches:
        for level, (down, across) in enumerate(steps):
            images, _, height, width = batch.logits[level].shape
            for n, i, j in np.ndindex(images, height, width):
                scores = 1 / (1 + np.exp(-batch.logits[level][n, :, i, j]))
                x, y = (j + shift) * across, (i + shift) * down
                left, top, right, bottom = batch.distances[level][n, :, i, j]
                box = (x - left, y - top, x + right, y + bottom)
                rows.append((first + n, level, scores.argmax(), scores.max(), x, y, *box))
        first += images
    expected = np.array(sorted(rows, key=lambda row: -row[3])[: int(len(rows) * ratio)])
    tensors = [DenseMaps(*([paddle.to_tensor(m) for m in field] for field in batch)) for batch in batches]
    chosen = select(tensors, ratio, Locations(tuple(strides), shift=shift, even=even))
    assert len(chosen.score) == 10 and len(set(chosen.image)) == 3 and set(chosen.level) == {0, 1}
    got = np.column_stack([chosen.image, chosen.level, chosen.label, chosen.score, chosen.points, chosen.boxes])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-4)
    assert len(select(tensors, 1e-6, Locations(tuple(strides), shift=shift)).score) == 1


def test_a_run_has_pictures_and_figures_of_its_checkpoints(run):
    _, folder, witness = run
    assert {path.name for path in (folder / "pseudo_labels").iterdir()} == {"epoch_0001.jpg", "epoch_0002.jpg"}
    assert [iteration for iteration, *_ in witness.looks] == [2, 4]
    lines = [line for line in read_history(folder / HISTORY) if line["event"] == PSEUDO_LABELS]
    assert [(line["iteration"], line["epoch"], line["step"]) for line in lines] == [(2, 1, 2), (4, 2, 2)]
    for line, (_, figures, picture) in zip(lines, witness.looks):
        assert list(line["figures"]) == KEYS
        assert line["figures"] == pytest.approx(figures)
        # 8 images of 96 x 128 have 16 * 12 + 8 * 6 + 4 * 3 locations each.
        assert figures["fg_sum"] == pytest.approx(figures["mean_score"] * int(8 * 252 * 0.05))
        written = cv2.imread(str(folder / "pseudo_labels" / f"epoch_{line['epoch']:04d}.jpg"))[..., ::-1]
        assert written.shape == picture.shape
        assert np.abs(written.astype(int) - picture).mean() < 4
    shown = table([read_run(folder, "run")])
    assert "pseudo-labels of run:" in shown and f"{witness.looks[0][1]['fg_sum']:12.3f}" in shown


def test_boards_have_them(run):
    from tensorboardX.proto.event_pb2 import Event
    from visualdl import LogReader

    _, folder, witness = run
    found = {}
    content = next((folder / "tensorboard").iterdir()).read_bytes()
    while content:
        length = int.from_bytes(content[:8], "little")
        event = Event.FromString(content[12 : 12 + length])
        content = content[16 + length :]
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value))
    reader = LogReader(file_path=str(next((folder / "vdl").iterdir())))
    for name in KEYS:
        expected = [(iteration, figures[name]) for iteration, figures, _ in witness.looks]
        values = [(step, value.simple_value) for step, value in found[f"pseudo_labels/{name}"]]
        np.testing.assert_allclose(values, expected, rtol=1e-5)
        np.testing.assert_allclose(
            [(record.id, record.value) for record in reader.get_data("scalar", f"pseudo_labels/{name}")],
            expected,
            rtol=1e-5,
        )
    height, width = witness.looks[0][2].shape[:2]
    images = [(step, value.image.encoded_image_string) for step, value in found["pseudo_labels/picture"]]
    records = reader.get_data("image", "pseudo_labels/picture")
    for pictures in (images, [(record.id, record.image.encoded_image_string) for record in records]):
        assert [step for step, _ in pictures] == [2, 4]
        picture = cv2.imdecode(np.frombuffer(pictures[0][1], np.uint8), cv2.IMREAD_COLOR)
        assert max(picture.shape) == 800
        expected = cv2.resize(witness.looks[0][2], picture.shape[1::-1], interpolation=cv2.INTER_AREA)[..., ::-1]
        assert np.abs(picture.astype(int) - expected).mean() < 0.5
        assert picture.shape[1] / picture.shape[0] == pytest.approx(width / height, rel=0.01)


@pytest.mark.parametrize(("resume", "names"), [("model_final", ["epoch_0002"]), ("snapshot_3", ["epoch_0001_step_1"])])
def test_a_resumed_run_looks_before_it_goes_on_and_its_history_has_that_once(run, resume, names, tmp_path):
    path, folder, witness = run
    options = [f"save_dir={tmp_path}"]
    trainer = Trainer(load_config(str(path), options), resume=str(folder / resume))
    assert trainer.hooks[-1].writes(trainer)[0] == f"pseudo_labels/{names[0]}.jpg"
    trainer.call_hooks("before_train")
    assert [p.stem for p in (tmp_path / "tiny" / "pseudo_labels").iterdir()] == names
    lines = [line for line in read_history(tmp_path / "tiny" / HISTORY) if line["event"] == PSEUDO_LABELS]
    assert [line["iteration"] for line in lines] == [2, trainer.iteration]
    if resume == "model_final":
        assert lines[-1]["figures"] == pytest.approx(witness.looks[-1][1], rel=1e-3)


def test_a_look_changes_nothing(semi):
    trainer, hook, looks = look(semi)
    teacher = trainer.method.layer.teacher
    before = {name: value.numpy() for name, value in [*trainer.model.state_dict().items()]}
    averaged = {name: value.numpy() for name, value in teacher.state_dict().items()}
    trainer.model.train()
    hook.measure_on_rank_0(trainer, 0)
    assert trainer.model.training and not teacher.training
    assert all((before[name] == value.numpy()).all() for name, value in trainer.model.state_dict().items())
    assert all((averaged[name] == value.numpy()).all() for name, value in teacher.state_dict().items())
    assert looks[0][1] == looks[1][1] and (looks[0][2] == looks[1][2]).all()


def test_the_first_images_with_annotations(semi):
    path = semi.parent / "data" / "train.json"
    content = json.loads(path.read_text())
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] not in (1, 4)]
    (path.parent / "some.json").write_text(json.dumps(content))
    trainer, hook, _ = look(semi, "UnsupTrainDataset.anno_path=some.json", "EvalReader.batch_size=3")
    assert [record["im_id"].item() for record in hook.reader.dataset.records] == [2, 3, 5, 6, 7, 8]
    fewer = PseudoLabelHook(epochs=1, images=2)
    fewer.measure_on_rank_0(trainer, 0)
    assert [record["im_id"].item() for record in fewer.reader.dataset.records] == [2, 3]
    for number, (boxes, classes) in hook.truth.items():
        own = [one for one in content["annotations"] if one["image_id"] == number]
        assert [[*box[:2], box[2] - box[0], box[3] - box[1]] for box in boxes.tolist()] == [o["bbox"] for o in own]
        assert [{3: 0, 7: 1}[one["category_id"]] for one in own] == classes.tolist()


def test_true_boxes_are_resized_with_their_image(semi, monkeypatch):
    given = []
    monkeypatch.setattr(pseudo_labels, "measure", lambda selected, truth: given.append(truth) or {"fg_sum": 1.0})
    resize = "{Resize: {target_size: [192, 64], keep_ratio: false}}"  # images are 96 x 128
    _, hook, _ = look(semi, f"EvalReader.sample_transforms=[{{Decode: {{}}}}, {resize}, {{Permute: {{}}}}]")
    for (boxes, _), (original, _) in zip(given[0], hook.truth.values()):
        np.testing.assert_allclose(boxes, original * [0.5, 2, 0.5, 2])


def test_true_boxes_are_clipped_to_their_image(semi, monkeypatch):
    """As in training, whatever size the file says: one reaches beyond the image of 96 x 128, one is outside of it."""
    given = []
    monkeypatch.setattr(pseudo_labels, "measure", lambda selected, truth: given.append(truth) or {"fg_sum": 1.0})
    path = semi.parent / "data" / "train.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        image.update(width=64, height=48)
    first = content["images"][0]["id"]
    boxes = [[100, 60, 50, 60], [130, 5, 20, 20]]
    content["annotations"] = [{"image_id": first, "category_id": 7, "iscrowd": 0, "bbox": box} for box in boxes]
    (path.parent / "beyond.json").write_text(json.dumps(content))
    look(semi, "UnsupTrainDataset.anno_path=beyond.json")
    found, classes = given[0][0]
    assert found.tolist() == [[100, 60, 128, 96]] and classes.tolist() == [1]


@pytest.mark.parametrize("kind", ["folder", "no annotations", "other classes"])
def test_without_labels(semi, kind, log):
    data = semi.parent / "data"
    content = json.loads((data / "train.json").read_text())
    if kind == "no annotations":
        del content["annotations"]
    else:
        content["categories"].append({"id": 9, "name": "green"})
    (data / "bare.json").write_text(json.dumps(content))
    _, _, looks = look(semi, f"UnsupTrainDataset.anno_path={'null' if kind == 'folder' else 'bare.json'}")
    assert list(looks[0][1]) == KEYS[:2]
    assert ("no annotation file" if kind == "folder" else "quality not measured") in log.text
    assert "of 8 images before training: fg_sum" in log.text


def test_images_that_cannot_be_read(semi, log):
    images = sorted((semi.parent / "data" / "images").iterdir())
    for path in images[:3]:
        path.write_bytes(b"no image")
    trainer, hook, looks = look(semi)
    assert "of 5 images before training" in log.text and len(looks) == 1
    for path in images:
        path.write_bytes(b"no image")
    hook.measure_on_rank_0(trainer, 1)
    assert "pseudo-labels could not be measured after epoch 1: none of the unlabeled images could be read" in log.text
    assert len(looks) == 1


@pytest.mark.parametrize("option", ["EvalReader.sample_transforms=[]", "EvalReader.batch_transforms=[]"])
def test_a_reader_that_does_not_fit_is_told(semi, option, log):
    for path in (semi.parent / "data" / "images").iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path))[:-3])
    _, _, looks = look(semi, option, "EvalDataset=null")
    assert not looks and log.text.count("pseudo-labels could not be measured before training: ") == 1
    assert ("EvalReader.sample_transforms is not set" if "sample" in option else "multiples of") in log.text


def test_a_picture_that_cannot_be_written_does_not_end_the_run(semi, tmp_path, log):
    (tmp_path / "output" / "tiny" / "pseudo_labels" / "epoch_0000.jpg" / "in the way").mkdir(parents=True)
    _, _, looks = look(semi)
    assert "epoch_0000.jpg could not be written" in log.text and len(looks) == 1


def test_what_a_run_will_write(semi):
    trainer, hook, _ = look(semi)
    hook.epochs = 2
    for epochs, expected in ((1, ["0001"]), (3, ["0002", "0003"])):
        trainer.epochs = epochs
        assert hook.writes(trainer) == [f"pseudo_labels/epoch_{number}.jpg" for number in expected]
    trainer.epochs = 9
    assert hook.writes(trainer) == ["pseudo_labels/epoch_0002.jpg to epoch_0009.jpg"]


def test_a_teacher_that_starts_from_a_detector_is_looked_at_before_training(run, tmp_path):
    path, folder, witness = run
    options = [f"pretrain_weights={folder / 'model_final.pdparams'}", f"save_dir={tmp_path}"]
    trainer = Trainer(load_config(str(path), options), hooks=[own := Witness()])
    trainer.call_hooks("before_train")
    assert (tmp_path / "tiny" / "pseudo_labels" / "epoch_0000.jpg").is_file()
    (line,) = read_history(tmp_path / "tiny" / HISTORY)
    assert (line["iteration"], line["epoch"]) == (0, 0)
    # model_final is the teacher that the other run ended with.
    assert own.looks[0][1] == pytest.approx(witness.looks[-1][1], rel=1e-3)


@pytest.mark.parametrize("rank", [0, 1])
def test_all_ranks_wait_for_the_one_that_looks(semi, monkeypatch, rank):
    """Gloo's operations have 30 s: others must not enter the next one while rank 0 is still looking."""
    events = []
    hook = PseudoLabelHook(epochs=1)
    trainer = Trainer(load_config(str(semi)))
    monkeypatch.setattr(hook, "measure", lambda *_: events.append("look") or 1 / 0)
    monkeypatch.setattr(pseudo_labels.collectives, "rank", lambda: rank)
    monkeypatch.setattr(pseudo_labels.collectives, "wait_for_all", lambda: events.append("wait"))
    hook.measure_on_rank_0(trainer, 1)
    assert events == (["look", "wait"] if rank == 0 else ["wait"])
