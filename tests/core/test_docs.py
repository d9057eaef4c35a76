"""docs/CONFIG.md says what the code does."""

import re
import shlex
from pathlib import Path

import pytest
from commands import execute

from ppdet.core.workspace import load_config

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "CONFIG.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("command", [line for block in blocks("bash") for line in block.splitlines()])
def test_commands_run(command):
    program, *arguments = shlex.split(command)
    assert program == "python"
    result = execute(*arguments)
    assert (result.returncode, result.stderr) == (0, "")


def test_python_examples_run(tmp_path, monkeypatch):
    use, component, from_config = blocks("python")
    monkeypatch.chdir(tmp_path)
    namespace = {}
    exec(use.replace("configs/", f"{ROOT}/configs/"), namespace)
    assert type(namespace["model"]).__name__ == "FCOS"
    assert namespace["small"].component("FCOSHead")["num_classes"] == 3
    for expression, comment in re.findall(r"^(cfg\S+)\s+# (\S+?):? ", use.replace("False", "False "), re.MULTILINE):
        assert str(eval(expression, namespace)) == comment.strip('":')
    code = f"{component}\n{from_config}\n"
    path = tmp_path / "two.yml"
    path.write_text("num_classes: 5\nTwoLosses: {weight: 2, more: [FCOSLoss: {reg_weights: 3}]}\n")
    exec(code, {"__name__": "two_losses"})
    built = load_config(path).create("TwoLosses")
    assert (built.num_classes, built.weight, type(built.first).__name__) == (5, 2, "FCOSLoss")
    assert [type(loss).__name__ for loss in built.more] == ["FCOSLoss"]
