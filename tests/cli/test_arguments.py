"""tools/config.py and what the command lines of all tools share."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import execute

from ppdet.cli.arguments import add_config_arguments
from ppdet.core.command_line import one_line_errors
from ppdet.core.config import read_config
from ppdet.core.show import show
from ppdet.utils.errors import ConfigError, UserError

OWN = "; a component of your own needs --import FILE (docs/EXTENDING.md)"

ROOT = Path(__file__).resolve().parents[2]
FCOS_1X = "configs/fcos/fcos_r50_fpn_1x_coco.yml"


def run_tool(*arguments):
    command = [sys.executable, "tools/config.py", *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)


def test_show_names_the_place_of_every_value(load):
    config = load(
        """architecture: ToyDetector
num_classes: 3
ToyHead:
  loss: {alpha: 0.5}
ToyReader:
  transforms:
  - ToyFlip:
  - !ToyLoss {quality: iou}
export: {nms: false}
TrainDataset: !ToyDataSet {anno_path: a}
""",
        "ToyHead.nms=ToyFlip",
    )
    text = show(config)
    squeezed = [" ".join(line.split()) for line in text.splitlines()]
    for line in [
        "architecture: ToyDetector # x.yml:1",
        "loss: # x.yml:4",
        "name: ToyLoss # x.yml:4",
        "alpha: 0.5 # x.yml:4",
        "quality: centerness # default",
        "nms: ToyFlip # -o",
        "num_classes: 3 # x.yml:2",
        "# in_channels: list of int, given when it is built",
        "- ToyFlip: # x.yml:7",
        "prob: 0.5 # default",
        "quality: iou # x.yml:8",
        "nms: false # x.yml:9",
        "benchmark: false # default",
        "anno_path: a # x.yml:10",
        "ToyBackbone: # default",
        "return_idx: [1, 2, 3] # default",
        "log_iter: 20 # default",
    ]:
        assert line in squeezed, line
    Path("shown.yml").write_text(text)
    again = read_config("shown.yml")
    assert show_values(again) == show_values(config)
    assert again.create("ToyDetector").head.__dict__.keys() == config.create("ToyDetector").head.__dict__.keys()


def show_values(config):
    lines = (line.split("#")[0].strip() for line in show(config).splitlines())
    return sorted(line for line in lines if line)


def test_config_tool_prints_the_merged_configuration():
    result = run_tool(
        "-c", FCOS_1X, "-o", "ResNet.depth=18", "num_classes=3", "-o", "LearningRate.schedulers.0.gamma=0.2"
    )
    assert (result.returncode, result.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    for line in [
        "depth: 18 # -o",
        "gamma: 0.2 # -o",
        "num_classes: 3 # -o",
        "milestones: [8, 11] # configs/fcos/_base_/optimizer_1x.yml:10",
        "device: auto # configs/runtime.yml:2",
        "sqrt_score: false # default",
    ]:
        assert line in lines, line


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "FCOSHed.num_shift=0",
            "error: -o: FCOSHed: neither a component nor a global setting; did you mean 'FCOSHead'?" + OWN + "\n",
        ),
        (
            "FCOSHead.centrness_on_reg=true",
            "error: -o: FCOSHead.centrness_on_reg: FCOSHead has no parameter 'centrness_on_reg'; "
            "did you mean 'centerness_on_reg'?\n",
        ),
    ],
)
def test_mistakes_are_one_line(override, message):
    result = execute("tools/config.py", "-c", FCOS_1X, "-o", override)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", message)


NEW_MODULES = """
import sys
before = set(sys.modules)
import {package}
new = {{name: str(getattr(sys.modules[name], "__file__", "")) for name in set(sys.modules) - before}}
print(sorted({{name.partition(".")[0] for name, file in new.items() if "-packages" in file}}))
"""


@pytest.mark.parametrize(
    ("package", "others"),
    [
        ("ppdet", []),
        ("ppdet.deploy", []),
        ("ppdet.core.command_line", []),
        ("ppdet.core.workspace", ["yaml"]),
        ("ppdet.core.show", ["yaml"]),
    ],
)
def test_imports_stay_light(package, others):
    """Of all packages that are installed, an import takes these."""
    code = NEW_MODULES.format(package=package)
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == str(others)


def test_arguments():
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    arguments = parser.parse_args(["-c", "x.yml", "-o", "a=1", "b=2", "-o", "c=3"])
    assert (arguments.config, arguments.opt) == ("x.yml", ["a=1", "b=2", "c=3"])
    assert parser.parse_args(["--config", "x.yml"]).opt == []


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigError("x.yml:1: a: wrong"), "error: x.yml:1: a: wrong\n"),
        (
            FileNotFoundError(2, "No such file or directory", "a.jpg"),
            "error: a.jpg: No such file or directory\n",
        ),
        (UserError("two\nlines"), "error: two lines\n"),
    ],
)
def test_mistakes_of_the_user_end_with_one_line(error, line, capsys):
    with pytest.raises(SystemExit) as end, one_line_errors():
        raise error
    assert end.value.code == 2
    assert capsys.readouterr().err == line


def test_defects_keep_their_traceback():
    with pytest.raises(ZeroDivisionError), one_line_errors():
        raise ZeroDivisionError
