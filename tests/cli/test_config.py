"""`ppdet config` prints a merged configuration, or the names of the shipped ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import call, execute

OWN = "; a component of your own needs --import FILE (docs/EXTENDING.md)"

ROOT = Path(__file__).resolve().parents[2]
FCOS_1X = "configs/fcos/fcos_r50_fpn_1x_coco.yml"


def run_tool(*arguments):
    command = [sys.executable, "tools/config.py", *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)


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
            "did you mean 'centerness_on_reg'? (",
        ),
    ],
)
def test_mistakes_are_one_line(override, message):
    result = execute("tools/config.py", "-c", FCOS_1X, "-o", override)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith(message)


def test_names_of_configurations():
    names = call("tools/config.py", "--configs").splitlines()
    assert {"fcos_r50_fpn_1x_coco", "fcos_r18_fpn_shapes", "fcos_r18vd_bccd_sup010"} < set(names)
    assert not {"runtime", "zoo", "coco_detection", "optimizer_1x"} & set(names)
    assert "give one of -c FILE, --configs and --list" in call("tools/config.py", code=2)


def test_list_of_settings_and_components(outside):
    text = call("tools/config.py", "--list", "PadBatch")
    assert text.startswith("PadBatch: Pads every image") and "pad_to_stride: int; default: 0" in text
    ours = outside(
        "our_list.py",
        "from ppdet.core.workspace import register\n\n\n"
        '@register\nclass OurFlip:\n    """Flips as we do."""\n\n    def __init__(self, *, prob: float = 0.5): ...\n',
    )
    assert "  OurFlip " in call("tools/config.py", "--list", "--import", str(ours))
    result = execute("tools/config.py", "--list", "PadBach")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: PadBach: neither a component nor a global setting; did you mean 'PadBatch'")
