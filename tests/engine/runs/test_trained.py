"""Commands that get a run's folder, and their warnings about settings that differ from the run's."""

import argparse
import os
import re
import shutil
from pathlib import Path

import paddle
import pytest
from paddle import nn
from tiny import TINY_YAML, write_tiny_coco

from ppdet.core.workspace import load_config
from ppdet.data.classes import Classes
from ppdet.engine.checkpoints.manifest import TrainingState, read_sealed, write_sealed
from ppdet.engine.device_choice import set_device
from ppdet.engine.runs.run_config import output_of
from ppdet.engine.runs.run_folder import RunFolder
from ppdet.engine.runs.run_start import RunError
from ppdet.engine.runs.trained import folder_config, trained_config, training_config
from ppdet.utils.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore:The input state dict is empty")


def given(run=None, *opt, config=None, reader="EvalReader", **more):
    arguments = argparse.Namespace(run=None if run is None else str(run), config=config, opt=list(opt))
    return trained_config(arguments, reader, **more)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with `data`, run.yml and output/run, as a command that was started in it has left them."""
    place = tmp_path / "project"
    write_tiny_coco(place / "data", images=1)
    resize = "sample_transforms: [Decode: {}, Resize: {target_size: [96, 128]}, NormalizeImage: {}, Permute"
    text = TINY_YAML.format(output="output", data="data")
    text = text.replace("sample_transforms: [Decode: {}, NormalizeImage: {}, Permute", resize)
    (place / "run.yml").write_text(text)
    monkeypatch.chdir(place)
    make_run(place / "output" / "run", place)
    return place


def make_run(folder, started, *options, weights=("model_final", "best_model")):
    folder.mkdir(parents=True)
    load_config("run.yml", [f"run_name={folder.name}", *options]).dump(folder / "config.yml")
    places = [os.path.relpath(started, folder), str(started)]
    write_sealed(folder / "run.json", {"id": "x", "resumed_from": None, "started_in": places})
    for name in weights:
        (folder / f"{name}.pdparams").write_bytes(b"weights")


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (["best_model.pdparams", "model_final.pdparams", "3.pdparams"], "best_model.pdparams"),
        (["model_final.safetensors", "3.pdparams"], "model_final.safetensors"),
    ],
)
def test_which_weights_are_taken(project, log, there, taken):
    for path in Path("output/run").glob("*.pdparams"):
        path.unlink()
    for name in there:
        Path("output/run", name).write_bytes(b"")
    cfg = given("output/run")
    assert Path(cfg["weights"]) == Path("output/run", taken)
    assert [r.getMessage() for r in log.records] == [f"run output/run: weights {taken}"]


def test_the_best_of_few_images_is_so_by_chance(project, log):
    folder = RunFolder(Path("output/run"), keep_every=1)
    folder.classes = Classes(["a"], [1], "TrainDataset")
    said = "best_model was chosen by its AP on "
    for images, run, warned in (
        (1, "output/run", "1 image, which is little more than chance: output/run/model_final has"),
        (9, "output/run/best_model", "9 images,"),
        (9, "output/run/model_final", ""),
        (10, "output/run", ""),
        (0, "output/run", ""),  # unknown
    ):
        folder.save_best(nn.Linear(1, 1).state_dict(), images)
        log.clear()
        given(run)
        assert log.text.count(said) == bool(warned) and (not warned or said + warned in log.text)


def test_the_newest_whole_checkpoint_else(project, log):
    for path in Path("output/run").glob("*.pdparams"):
        path.unlink()
    folder, model = RunFolder(Path("output/run"), keep_every=1), nn.Linear(1, 1)
    folder.begin(None, go_on=False)
    for name, iteration in (("0", 4), ("snapshot_10", 10), ("1", 8)):
        fields = {**dict.fromkeys(TrainingState._fields, 0), "evaluated": True, "history": [], "loss_scale": {}}
        state = TrainingState(**{**fields, "iteration": iteration})
        folder.save(name, state, model, paddle.optimizer.SGD(0.1, parameters=model.parameters()), None)
    assert Path(given("output/run")["weights"]).name == "snapshot_10.pdparams"
    Path("output/run/snapshot_10.pdopt").write_bytes(b"damaged")
    assert Path(given("output/run")["weights"]).name == "1.pdparams"
    assert "skipping damaged checkpoint" in log.text


def test_no_weights_yet(project):
    for path in Path("output/run").glob("*.pdparams"):
        path.unlink()
    with pytest.raises(RunError, match=r"^output/run has no weights yet: neither best_model, nor model_final, nor an"):
        given("output/run")
    assert given("output/run", with_weights=False)["weights"] is None
    assert given("output/run", "weights=elsewhere")["weights"] == "elsewhere"


@pytest.mark.parametrize("name", ["3", "3.pdparams", "3.json", "3.pdopt"])
def test_a_checkpoint_of_a_run(project, name):
    for suffix in (".pdparams", ".pdopt", ".json"):
        Path(f"output/run/3{suffix}").write_bytes(b"")
    assert Path(given(f"output/run/{name}")["weights"]) == Path("output/run/3.pdparams")


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("output/rum", r"^output/rum: no such run: expected its folder, .*; did you mean 'run'\?$"),
        ("nowhere/run", r"^nowhere/run: no such run: expected its folder, such as output/NAME, or a check"),
        ("output", r"^output is not the folder of a run: it has no config\.yml: name one of the runs in it: run$"),
        ("data", r"^data is not the folder of a run: it has no config\.yml: name a YAML file with -c$"),
        ("run.yml", r"^run\.yml: expected the folder of a run; name a YAML file with -c$"),
        ("output/run/train.log", "^output/run/train.log: no such run"),
        ("", "no config"),
    ],
)
def test_what_is_no_run(project, run, message):
    with pytest.raises(RunError, match=message):
        given(run)


def test_a_run_is_trained_again_in_its_own_folder(project, tmp_path, monkeypatch):
    def config(run, *opt):
        return training_config(argparse.Namespace(run=run, config=None, opt=[]), opt)

    make_run(project / "output" / "named", project, "save_dir=elsewhere", "run_name=before", "epoch=7")
    for run in ("output/named", "output/named/"):
        cfg = config(run)
        assert (output_of(cfg), cfg["epoch"]) == (Path("output/named"), 7)
    assert output_of(config("output/named", "run_name=other", "save_dir=there", "epoch=8")) == Path("there/other")
    monkeypatch.chdir(project / "output" / "named")
    assert output_of(config(".")).samefile(project / "output" / "named")
    assert config("../run").create("TrainDataset").class_names == ["red", "blue"]  # which it finds
    with pytest.raises(RunError, match=r"^\.\./run/best_model: expected the folder of a run: ppdet train \.\./run -r "):
        config("../run/best_model")
    with pytest.raises(RunError, match=r"^missing: no such run"):
        config("missing")
    (project / "output" / "named").rename(project / "output" / "-odd")
    with pytest.raises(RunError, match=r"^.*-odd: no run can have this name: rename the folder$"):
        config(str(project / "output" / "-odd"))
    given_file = argparse.Namespace(run=None, config=str(project / "run.yml"), opt=[])
    assert training_config(given_file, ["epoch=9"])["epoch"] == 9


def test_overrides_and_name(project):
    Path("output/run").rename("output/run.1")
    cfg = given("output/run.1", "EvalReader.batch_size=7")
    assert (cfg.component("EvalReader")["batch_size"], cfg.name) == (7, "run.1"), (
        "an export goes to a folder of its own"
    )
    assert given("output/run.1", "run_name=mine").name == "mine"
    Path("output/run.1").rename("output/.hidden")
    assert given("output/.hidden").name == "run"


def test_data_are_found_from_elsewhere(project, tmp_path, monkeypatch):
    here = given("output/run")
    assert here.component("EvalDataset")["dataset_dir"] == "data", "as typed where that is right"
    monkeypatch.chdir(tmp_path)
    found = given(project / "output" / "run")
    for slot in ("TrainDataset", "EvalDataset", "TestDataset"):
        assert Path(found.component(slot)["dataset_dir"]).samefile(project / "data")
        assert found.create(slot).class_names == ["red", "blue"]
    # What is typed now counts from here, as everywhere.
    write_tiny_coco(tmp_path / "mine", images=1)
    typed = given(project / "output" / "run", "EvalDataset.dataset_dir=mine")
    assert typed.component("EvalDataset")["dataset_dir"] == "mine"
    other = "EvalDataset={name: SemiCOCODataSet, image_dir: images, anno_path: mine/train.json}"
    assert given(project / "output" / "run", other).component("EvalDataset")["dataset_dir"] is None
    # The whole project moves: a folder of its former name is not taken for it.
    moved = tmp_path / "moved"
    project.rename(moved)
    write_tiny_coco(project / "data", images=1)
    assert Path(given(moved / "output" / "run").component("EvalDataset")["dataset_dir"]).samefile(moved / "data")
    # The run alone moves.
    (moved / "output" / "run").rename(tmp_path / "copy")
    assert Path(given(tmp_path / "copy").component("EvalDataset")["dataset_dir"]).samefile(project / "data")
    # Nothing is known of where it was started: as typed.
    (tmp_path / "copy" / "run.json").write_text("{")
    assert given(tmp_path / "copy").component("EvalDataset")["dataset_dir"] == "data"


def test_paths_without_a_folder_of_data(project, tmp_path, monkeypatch):
    options = ["TestDataset.anno_path=names.txt", "EvalDataset.dataset_dir=null"]
    options += ["EvalDataset.image_dir=data/images", "EvalDataset.anno_path=data/train.json"]
    Path("names.txt").write_text("red\nblue\n")
    make_run(project / "output" / "other", project, *options)
    monkeypatch.chdir(tmp_path)
    cfg = given(project / "output" / "other")
    assert cfg.create("EvalDataset").class_names == ["red", "blue"] == cfg.create("TestDataset").class_names


@pytest.mark.parametrize("places", [None, [], "x", ["a"], [1, 2], [None, "/"], ["\0", "\0"], {"a": 1}])
def test_where_a_run_was_started_is_not_believed(project, tmp_path, monkeypatch, places):
    write_sealed(Path("output/run/run.json"), {**read_sealed(Path("output/run/run.json")), "started_in": places})
    monkeypatch.chdir(tmp_path)
    assert given(project / "output" / "run").component("EvalDataset")["dataset_dir"] == "data"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "architecture"),
        (b"\0\xff", "UTF-8|YAML"),
        (b"a: [", "YAML syntax"),
        (b"[1]", "expected a mapping"),
        (b"x_a: !!python/object/apply:os.system [ls]", "refused"),
        (b"TrainDataset: !Nothing {}", "not a component"),
        (b"unknown: 1", "neither a component nor a global setting"),
        (b"x_a: &a [1, *a]", "alias"),
        (b"#" * (1 << 20) + b"\n", "more than 1048576 bytes"),
    ],
)
def test_damaged_or_hostile_configurations(project, log, content, message):
    Path("output/run/config.yml").write_bytes(content)
    if content:
        with pytest.raises(ConfigError, match=message) as error:
            given("output/run")
        assert "output/run/config.yml" in str(error.value) and "\n" not in str(error.value)
        log.clear()
        given(None, "weights=output/run/best_model", config="run.yml")
        (record,) = log.records
        assert record.getMessage().startswith("run.yml is not compared with output/run/config.yml: ")


def test_config_yml_is_a_fifo(project):
    Path("output/run/config.yml").unlink()
    os.mkfifo("output/run/config.yml")
    with pytest.raises(RunError, match="has no config"):
        given("output/run")
    given(None, "weights=output/run/best_model", config="run.yml")


def warned(log, *options, reader="EvalReader", weights="output/run/model_final"):
    """The text of the one warning, None without a warning."""
    log.clear()
    given(None, f"weights={weights}", *options, config="run.yml", reader=reader)
    own = [record for record in log.records if record.name == "ppdet.engine.runs.trained"]
    warnings = [record.getMessage() for record in own if record.levelname == "WARNING"]
    assert len(warnings) <= 1 and not any("\n" in line for line in warnings)
    return warnings[0] if warnings else None


def test_a_forgotten_override_is_told(project, log):
    size = "sample_transforms.1.Resize.target_size=[320, 320]"
    make_run(project / "output" / "large", project, f"EvalReader.{size}", f"TestReader.{size}", "num_classes=3")
    assert warned(log) is None
    text = warned(log, weights="output/large/best_model")
    assert text == (
        "run.yml differs from the configuration that these weights were trained with, so they detect something else: "
        "FCOSHead.num_classes: 2 here, 3 there; "
        "EvalReader.sample_transforms.Resize.target_size: [96, 128] here, [320, 320] there; name the run, "
        "output/large, instead of -c and weights to use its own settings"
    )
    again = warned(log, f"EvalReader.{size}", "num_classes=3", weights="output/large/best_model.pdparams")
    assert again is None, "typed once more"
    assert "TestReader.sample_transforms.Resize" in warned(log, reader="TestReader", weights="output/large/3")


def test_weights_of_another_run_are_compared_with_the_run_that_is_named(project, log):
    make_run(project / "output" / "large", project, "EvalReader.sample_transforms.1.Resize.target_size=[320, 320]")
    given("output/run", "weights=output/run/model_final")
    assert not [record for record in log.records if record.levelname == "WARNING"]
    given("output/run", "weights=output/large/model_final")
    assert [record.getMessage() for record in log.records if record.levelname == "WARNING"] == [
        "output/run/config.yml differs from the configuration that these weights were trained with, so they detect "
        "something else: "
        "EvalReader.sample_transforms.Resize.target_size: [96, 128] here, [320, 320] there; name the run, "
        "output/large, instead of output/run and weights to use its own settings"
    ]


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("EvalReader.sample_transforms.2.NormalizeImage.mean=[0, 0, 0]", "NormalizeImage.mean"),
        ("EvalReader.sample_transforms.2.channel_order=bgr", "NormalizeImage.channel_order: bgr here, rgb there"),
        ("EvalReader.sample_transforms.1.keep_ratio=false", "Resize.keep_ratio: false here, true there"),
        (
            "EvalReader.batch_transforms.0.pad_to_stride=64",
            "EvalReader.batch_transforms.PadBatch.pad_to_stride: 64 here",
        ),
        ("EvalReader.sample_transforms=[Decode: {}, Permute: {}]", "EvalReader.sample_transforms: .* here, .* there"),
        ("ResNet.depth=34", "ResNet.depth: 34 here, 18 there"),
        ("ResNet.std_senet=true", "ResNet.std_senet: true here, false there"),
        ("FPN.out_channel=64", "FPN.out_channel: 64 here, 32 there"),
        ("FCOSHead.num_shift=0.25", r"FCOSHead.num_shift: 0\.25 here, 0\.5 there"),
        ("FCOSHead.fcos_feat.num_convs=2", "FCOSFeat.num_convs: 2 here, 1 there"),
        ("FCOSHead.norm_reg_targets=false", "FCOSHead.norm_reg_targets: false here, true there"),
        ("norm_type=gn", "norm_type: gn here, bn there"),
    ],
)
def test_what_changes_what_weights_detect(project, log, option, named):
    assert re.search(named, warned(log, option))


@pytest.mark.parametrize(
    "option",
    [
        "FCOSHead.nms.score_threshold=0.5",
        "FCOSHead.nms.nms_threshold=0.3",
        "EvalReader.batch_size=1",
        "TestReader.sample_transforms.1.target_size=[64, 64]",
        "EvalDataset.anno_path=val.json",
        "LearningRate.base_lr=0.5",
        "ResNet.freeze_at=0",
        "FCOSHead.fcos_loss.quality=iou",
        "norm_type=sync_bn",
        "use_gpu=true",
    ],
)
def test_what_may_be_tried_without_a_word(project, log, option):
    assert warned(log, option) is None


def test_one_size_said_in_two_ways(project, log):
    resize = "EvalReader.sample_transforms.1.Resize.target_size"
    assert warned(log, f"{resize}=null", "input_size=[96, 128]") is None
    assert warned(log, "TestReader.sample_transforms.1.Resize.target_size=null", "input_size=[64, 64]") is None
    assert "Resize.target_size: [64, 64] here, [96, 128] there" in warned(log, f"{resize}=null", "input_size=[64, 64]")


def test_weights_that_are_in_no_runs_folder(project, log):
    for weights in ("data/weights", "https://example.com/output/run/model_final.pdparams", "model_final"):
        assert warned(log, "ResNet.depth=34", weights=weights) is None


def test_many_differences_are_counted(project, log):
    options = [f"FCOSHead.{key}=true" for key in ("sqrt_score", "clip_boxes", "last_pixel", "even_locations")]
    options += ["ResNet={depth: 50, variant: d, num_stages: 4, return_idx: [1, 2, 3], std_senet: true, groups: 2}"]
    options += ["FPN={out_channel: 8, extra_stage: 2}", "FCOSFeat.feat_out=8", "FCOSHead.num_shift=0"]
    text = warned(log, *options)
    assert text.count(" here, ") == 13 and re.search(
        r"; \d more: others here, others there; name the run, output/run, instead", text
    )


def test_folders_to_analyse(project, log):
    make_run(project / "output" / "deep", project, "ResNet.depth=34")
    assert folder_config(Path("output/deep"), None, ["epoch=9"])["epoch"] == 9
    assert folder_config(Path("output/deep"), None, []).component("ResNet")["depth"] == 34
    log.clear()
    assert folder_config(Path("output/deep"), "run.yml", []).component("ResNet")["depth"] == 18
    assert "ResNet.depth: 18 here, 34 there" in log.text
    with pytest.raises(RunError, match="has no config"):
        folder_config(Path("data"), None, [])


def test_a_folder_with_a_strange_name(project):
    strange = project / 'it\'s: "a" {run} # ü'
    shutil.copytree("output/run", strange)
    assert Path(given(strange)["weights"]) == strange / "best_model.pdparams"


@pytest.mark.parametrize(
    ("in_run", "options", "there", "chosen"),
    [
        ("device: gpu:1", [], {}, "cpu"),
        ("device: gpu:1", [], {"gpu": 1}, "gpu:0"),
        ("device: cpu", [], {"gpu": 1}, "gpu:0"),
        ("device: cpu\nuse_npu: true", [], {"xpu": 1, "npu": 1}, "xpu:0"),
        ("device: cpu", ["use_gpu=true"], {"gpu": 2}, "gpu:0"),
        ("device: gpu:1", ["use_gpu=true"], {"gpu": 2}, "gpu:0"),
        ("device: gpu", ["use_gpu=false"], {"gpu": 2}, "cpu"),
        ("device: gpu", ["device=gpu:1"], {"gpu": 2}, "gpu:1"),
    ],
)
def test_the_device_is_that_of_the_machine(project, machine, in_run, options, there, chosen):
    """Even if config.yml, as in earlier versions, names the device of the training machine."""
    text = Path("output/run/config.yml").read_text()
    Path("output/run/config.yml").write_text(text.replace("use_gpu: false", in_run))
    machine(**there)
    assert set_device(given("output/run", *options)) == chosen
    assert set_device(given("output/run/best_model", *options, reader="TestReader")) == chosen
    assert set_device(folder_config(Path("output/run"), None, options)) == chosen


def test_a_named_file_still_chooses_the_device(project, machine):
    machine(gpu=1)
    assert set_device(given(config="run.yml")) == set_device(folder_config(Path("output/run"), "run.yml", [])) == "cpu"
