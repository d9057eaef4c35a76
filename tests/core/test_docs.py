"""docs/CONFIG.md says what the code does."""

import re
import shlex
from inspect import signature
from pathlib import Path

import pytest
from commands import execute

from ppdet.core.registry import get_schema
from ppdet.core.schema import describe, fits
from ppdet.core.settings import SETTINGS, SLOTS
from ppdet.core.workspace import load_config
from ppdet.data.sources.coco_dataset import COCODataSet

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "CONFIG.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)


def rows(heading):
    """Name -> (type, default, meaning) in the tables whose first column has this heading."""
    tables = re.findall(rf"^\| {heading} \|.*\n\|[-|]+\|\n((?:\|.*\|\n)+)", TEXT, flags=re.MULTILINE)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for table in tables for line in table.splitlines()]
    assert len({line[0] for line in lines}) == len(lines)
    return {name.strip("`"): tuple(rest) for name, *rest in lines}


def shown(default):
    return str(default).lower() if isinstance(default, bool) else "null" if default is None else str(default)


def with_keys(settings, prefix=""):
    """Settings by dotted key, the entries of mappings too."""
    for name, setting in settings.items():
        yield prefix + name, setting
        yield from with_keys(setting.keys or {}, f"{prefix}{name}.")


def test_every_setting_is_in_the_table():
    used = {key: setting for key, setting in SETTINGS.items() if not setting.unused}
    expected = {key: ("data set", "null", meaning) for key, meaning in SLOTS.items()}
    for key, setting in with_keys(used):
        default = shown(setting.default) if fits(setting.default, setting.annotation) else "unset"
        kind = describe(setting.annotation)
        if setting.keys:
            kind, default = ("mapping or null", "null") if setting.default is None else ("mapping", "")
        expected[key] = (kind, default, setting.meaning)
    assert rows("setting") == expected
    for key in set(SETTINGS) - set(used):
        assert f"`{key}`" in TEXT


# By the run.
GIVEN = ("dataset", "unlabeled", "num_classes", "accumulate_steps", "worker_num", "seed", "rank", "world_size")


@pytest.mark.parametrize(
    ("name", "elsewhere"), [("SemiTrainReader", GIVEN), ("SemiCOCODataSet", signature(COCODataSet).parameters)]
)
def test_every_parameter_is_in_the_table(name, elsewhere):
    parameters = get_schema(name).parameters
    assert set(elsewhere) < set(parameters)
    expected = {}
    for key in [key for key in parameters if key not in elsewhere]:
        kind, default = describe(parameters[key].annotation), shown(parameters[key].default)
        expected[key] = ("list of transforms", "[]") if parameters[key].injected else (kind, default)
    assert {key: row[:2] for key, row in rows(name).items()} == expected


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
