"""Arguments that several commands share, and how `ppdet` finds a command."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ppdet.cli import commands, data_convert, export, semi_split, train
from ppdet.cli.arguments import add_amp_argument, add_config_arguments, config_words

ROOT = Path(__file__).resolve().parents[2]

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
    """Importing ppdet loads only these of the installed packages."""
    code = NEW_MODULES.format(package=package)
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == str(others)


def test_arguments():
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    arguments = parser.parse_args(["-c", "x.yml", "-o", "a=1", "b=2", "-o", "c=3"])
    assert (arguments.config, arguments.opt) == ("x.yml", ["a=1", "b=2", "c=3"])
    assert parser.parse_args(["--config", "x.yml"]).opt == []
    add_amp_argument(parser, "amp")
    assert parser.parse_args(["-c", "x.yml", "--amp", "-o", "a=1"]).opt == ["amp=true", "a=1"]


def ppdet(*arguments):
    """Exit code and output of `python -m ppdet`."""
    return subprocess.run([sys.executable, "-m", "ppdet", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_the_help_has_a_line_for_each_command():
    result = ppdet("--help")
    assert result.returncode == 0 and result.stdout.startswith("usage: python -m ppdet ")
    for name, command in commands.COMMANDS.items():
        assert f"  {name} " in result.stdout and command.summary in result.stdout


def test_help_needs_no_heavy_import():
    """The table of commands loads none of them, and a command loads nothing large before its arguments are read."""
    code = "import sys; from ppdet.cli import commands; print(*sys.modules, sep='\\n'); print('---')\n"
    code += "for name in commands.COMMANDS: commands.load(name)\nprint(*sys.modules, sep='\\n')"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    table, everything = (set(text.split()) for text in result.stdout.split("---"))
    assert "ppdet.core.command_line" in table and "ppdet.cli.train" not in table
    assert "ppdet.cli.train" in everything
    assert not everything & {"paddle", "numpy", "cv2", "yaml", "tqdm", "typeguard", "matplotlib", "ray", "fastapi"}


def test_files_of_tools_call_commands():
    files = [*(ROOT / "tools").glob("*.py"), ROOT / "deploy" / "python" / "infer.py"]
    called = {
        str(path.relative_to(ROOT)): re.search(r'run_command\("(.+)"\)', path.read_text(encoding="utf-8"))
        for path in files
    }
    assert len(files) > 10 and called.pop("tools/model_zoo.py") is None  # it writes a page of this repository
    assert called.pop("tools/x2coco.py") is None  # its options are PaddleDetection's
    names = {file: match and match[1] for file, match in called.items()}
    assert set(names.values()) == set(commands.COMMANDS) - {
        "quickstart",
        "serve",
        "batch",
        "verify",
        "zoo",
        "doctor",
        "data",
        "init",
    }
    assert (names["tools/train.py"], names["tools/infer.py"], names["deploy/python/infer.py"]) == (
        "train",
        "infer",
        "detect",
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["trian"], 2, "there is no command 'trian'; did you mean 'train'? (python -m ppdet --help lists them)"),
        ([], 2, "the following arguments are required: COMMAND"),
        (["--version"], 0, "ppdet "),
        (["train"], 2, "usage: python -m ppdet train "),
        (["semi-split", "--anno_path", "none.json", "--images", "1"], 2, "error: annotation file "),
    ],
)
def test_the_program_itself(arguments, code, said):
    result = ppdet(*arguments)
    assert result.returncode == code and said in result.stdout + result.stderr


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_the_help_of_a_command_shows_how_it_was_called(name, capsys):
    with pytest.raises(SystemExit):
        commands.load(name).main(["--help"], f"ppdet {name}")
    text = capsys.readouterr().out
    assert text.startswith(f"usage: ppdet {name} ") and f"\n  ppdet {name}" in text
    assert "{program}" not in text and "%(" not in text


@pytest.mark.parametrize(
    ("command", "given"),
    [
        (export, ["output/a b", "-o", "x=1", "y=[1, 2]", "--import", "own.py"]),
        (export, ["-c", "a.yml", "-o", "weights=b"]),
        (train, ["-c", "a.yml", "-o", "x=1", "-o", "x=2", "--device", "cpu", "--import", "m", "--import", "n"]),
    ],
)
def test_the_next_command_takes_what_this_one_took(command, given):
    words = config_words(command.parse_arguments(given))
    assert vars(command.parse_arguments(words)) == vars(command.parse_arguments(given))


def test_a_seed_may_be_0():
    assert data_convert.parse_arguments(["a", "b", "--seed", "0"]).seed == 0
    assert semi_split.parse_arguments(["--anno_path", "a.json", "--percent", "10", "--seeds", "0", "3"]).seeds == [0, 3]


@pytest.mark.parametrize("text", ["-1", "1.5", "", "x", "1234567890"])
def test_what_is_no_seed(text, capsys):
    with pytest.raises(SystemExit):
        data_convert.parse_arguments(["a", "b", f"--seed={text}"])
    assert "expected a whole number of at" in capsys.readouterr().err
