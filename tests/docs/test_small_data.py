"""The settings that the page on small data recommends exist, and load on top of the base that `ppdet init` proposes."""

import re
import shlex
from pathlib import Path

import yaml

from ppdet.core.workspace import load_config

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "SMALL_DATA.md").read_text(encoding="utf-8")
BASE = "fcos_r18vd_small.yml"


def test_every_override_loads():
    overrides = []
    for line in PAGE.replace("\\\n", " ").splitlines():
        if re.match(r"ppdet train .* -o ", line):
            words = shlex.split(line, comments=True)
            name = words[words.index("-c") + 1]
            overrides.append((BASE if name == "FILE" else name, words[words.index("-o") + 1 :]))
    for name, values in overrides:
        cfg = load_config(name, values)
        assert all(cfg.origin(value.partition("=")[0]) == "-o" for value in values)
    assert len(overrides) > 10
    named = {value.partition("=")[0] for _, values in overrides for value in values}
    assert {"pretrain_weights", "ResNet.freeze_at", "input_size", "patience", "TrainReader.batch_size"} <= named


def test_the_augmentation_makes_batches(tmp_path):
    block = re.search(r"^```yaml\n(_BASE_: \[my_data.yml\]\n.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[1]
    (tmp_path / "mine.yml").write_text(block.replace("my_data.yml", BASE))
    transforms = load_config(tmp_path / "mine.yml").component("TrainReader").create("sample_transforms")
    written = [next(iter(one)) for one in yaml.safe_load(block)["TrainReader"]["sample_transforms"]]
    assert [type(transform).__name__ for transform in transforms] == written
