"""`ppdet init`: from a folder of images to a configuration that trains."""

import json
import re

import numpy as np
import paddle
import pytest
from tiny import write_tiny_coco

from ppdet.cli import init, train
from ppdet.core.workspace import load_config
from ppdet.data.checking.data_check import read_splits
from ppdet.engine.checkpoints.weights import read_arrays, save_weights
from ppdet.engine.proposal import fitting
from ppdet.engine.proposal.found_data import read_data
from ppdet.modeling.backbones import ResNet, resnet

# A narrower neck and head than the proposed ones, which are not what is tested.
NARROW = ("FPN.out_channel=32", "FCOSHead.fcos_feat={feat_in: 32, feat_out: 32, num_convs: 1}")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_tiny_coco(tmp_path / "my data")


@pytest.fixture
def narrow_backbone(monkeypatch):
    """Every backbone has a quarter of its channels: most of the time would go into random numbers and files."""
    channels = tuple(stage // 4 for stage in resnet.STAGE_CHANNELS)
    monkeypatch.setattr(resnet, "STAGE_CHANNELS", channels)
    return channels


@pytest.mark.usefixtures("narrow_backbone")
def test_the_proposal_trains(folder, tmp_path, capsys, monkeypatch, log):
    monkeypatch.setattr(fitting, "TIMED_STEPS", 2)
    content = json.loads((folder / "train.json").read_text())
    (folder / "train.json").rename(folder / "val.json")
    (folder / "annotations").mkdir()
    for part in ("train", "val"):
        (folder / "annotations" / f"{part}.json").write_text(json.dumps(content))
    (folder / "val.json").unlink()
    # In any time: a busy machine would get a smaller detector.
    init.main(["my data", "--from_scratch", "--device", "cpu", "--minutes", "6000"])
    said = capsys.readouterr().out
    assert "data: 8 training images, 8 validation images, 2 classes" in said
    assert "wrote my_data.yml: ResNet-18 without pretrained weights, input 128x96, " in said
    assert "images/s (measured)" in said and "\n  ppdet train -c my_data.yml --eval\n" in said
    lines = (tmp_path / "my_data.yml").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 50
    values = [i for i, line in enumerate(lines) if re.search(r"^\s*(- !)?\w+:? \S", line)]
    assert len(values) > 20
    assert [lines[i] for i in values if "  # " not in lines[i] and not lines[i - 1].lstrip().startswith("#")] == []

    cfg = load_config("my_data.yml")
    assert (cfg["num_classes"], cfg["input_size"], cfg["epoch"]) == (2, [96, 128], 400)  # 3,200 images
    options = ["max_iters=2", "worker_num=0", "amp=false", *NARROW]
    train.main(["-c", "my_data.yml", "--eval", "--device", "cpu", "-o", *options])
    history = [json.loads(line) for line in (tmp_path / "output/my_data/history.jsonl").read_text().splitlines()]
    assert any("AP" in str(entry) for entry in history)
    assert (tmp_path / "output/my_data/model_final.pdparams").is_file()
    assert "trained 2 steps" in log.text and "It does not fit" not in log.text


def test_the_proposal_trains_from_weights_of_the_backbone(folder, tmp_path, capsys, monkeypatch, narrow_backbone):
    """They lie where a download puts them. Frozen layers keep them, and training changes the others."""
    monkeypatch.setenv("PPDET_WEIGHTS_HOME", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    classifier = {"fc.weight": paddle.zeros([narrow_backbone[-1], 1000]), "fc.bias": paddle.zeros([1000])}
    backbone = ResNet(depth=18, variant="d")
    published = tmp_path / "weights" / "ResNet18_vd_pretrained.pdparams"
    save_weights({**backbone.state_dict(), **classifier}, published)
    init.main(["my data", "--estimate", "--device", "cpu"])
    said = capsys.readouterr().out
    assert said.startswith("looking for pretrained weights (--from_scratch does without")
    assert "wrote my_data.yml: ResNet-18 with pretrained weights, " in said
    cfg = load_config("my_data.yml")
    assert cfg["pretrain_weights"].startswith("https://") and cfg["pretrain_weights"].endswith(f"/{published.name}")

    quick = ["worker_num=0", "amp=false", "TrainReader.batch_size=1", *NARROW]
    run = ["-c", "my_data.yml", "--device", "cpu", "-o", *quick]
    train.main([*run, "--dry_run"])
    assert not (tmp_path / "output").exists()
    train.main([*run, "max_iters=1"])
    trained, start = read_arrays(tmp_path / "output/my_data/model_final.pdparams"), read_arrays(published)
    same = {name: np.array_equal(trained[f"backbone.{name}"], start[name]) for name in backbone.state_dict()}
    weights = [name for name in same if name.endswith("conv.weight")]
    frozen = [name for name in weights if name.startswith(("conv1", "res2"))]
    assert all(same[name] for name in same if "norm" in name) and 0 < len(frozen) < len(weights)
    assert [name for name in weights if same[name]] == frozen


def test_a_page_in_place_of_weights_is_an_error(folder, tmp_path, capsys, monkeypatch):
    """Some networks answer every request with a page that asks for a login."""
    monkeypatch.setenv("PPDET_WEIGHTS_HOME", str(tmp_path))
    (tmp_path / "ResNet18_vd_pretrained.pdparams").write_text("<html>Please log in</html>")
    with pytest.raises(SystemExit) as end:
        init.main(["my data", "--estimate", "--device", "cpu"])
    said = capsys.readouterr().err
    assert end.value.code == 2 and "ResNet18_vd_pretrained.pdparams: not a complete Paddle weights file" in said
    assert not (tmp_path / "my_data.yml").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["nothing"],
            "nothing: no such folder or file: expected a folder with train.json, or one COCO file; `ppdet data",
        ),
        (
            ["empty"],
            "empty: no COCO file in it (looked for annotations/*.json, *.json and */*.json); `ppdet data convert`",
        ),
        (["later"], "later: no train.json, only val.json, for evaluation: name the COCO file to train on"),
        (["damaged"], "train.json is not JSON but XML"),
        (
            ["my data/train.json", "--to", "there.yml"],
            "there.yml: this file exists already: give --overwrite, or another",
        ),
        (
            ["moved"],
            "train.json: its images were not found in or beside its folder: name theirs with --image_dir",
        ),
        (["moved", "--image_dir", "none"], "/none does not exist"),
        (
            ["unlabeled.json", "--image_dir", "my data/images"],
            "unlabeled.json: no image has a box to train on: label some images, or name another file",
        ),
    ],
)
def test_mistakes_are_one_line(folder, tmp_path, capsys, arguments, said):
    content = json.loads((folder / "train.json").read_text())
    (tmp_path / "there.yml").write_text("mine: 1")
    (tmp_path / "empty").mkdir()
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "train.json").write_text(json.dumps(content))
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "val.json").write_text(json.dumps(content))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "train.json").write_text("<annotation></annotation>")
    (tmp_path / "damaged" / "val.json").write_text(json.dumps(content))
    (tmp_path / "unlabeled.json").write_text(json.dumps({**content, "annotations": []}))
    with pytest.raises(SystemExit) as end:
        init.main([*arguments, "--from_scratch", "--device", "cpu"])
    error = capsys.readouterr().err.splitlines()[-1]
    assert end.value.code == 2 and error.startswith("error: ") and said in error
    assert (tmp_path / "there.yml").read_text() == "mine: 1"


@pytest.mark.usefixtures("narrow_backbone")
def test_one_file_and_images_elsewhere(folder, tmp_path, capsys):
    """What `ppdet data convert --images keep` writes without a split."""
    (tmp_path / "cells" / "annotations").mkdir(parents=True)
    (folder / "train.json").rename(tmp_path / "cells" / "annotations" / "all.json")
    init.main(["cells", "--image_dir", "my data/images", "--from_scratch", "--estimate", "--device", "cpu"])
    said = capsys.readouterr().out
    assert "8 training images, no validation images" in said and "note: there are no images to evaluate on" in said
    assert "AP means nothing: label more images: `ppdet data convert" in said  # a split of 8 would leave too few
    cfg = load_config("cells.yml")
    train_data, val_data = cfg.component("TrainDataset"), cfg.component("EvalDataset")
    assert train_data["image_dir"] == val_data["image_dir"] == (folder / "images").as_posix()
    assert train_data["anno_path"] == val_data["anno_path"] == "annotations/all.json"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train.json", "valid.json"], ("train.json", "valid.json")),
        (["annotations/train.json", "annotations/dev.json"], ("annotations/train.json", "annotations/dev.json")),
        (["train.json", "test.json", "val.json"], ("train.json", "val.json")),
        (["train/_annotations.coco.json", "valid/_annotations.coco.json"], None),  # Roboflow
        (["instances_train2017.json", "instances_val2017.json"], None),
        (["all.json", "train.json", "unsplit.json", "test.json"], ("train.json", "test.json")),
        (["all.json"], ("all.json", None)),
        (["cells.json"], ("cells.json", None)),
    ],
)
def test_the_files_of_a_data_set_are_those_of_data_check(folder, names, expected):
    """`ppdet data check` trains on what `ppdet init` trains on, and evaluates on what it evaluates on."""
    content = (folder / "train.json").read_text()
    (folder / "train.json").unlink()
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    found = read_data(folder)
    assert (found.train.anno_path, found.val and found.val.anno_path) == (expected or tuple(names))
    assert found.train.image_dir == "images"
    splits = {split.path: split for split in read_splits([str(folder)])}
    assert not splits[str(folder / found.train.anno_path)].is_evaluated
    assert found.val is None or splits[str(folder / found.val.anno_path)].is_evaluated
    assert {split.image_dir for split in splits.values()} == {str(folder / "images")}


@pytest.mark.usefixtures("narrow_backbone")
def test_one_picture_and_one_minute(tmp_path, capsys, monkeypatch):
    """One is no plural, sizes have the width first, and too few epochs are compared with those that are enough."""
    monkeypatch.chdir(tmp_path)
    folder = write_tiny_coco(tmp_path / "one", images=1, size=(320, 512))
    image = write_tiny_coco(tmp_path / "high", images=1, size=(512, 320))
    init.main([str(folder), "--from_scratch", "--estimate", "--device", "cpu", "--minutes", "1"])
    said = capsys.readouterr().out
    assert "data: 1 training image, no validation images, 2 classes" in said and "; images of 512x320\n" in said
    run = re.search(r" input (\d+)x(\d+), (\S+) epochs, (\S+) steps of 1 image\n", said)
    width, height, epochs, steps = (int(number.replace(",", "")) for number in run.groups())
    assert width > height and epochs == steps < 3200
    note = f"this machine trains {epochs:,} epochs with {steps:,} images, repeated ones counted; 3,200 epochs would"
    assert note in said
    text = (tmp_path / "one.yml").read_text(encoding="utf-8")
    assert "what fits into 1 minute; 3200 would be better" in text and f"input_size: [{height}, {width}]" in text
    assert "short and long side; images have 512x320 pixels" in text
    assert re.search(r"\b1 (images|minutes|boxes|classes|epochs)\b", said + text) is None
    assert read_data(image).pixels(320, 512) == "320x512"
