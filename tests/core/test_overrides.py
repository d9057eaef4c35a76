"""load_config and merge_config accept the same forms of overrides, and refuse others in one line."""

import numpy as np
import pytest

from ppdet.core.workspace import load_config, merge_config
from ppdet.utils.errors import ConfigError

FORMS = {
    "by key": {"LearningRate.base_lr": 0.5, "epoch": 3},
    "nested": {"LearningRate": {"base_lr": 0.5}, "epoch": 3},
    "texts": ["LearningRate.base_lr=0.5", "epoch=3"],
    "tuple": ("LearningRate.base_lr=0.5", "epoch=3"),
    "generator": None,
    "numpy": {"LearningRate.base_lr": np.float64(0.5), "epoch": 3},
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text("LearningRate: {base_lr: 0.01}\n")
    return path


@pytest.mark.parametrize("form", FORMS)
def test_forms(path, form, tmp_path):
    for cfg in (
        load_config(path, FORMS[form] or iter(FORMS["texts"])),
        merge_config(load_config(path), FORMS[form] or iter(FORMS["texts"])),
    ):
        cfg.dump(tmp_path / "merged.yml")
        for one in (cfg, load_config(tmp_path / "merged.yml")):
            assert (one.value("LearningRate.base_lr"), one["epoch"]) == (0.5, 3)


@pytest.mark.parametrize("nothing", [None, (), [], {}])
def test_nothing(path, nothing):
    assert load_config(path, nothing).to_dict() == merge_config(load_config(path), nothing).to_dict()
    assert load_config(path, nothing).to_dict() == {"LearningRate": {"base_lr": 0.01}}


def test_origins(path):
    texts = FORMS["texts"]
    assert load_config(path, texts).origin("epoch") == "-o"
    assert merge_config(load_config(path), texts).origin("epoch") == "merge_config"
    assert merge_config(load_config(path), texts, source="me").origin("epoch") == "me"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("epoch=3", "expected values by dotted key, .* or a list of texts, .* got 'epoch=3'"),
        (b"epoch=3", "expected values by dotted key, .* got b'epoch=3'"),
        (3, "expected values by dotted key, .* got 3"),
        ({3: 4}, "expected a dotted key, such as 'ResNet.depth', got 3"),
        ({None: 4}, "expected a dotted key, .* got None"),
        ({("a", "b"): 4}, r"expected a dotted key, .* got \('a', 'b'\)"),
        ([("epoch", 3)], r"expected key=value, such as ResNet.depth=18, got \('epoch', 3\)"),
        ([3], "expected key=value, .* got 3"),
        (["epoch"], "expected key=value, .* got 'epoch'"),
        (["epoch=[1"], "epoch: YAML syntax: .*"),
        ({"": 3}, "expected words and list indices joined by dots, .*"),
        ({"LearningRate": {3: 4}}, "LearningRate.3: LearningRate has no parameter 3; it takes .*"),
        ({"LearningRate": {None: 4}}, "LearningRate.None: LearningRate has no parameter None; it takes .*"),
        ({"auto_lr": {3: 4}}, "auto_lr: expected mapping of text to any value or null, got .*"),
        ({"epoch": np.array(3)}, "epoch: expected int or null, got .*"),
        ({"weights": b"x"}, "weights: expected text or null, got .*"),
    ],
)
def test_other_forms_are_one_line(path, values, said):
    for make, origin in (
        (lambda: load_config(path, values), "(load_config|-o)"),
        (lambda: merge_config(load_config(path), values), "merge_config"),
    ):
        with pytest.raises(ConfigError, match=rf"^{origin}: ?{said}$") as error:
            make()
        assert "\n" not in str(error.value)
