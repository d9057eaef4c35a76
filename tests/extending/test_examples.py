"""The examples of docs/EXTENDING.md, in a folder outside the project, through training, evaluation, export and use."""

import contextlib
import io
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from tiny import write_tiny_coco

from ppdet.cli.commands import load as load_command
from ppdet.core import extensions, registry
from ppdet.core.extensions import import_extensions
from ppdet.core.workspace import load_config
from ppdet.engine.build import build_model
from ppdet.utils.errors import ConfigError

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "EXTENDING.md"
BLOCK = re.compile(r"```(python|yaml)\n# (\S+\.(?:py|yml))\n(.*?)```", re.DOTALL)
MODULES = ("my_augmentation", "my_backbone", "my_dataset", "my_detector", "my_head", "my_hook", "my_loss", "my_metric")
IMPORTS = [option for name in MODULES for option in ("--import", f"{name}.py")]
TINY = ["epoch=1", "worker_num=0", "log_iter=1", "use_gpu=false", "TrainReader.batch_size=4", "EvalReader.batch_size=4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All files of the guide, and a data set; afterwards the process knows nothing of them."""
    folder = tmp_path_factory.mktemp("outside")
    for _, name, text in BLOCK.findall(GUIDE.read_text(encoding="utf-8")):
        (folder / name).write_text(text, encoding="utf-8")
    content = json.loads((write_tiny_coco(folder / "data", images=4) / "train.json").read_text())
    files = {image["id"]: f"images/{image['file_name']}" for image in content["images"]}
    names = {category["id"]: category["name"] for category in content["categories"]}
    lines = []
    for one in content["annotations"]:
        x, y, w, h = one["bbox"]
        lines.append(f"{files[one['image_id']]},{x},{y},{x + w},{y + h},{names[one['category_id']]}\n")
    (folder / "data" / "boxes.csv").write_text("".join(lines))
    (folder / "data" / "names.txt").write_text("red\nblue\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(extensions, "_imported", {})
        patch.setattr(registry, "_schemas", dict(registry._schemas))
        yield folder
    for name in MODULES:
        sys.modules.pop(name, None)


def call(command: str, *arguments: object, code: int = 0) -> str:
    """What `ppdet COMMAND` prints."""
    out = io.StringIO()
    ended = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            load_command(command).main([str(argument) for argument in arguments])
        except SystemExit as error:
            ended = error.code or 0
    assert ended == code, out.getvalue()[-3000:]
    return out.getvalue()


def test_without_the_option_each_file_tells_what_to_import(folder):
    """Before anything is imported in this process."""
    for path in sorted(folder.glob("my_*.yml")):
        with pytest.raises(
            ConfigError, match=r"the module 'my_\w+' is not imported: add --import my_\w+.*, or --import"
        ):
            load_config(path)


def test_each_example_builds(folder):
    import_extensions([f"{name}.py" for name in MODULES])
    for name in MODULES:
        cfg = load_config(f"{name}.yml")
        assert cfg["requires"] == [name]
        build_model(cfg)
    assert type(cfg.create("eval_metrics")[0]).__module__ == "my_metric"


def test_all_together_train_resume_evaluate_export_and_detect(folder, caplog):
    call("train", "-c", "my_experiment.yml", *IMPORTS, "--eval", "-o", *TINY)
    first = float(re.findall(r"largest gradient so far: (\S+)", caplog.text)[0])
    assert "FoundObjects: found " in caplog.text and "found after epoch 1" in caplog.text
    run = Path("output/my_experiment")
    caplog.clear()
    call("train", "-c", "my_experiment.yml", *IMPORTS, "-r", run / "model_final", "-o", *TINY, "epoch=2")
    assert float(re.findall(r"largest gradient so far: (\S+)", caplog.text)[0]) >= first
    requires = load_config(run / "config.yml")["requires"]
    assert sorted(requires) == sorted(MODULES)

    caplog.clear()
    call("eval", run, *IMPORTS)
    assert "FoundObjects: found " in caplog.text
    call("infer", run, *IMPORTS, "--infer_img", "data/images/001.png", "--draw_threshold", "0")
    assert Path("output/001.png").is_file()

    call("export", run, *IMPORTS)
    exported = Path("output_inference/my_experiment")
    settings = (exported / "infer_cfg.yml").read_text()
    assert "type: Gamma\n  gamma: 0.7\n" in settings and "requires:\n- my_augmentation\n" in settings
    call("detect", "--model_dir", exported, "--import", "my_augmentation.py", "--image_file", "data/images/001.png")

    # Once its modules are forgotten, as in another process, the run names them.
    with pytest.MonkeyPatch.context() as patch:
        for name in MODULES:
            patch.delitem(sys.modules, name)
        output = call("eval", run, code=2)
    assert re.search(r"config.yml:\d+: requires: the module 'my_\w+' is not imported: add --import", output)


def test_a_whole_detector_trains_evaluates_exports_and_detects(folder, caplog):
    data = "{name: CsvDataSet, dataset_dir: data, file: boxes.csv, class_names: [red, blue]}"
    classes = "TestDataset={name: ImageFolder, dataset_dir: data, anno_path: names.txt}"
    options = ["-o", *TINY, "num_classes=2", f"TrainDataset={data}", f"EvalDataset={data}", classes]
    imports = ["--import", "my_detector.py", "--import", "my_dataset.py"]
    call("train", "-c", "my_detector.yml", *imports, "--dry_run", *options)
    assert "loss_box" in caplog.text and "positive locations" not in caplog.text
    call("train", "-c", "my_detector.yml", *imports, "--eval", *options)
    call("export", "output/my_detector", *imports)
    assert re.search(r"checked in paddle, fp32: .*differ by at most", caplog.text)
    call("detect", "--model_dir", "output_inference/my_detector", "--image_file", "data/images/001.png")


def test_commands_of_the_guide_are_commands(folder):
    """They name files of the guide and options that exist."""
    text = GUIDE.read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    assert len(lines) == 7
    for line in lines:
        program, command, *arguments = shlex.split(line)
        assert program == "ppdet"
        parsed = load_command(command).parse_arguments(arguments)
        assert all(Path(name).is_file() for name in parsed.imports)
