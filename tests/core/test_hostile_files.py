"""Configuration files that mean harm: each ends in one line, and neither waits nor fills the memory."""

import os
import sys
from pathlib import Path

import pytest

from ppdet.core.compose.merge import override
from ppdet.core.config import read_config
from ppdet.core.tree import from_plain, to_plain
from ppdet.core.yaml_files import read_files
from ppdet.core.yaml_graph import Allowance
from ppdet.utils.errors import ConfigError, nearest_name


def refusal(path: str | Path, overrides: tuple[str, ...] = ()) -> str:
    with pytest.raises(ConfigError) as caught:
        read_config(path, overrides)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_only_regular_files_are_read(write):
    write("_BASE_: fifo\n", "x.yml")
    os.mkfifo("fifo")
    Path("zero.yml").symlink_to("/dev/zero")
    assert refusal("x.yml") == "x.yml:1: _BASE_: cannot read file 'fifo': not a regular file"
    assert refusal("fifo") == "fifo: cannot read file: not a regular file"
    assert refusal("zero.yml") == "zero.yml: cannot read file: not a regular file"
    write("_BASE_: [/dev/zero]\n", "y.yml")
    assert refusal("y.yml") == "y.yml:1: _BASE_: cannot read file '/dev/zero': not a regular file"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (r'_BASE_: "a\0b"', r"x.yml:1:9: 'a\x00b' is no text that a path or a name can be"),
        (r'_BASE_: "\udc41.yml"', r"x.yml:1:9: '\udc41.yml' is no text that a path or a name can be"),
        ("_BASE_: ~nosuchuser/x.yml", "x.yml:1: _BASE_: no such file '~nosuchuser/x.yml'"),
        ("_BASE_: link.yml", "x.yml:1: _BASE_: cannot read file 'link.yml': Too many levels of symbolic links"),
        (f"_BASE_: {'y' * 70_000}", f"x.yml:1: _BASE_: '{'y' * 60}…' has 70,000 characters, a path has at"),
        ("_BASE_: x.yml/y.yml", "x.yml:1: _BASE_: cannot read file 'x.yml/y.yml': Not a directory"),
        ('x_a: "\\U00110000"', "x.yml: YAML syntax: before the end of line 1 is an escape of no character"),
    ],
)
def test_paths_that_no_file_can_have(write, text, message):
    path = write(text)
    Path("link.yml").symlink_to("link.yml")
    assert refusal(path).startswith(message)
    assert len(refusal(path)) < 1000
    assert refusal("link.yml") == "link.yml: cannot read file: Too many levels of symbolic links"


def test_files_that_name_the_next_one_twice(write):
    """30 of them would be a thousand million reads. As a tree of a few files they are allowed."""
    for number in range(30):
        write(f"_BASE_: [{number + 1}.yml, {number + 1}.yml]\n", f"{number}.yml")
    write("epoch: 7\n", "30.yml")
    assert read_config("26.yml")["epoch"] == 7
    assert "includes more than 100 files, counting a file as often as it is named" in refusal("0.yml")


def test_limits_count_over_all_files(write):
    write("#" * 600_000 + "\nepoch: 3", "comment.yml")
    write(f"x_a: &a [{'1, ' * 240}]\nx_b: [{'*a, ' * 230}]\n", "values.yml")
    root, layers = read_files(Path(write("_BASE_: [comment.yml, values.yml]\n")))
    assert root.value["epoch"].value == 3
    assert len(layers) == 3
    most = f"all files of a configuration have at most {Allowance.size:,} bytes"
    twice = write("_BASE_: [values.yml, comment.yml, comment.yml]\n")
    assert refusal(twice) == f"x.yml:1: _BASE_: file 'comment.yml' is too large: {most}"
    assert "more than 100,000 values" in refusal(write("_BASE_: [values.yml, values.yml]\n"))
    write("x_a: 1\n" * 200_000, "flat.yml")
    assert refusal("flat.yml") == f"flat.yml: file is too large: {most}"


@pytest.mark.parametrize("step", ["²", "9" * 200, "٣", "-1", "1e3"])
def test_a_part_of_a_key_that_is_no_index(step):
    with pytest.raises(ConfigError, match="expected an index from 0 to 1"):
        override(from_plain({"x_a": [1, 2]}, "a"), f"x_a.{step}", from_plain(3, "-o"))
    root = override(from_plain({"x_a": {}}, "a"), f"x_a.{step}", from_plain(3, "-o"))
    assert to_plain(root) == {"x_a": {step: 3}}


def test_a_key_of_many_parts(write):
    assert "nested too deeply" in refusal(write("epoch: 1\n"), ("x_a" + ".b" * 5000 + "=1",))


def test_similar_names_are_looked_for_among_short_ones():
    """Comparing two texts of 100,000 letters would take minutes."""
    name, other = "ab" * 50_000, "ba" * 50_000
    assert nearest_name(name, [other]) is None
    assert nearest_name("epoc", [name, "epoch"]) == "epoch"
    assert nearest_name("epoc", (f"epoc{number:05}" for number in range(50_000))) is not None


@pytest.mark.skipif(sys.platform == "win32", reason="file names are Unicode there")
def test_a_file_name_that_is_no_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"caf\xe9\x1b.yml")
    Path(name).write_text("epoch: 3\n")
    config = read_config(name)
    config.dump("copy.yml")
    assert Path("copy.yml").read_text().splitlines()[0] == r"# merged from caf\udce9\x1b.yml"
    assert read_config("copy.yml")["epoch"] == 3
