"""docs/CONFIG.md says what the code does."""

import re
import shlex
from pathlib import Path

import pytest
from commands import execute

from ppdet.core.workspace import load_config
from ppdet.engine.device_choice import deciding_setting

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "CONFIG.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("command", [line for block in blocks("bash") for line in block.splitlines()])
def test_commands_run(command):
    program, name, *arguments = shlex.split(command)
    assert program == "ppdet"
    result = execute(f"tools/{name}.py", *arguments)
    assert (result.returncode, result.stderr) == (0, "")


def test_python_examples_run(tmp_path, monkeypatch):
    use, _ = blocks("python")
    monkeypatch.chdir(tmp_path)
    namespace = {}
    exec(use.replace("configs/", f"{ROOT}/configs/"), namespace)
    assert type(namespace["model"]).__name__ == "FCOS"
    assert namespace["small"].component("FCOSHead")["num_classes"] == 3
    for expression, comment in re.findall(r"^(cfg\S+)\s+# (\S+?):? ", use.replace("False", "False "), re.MULTILINE):
        assert str(eval(expression, namespace)) == comment.strip('":')


def test_the_table_of_devices_says_what_the_command_line_selects(tmp_path):
    """Each row has a command line, settings in the file, and the device."""
    rows = re.findall(r"^\| `(?:-o|--device) (\S+)` \| (`.+`) \| (.+) \|$", TEXT, re.MULTILINE)
    assert len(rows) == 5
    for option, in_file, expected in rows:
        for setting in re.findall("`(.+?)`", in_file):
            (tmp_path / "mine.yml").write_text(f"_BASE_: fcos_r18_fpn_shapes\n{setting}\n")
            override = option if "=" in option else f"device={option}"
            _, device = deciding_setting(load_config(tmp_path / "mine.yml", [override]))
            meant = {"the CPU": "cpu", "as with `auto`": "auto", "the GPU 1": "gpu:1", "the NPU 3": "npu:3"}[expected]
            assert device == meant, (option, setting)
