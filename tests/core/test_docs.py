"""docs/CONFIG.md says what the code does."""

import re
import shlex
from pathlib import Path

import pytest
from commands import execute

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
