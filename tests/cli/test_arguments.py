"""What several commands share on their command lines, and how `ppdet` finds a command."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from ppdet.cli import commands
from ppdet.cli.arguments import add_amp_argument, add_config_arguments

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
    add_amp_argument(parser, "amp")
    assert parser.parse_args(["-c", "x.yml", "--amp", "-o", "a=1"]).opt == ["amp=true", "a=1"]


def ppdet(*arguments):
    """What `python -m ppdet` ends with."""
    return subprocess.run([sys.executable, "-m", "ppdet", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_the_help_has_a_line_for_each_command():
    """And loads none of them."""
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ppdet", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0 and result.stdout.startswith("usage: python -m ppdet ")
    for name, command in commands.COMMANDS.items():
        assert f"  {name} " in result.stdout and command.summary in result.stdout
    imported = {line.rsplit("|", 1)[1].strip() for line in result.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & {"paddle", "numpy", "cv2", "yaml", "ppdet.cli.train"}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["trian"], 2, "there is no command 'trian'; did you mean 'train'? (python -m ppdet --help lists them)"),
        ([], 2, "the following arguments are required: COMMAND"),
        (["--version"], 0, "ppdet "),
        (["train"], 2, "usage: python -m ppdet train "),
        (["config", "-c", "none.yml"], 2, "error: none.yml: no such file"),
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
