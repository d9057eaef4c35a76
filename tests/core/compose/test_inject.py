"""Building component objects from configuration values."""

from collections.abc import Sequence
from typing import Any

import pytest

from ppdet.core.config import merge_config
from ppdet.core.registry import get_schema
from ppdet.core.workspace import create, register, serializable
from ppdet.utils.errors import ComponentError, ConfigError


def test_shapes_go_from_part_to_part(load):
    config = load("architecture: ToyDetector\nToyBackbone: {depth: 10}\nnum_classes: 3\n")
    model = config.create(config["architecture"])
    assert model.head.in_channels == [10, 20, 30]
    assert model.head.num_classes == 3
    assert (model.head.loss.alpha, model.head.nms) == (0.25, None)


@pytest.mark.parametrize(
    "spelling",
    ["ToyLoss", "{name: ToyLoss, alpha: 2}", "!ToyLoss {alpha: 2}", "{ToyLoss: {alpha: 2}}", "{alpha: 2}"],
)
def test_spellings_of_an_injected_component(load, spelling):
    loss = (
        load(f"ToyHead: {{loss: {spelling}}}\nToyLoss: {{alpha: 3, quality: iou}}")
        .create("ToyHead", input_shape=[1])
        .loss
    )
    assert (loss.alpha, loss.quality) == (3 if spelling == "ToyLoss" else 2, "iou")


def test_lists_of_components(load):
    config = load(
        """
ToyReader:
  transforms:
  - ToyResize: {target_size: [4, 5]}
  - !ToyFlip {prob: 1}
  - name: ToyFlip
  - ToyFlip
  - ToyFlip:
"""
    )
    reader = config.create("ToyReader", dataset="data")
    assert [type(item).__name__ for item in reader.transforms] == ["ToyResize", *["ToyFlip"] * 4]
    assert [item.prob for item in reader.transforms[1:]] == [1, 0.5, 0.5, 0.5]
    assert reader.dataset == "data"
    assert reader.transforms[3] is not config.create("ToyReader", dataset="data").transforms[3]


def test_slots(load):
    text = "TrainDataset: !ToyDataSet\n  anno_path: a\nEvalDataset: {name: ToyDataSet, anno_path: b}\n"
    text += "ToyDataSet: {dataset_dir: d}\n"
    config = load(text, "TrainDataset.dataset_dir=x", "EvalDataset.anno_path=y")
    train, evaluation = config.create("TrainDataset"), create("EvalDataset", config)
    assert (train.anno_path, train.dataset_dir) == ("a", "x")
    assert (evaluation.anno_path, evaluation.dataset_dir) == ("y", "d")
    with pytest.raises(ConfigError, match=r"^x.yml:1: TestDataset: not set; it should hold a data set"):
        config.create("TestDataset")


def test_shared_values(load):
    assert load("norm_type: gn").create("ToyBackbone").norm_type == "gn"
    assert load("norm_type: gn\nToyBackbone: {norm_type: bn}").create("ToyBackbone").norm_type == "bn"
    assert load("").create("ToyBackbone").norm_type == "bn"


def test_defaults_stay_what_the_constructor_says(load):
    assert load("").create("ToyBackbone").return_idx == (1, 2, 3)


def test_what_from_config_and_the_caller_give_wins(load):
    config = load("ToyHead: {in_channels: [9]}\nToyReader: {dataset: d, batch_size: 2}")
    assert config.create("ToyHead", input_shape=[1]).in_channels == [1]
    assert config.create("ToyReader", batch_size=3).batch_size == 3


def test_objects_already_built(load):
    marker = object()
    config = merge_config(load(""), {"ToyHead.nms": marker})
    assert config.create("ToyHead", input_shape=[1]).nms is marker


def test_component_config_is_a_mapping_of_effective_values(load):
    component = load("ToyReader: {batch_size: 2}").component("ToyReader")
    assert dict(component) == {"transforms": (), "batch_size": 2}
    assert "dataset" not in component
    assert component.get("dataset") is None
    with pytest.raises(KeyError, match=r"x\.yml:1: ToyReader\.dataset: missing, ToyReader needs it"):
        component["dataset"]
    with pytest.raises(KeyError, match="ToyReader has no parameter 'batch_siz'; did you mean 'batch_size'"):
        component["batch_siz"]


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        (
            "\nToyReader: {}",
            "ToyReader",
            "x.yml:2: ToyReader.dataset: missing, ToyReader needs it (any value)",
        ),
        ("", "ToyHed", "there is no component 'ToyHed'; did you mean 'ToyHead'?"),
        ("", "TrainDataSet", "there is no component 'TrainDataSet'; did you mean 'TrainDataset'?"),
        ("\nToyLoss: {alpha: -1}", "ToyLoss", "x.yml:2: ToyLoss: alpha is -1, it must not be negative"),
        (
            "\nToyReader:\n  dataset: 1\n  transforms:\n  - ToyLoss: {alpha: -2}",
            "ToyReader",
            "x.yml:5: ToyReader.transforms.0: alpha is -2, it must not be negative",
        ),
    ],
)
def test_mistakes_that_show_when_building(load, text, name, expected):
    with pytest.raises(ConfigError) as error:
        load(text).create(name)
    assert str(error.value) == expected


def test_a_component_inside_itself_is_an_error(load):
    with pytest.raises(ConfigError, match="ToyReader is built inside itself without end"):
        load("ToyReader: {dataset: 1, transforms: [ToyReader]}").create("ToyReader")


def test_wrong_keyword_is_a_defect_of_the_caller(load):
    with pytest.raises(ConfigError, match="ToyReader has neither a parameter 'datset'; did you mean 'dataset'"):
        load("").create("ToyReader", datset=1)


def test_schema_is_the_constructor():
    parameters = get_schema("ToyHead").parameters
    assert list(parameters) == ["in_channels", "loss", "nms", "num_classes", "stride", "options"]
    assert [p.name for p in parameters.values() if p.required] == ["in_channels"]
    assert [p.name for p in parameters.values() if p.injected] == ["loss", "nms"]
    assert [p.name for p in parameters.values() if p.shared] == ["num_classes"]


def test_constructors_that_yaml_cannot_address_are_refused():
    def make(init: Any, **attributes: Any) -> type:
        return type("ToyRefused", (), {"__init__": init, **attributes})

    with pytest.raises(TypeError, match="ToyRefused: a component's constructor names its parameters"):
        register(make(lambda self, **options: None))
    with pytest.raises(TypeError, match="ToyRefused: a parameter cannot be called 'name'"):
        register(make(lambda self, name: None))
    with pytest.raises(TypeError, match="ToyRefused: 'bone' of __inject__, __shared__ or __given__ is no"):
        register(make(lambda self, backbone: None, __inject__=["bone"]))


def test_a_default_has_the_type_of_its_annotation():
    def wrong(self, *, size: int = "x"): ...

    def right(self, *, pair: tuple[int, int] = (8, 16), sizes: Sequence[float] = (1, 2), loss: type = "ToyLoss"): ...

    with pytest.raises(ComponentError, match=r"^ToyDefault: the default of size is 'x' \(text\); it should be int"):
        register(type("ToyDefault", (), {"__init__": wrong}))
    register(type("ToyDefault", (), {"__init__": right, "__inject__": ["loss"]}))


def test_a_name_belongs_to_one_class():
    class ToyFlip:
        pass

    with pytest.raises(TypeError, match="a component called ToyFlip is already registered"):
        register(ToyFlip)


def test_decorators_return_the_class():
    class ToyPlain:
        pass

    assert register(serializable(ToyPlain)) is ToyPlain
    assert get_schema("ToyPlain").parameters == {}
