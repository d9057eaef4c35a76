"""Names of this project in the pages for users of other code bases: commands, options, settings and Python names."""

import re
import shlex
import sys
from functools import cache

import pytest
from commands import load
from documents import ROOT

import ppdet
from ppdet.cli.commands import COMMANDS
from ppdet.cli.commands import load as load_command
from ppdet.core.registry import is_component
from ppdet.core.workspace import load_config
from ppdet.deploy.detector import Detections
from ppdet.metrics.coco_statistics import STATISTICS
from ppdet.utils.errors import UserError

PAGES = ("MIGRATING", "FROM_PADDLEDETECTION", "FROM_MMDETECTION", "FROM_DETECTRON2", "FROM_ULTRALYTICS")
# What stands in the column of this project and is none of its names: why.
OTHERS = {
    "python -m paddle.distributed.launch": "its options are Paddle's",
    "category_id": "a key of COCO's files",
    "~/.cache/paddle/weights": "a folder",
    "_BASE_": "a key of the YAML language",
    "Hook": "a class; docs/EXTENDING.md names its module",
    "gpu:0": "a value",
    "locations": "a value of level_top_k_of",
    "classes": "a value of level_top_k_of",
    "0": "a value",
    "true": "a value",
    "[[640, 1333], [800, 1333]]": "a value",
}


@cache
def configurations():
    return [load_config(name) for name in ("fcos_r50_fpn_1x_coco", "denseteacher_fcos_r50_fpn_coco_semi010")]


def is_setting(key: str) -> bool:
    """Whether a dotted key has a value, or a default, in a configuration."""
    for config in configurations():
        try:
            config.value(key)
        except UserError:
            continue
        return True
    return is_component(key)


def problem(words: list[str], monkeypatch, capsys) -> str:
    """What the parser of a command says about its arguments; empty: nothing."""
    if words[0] == "ppdet" and words[1] in COMMANDS:
        module = load_command(words[1])
    elif words[0] == "python" and (ROOT / words[1]).is_file():
        monkeypatch.syspath_prepend((ROOT / words[1]).parent)
        module = load(words[1])
    else:
        return "there is no such command"
    for key in re.findall(r"(\S+?)=", " ".join(words).partition(" -o ")[2]):
        if not is_setting(key):
            return f"there is no setting {key}"
    try:
        if not hasattr(module, "parse_arguments"):
            return "" if len(words) == 2 else f"{module.__name__} cannot parse without running"
        if module.parse_arguments.__code__.co_argcount:
            module.parse_arguments(words[2:])
        else:
            monkeypatch.setattr(sys, "argv", words[1:])
            module.parse_arguments()
    except SystemExit:
        return capsys.readouterr().err
    return ""


def problem_of(code: str, earlier: list[str], monkeypatch, capsys) -> str:
    """What is wrong with a code span, if anything; `earlier` are those before it in its cell."""
    if code in OTHERS or any(code.startswith(f"{name} ") for name in OTHERS):
        return ""
    if code.startswith(("ppdet ", "python ")):
        return problem(shlex.split(code), monkeypatch, capsys)
    if code.startswith("-"):
        commands = [span for span in earlier if span.startswith("ppdet ")]
        base = shlex.split(commands[-1] if commands else "ppdet train -c FILE")
        if base[1] == "detect" and "--camera_id" in code:
            base = base[:4]
        return problem([*base, *shlex.split(code)], monkeypatch, capsys)
    if names := re.findall(r"ppdet\.(\w+)", code):
        return "" if set(names) <= set(ppdet.__all__) else "ppdet has no such name"
    if code.startswith("."):
        return "" if code[1:] in Detections.__dataclass_fields__ else "Detections has no such attribute"
    if re.search(r"\.(jpg|json|jsonl|yml|pdparams)$", code):
        written = "".join((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8") for page in ("TRAINING", "DEPLOY"))
        return "" if f"`{code.removeprefix('output/NAME/')}`" in written else "no page says that this file is written"
    if code.startswith("output/"):
        return ""
    key = re.match(r"[\w.]+", code)
    if key and (code == key[0] or code[key.end()] == ":"):
        owners = [span.split(".")[0] for span in earlier]
        is_known = any(map(is_setting, [key[0], *(f"{owner}.{key[0]}" for owner in owners)])) or key[0] in STATISTICS
        return "" if is_known else "there is no such setting or component"
    return "it is no name of this project"


def test_a_foreign_setting_is_answered_as_the_page_says():
    text = (ROOT / "docs" / "FROM_ULTRALYTICS.md").read_text(encoding="utf-8")
    words = shlex.split(re.search(r"`ppdet ([^`]*)` answers with the name to use here", text)[1])
    options = load_command(words[0]).parse_arguments(words[1:]).opt
    with pytest.raises(UserError, match=r"lr0: use LearningRate\.base_lr"):
        load_config("fcos_r18_fpn_shapes", options)


@pytest.mark.parametrize("name", PAGES)
def test_every_name_of_this_project_exists(name, monkeypatch, capsys):
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .+ \| (.+) \|$", text, re.MULTILINE)
    assert len(rows) > 25
    wrong = []
    for row in rows:
        codes = re.findall(r"`([^`]+)`", row)
        for index, code in enumerate(codes):
            if message := problem_of(code.replace("…", "0"), codes[:index], monkeypatch, capsys):
                wrong.append(f"{code}: {message.strip().splitlines()[-1]}")
    for block in re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if message := problem(shlex.split(line, comments=True), monkeypatch, capsys):
                wrong.append(f"{line}: {message}")
    assert not wrong, "\n".join(wrong)
