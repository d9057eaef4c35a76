"""The name of a run."""

import json

import pytest

from ppdet.core.config import read_config
from ppdet.utils.errors import ConfigError


def test_the_file_or_run_name_names_a_run(write):
    write("epoch: 1\n", "sub/small.yml")
    assert read_config("sub/small.yml").name == "small"
    assert read_config("sub/small.yml", ["run_name=lr 0.1, größer"]).name == "lr 0.1, größer"
    assert read_config(write("run_name: mine\n")).name == "mine"
    assert read_config("x.yml", ["run_name=null"]).name == "x"


@pytest.mark.parametrize(
    "name", ["", " ", "a/b", "..", "/tmp", "a\\b", ".hidden", "-o", "a ", "a\nb", "a\x1bb", "x" * 201]
)
def test_a_name_has_to_be_that_of_a_folder(write, name):
    write("epoch: 1\n")
    with pytest.raises(ConfigError, match=r"^-o: run_name: expected the name of a folder, .* got ") as error:
        read_config("x.yml", [f"run_name={json.dumps(name)}"])
    assert "\x1b" not in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("text", "shown"), [("7", r"7 \(int\)"), ("1e3", r"1000\.0 \(float\)"), ("true", "True")])
def test_what_yaml_takes_for_no_text_has_to_be_quoted(write, text, shown):
    write("epoch: 1\n")
    with pytest.raises(ConfigError, match=rf"^-o: run_name: expected text, got {shown}.*in quotes, or .* with --name$"):
        read_config("x.yml", [f"run_name={text}"])
    # As --name gives it.
    assert read_config("x.yml", [f"run_name={json.dumps(text)}"]).name == text
