"""Outside components that break their contract give a one-line error that names the member."""

import numpy as np
import paddle
import pytest
from paddle import nn
from tiny import TINY_YAML, write_tiny_coco

from ppdet.core import registry
from ppdet.core.workspace import load_config, register
from ppdet.data.sources import DetectionDataset
from ppdet.data.transforms import Transform
from ppdet.engine.build import build_dataset, build_model
from ppdet.engine.evaluator import Evaluator
from ppdet.engine.hooks import Hook, configured_hooks
from ppdet.engine.hooks.base import hook_states
from ppdet.engine.trainer import Trainer
from ppdet.engine.training.losses import check_losses
from ppdet.metrics import EvalMetric
from ppdet.modeling.architectures.base import DenseMaps, ShapeSpec
from ppdet.modeling.heads import FCOSHead
from ppdet.optimizer.learning_rate import LearningRate, Warmup
from ppdet.utils.errors import ConfigError, UserError

SPECS = [ShapeSpec(8, 8), ShapeSpec(16, 16)]


@pytest.fixture
def parts(monkeypatch):
    """Register classes under names of this test alone."""
    monkeypatch.setattr(registry, "_schemas", dict(registry._schemas))

    def add(name, *bases, **members):
        cls = type(name, bases or (object,), {"__module__": __name__, **members})
        return register(cls)

    return add


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_coco(tmp_path_factory.mktemp("data"), images=2)


@pytest.fixture
def load(tmp_path, data):
    def load(*options):
        path = tmp_path / "tiny.yml"
        path.write_text(TINY_YAML.format(output=tmp_path / "output", data=data))
        return load_config(path, options)

    return load


def error_of(call, *arguments, **options):
    with pytest.raises(UserError) as error:
        call(*arguments, **options)
    assert "\n" not in str(error.value) and "docs/EXTENDING.md" in str(error.value)
    return str(error.value)


def backbone(out_shape, forward=lambda self, images: []):
    def init(self) -> None:
        nn.Layer.__init__(self)
        if out_shape is not None:
            self.out_shape = out_shape

    return {"__init__": init, "forward": forward}


def test_a_detector_without_members(load, parts):
    parts("Bare", nn.Layer)
    message = error_of(build_model, load("architecture=Bare"))
    assert message.startswith("architecture: Bare has no attribute locations, which a DenseDetector needs: the grid")
    grid = {"locations": None, "distances_in_strides": True, "nms": None}
    parts("Mapless", nn.Layer, **grid, forward=lambda self, batch, normalizers=None: None)
    message = error_of(build_model, load("architecture=Mapless"))
    assert "Mapless has no method predict_maps(), which a DenseDetector needs: Predictions for normalized" in message
    assert type(load("architecture=Mapless").create("Mapless")).__init__ is nn.Layer.__init__
    parts("NoLayer", **grid)
    assert "NoLayer has no method forward()" in error_of(build_model, load("architecture=NoLayer"))


@pytest.mark.parametrize(
    ("out_shape", "said"),
    [
        (None, "FCOS.backbone: Net has no attribute out_shape, which a Backbone needs: one entry for each map"),
        (64, "FCOS.backbone: Net.out_shape is 64; expected a list of ShapeSpec(channels, stride)"),
        ([], "Net.out_shape is []; expected a list of ShapeSpec"),
        ([(64, 8), (128, 16)], "Net.out_shape is [(64, 8), (128, 16)]; expected a list of ShapeSpec"),
        ([ShapeSpec(64.0, 8)], "expected a list of ShapeSpec(channels, stride) with whole numbers"),
        (SPECS[::-1], "Net.out_shape has the strides [16, 8]; expected the finest level first"),
    ],
)
def test_a_backbone_with_another_out_shape(load, parts, out_shape, said):
    parts("Net", nn.Layer, **backbone(out_shape))
    assert said in error_of(build_model, load("FCOS.backbone=Net"))


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ([(1, 8, 8, 8)], "Net.forward() returned [(1, 8, 8, 8)] for images of 64x64; expected a list of maps"),
        ([(1, 8, 8, 8), (1, 16, 8, 8)], "expected a list of maps [(1, 8, 8, 8), (1, 16, 4, 4)], which follow from its"),
        (None, "Net.forward() returned a Tensor for images of 64x64"),
    ],
)
def test_a_backbone_that_returns_other_maps(load, parts, shapes, said):
    def forward(self, images):
        return images if shapes is None else [paddle.zeros(shape) for shape in shapes]

    parts("Net", nn.Layer, **backbone(SPECS, forward))
    model = build_model(load("FCOS.backbone=Net"))
    assert said in error_of(model.predict_maps, paddle.zeros([1, 3, 64, 64]))


def test_a_head_that_returns_no_maps(load, parts):
    options = ["FCOS.fcos_head=Head", "Head.fpn_stride=[8,16,32]", "Head.fcos_feat={name: FCOSFeat, feat_in: 32}"]
    for result, said in (
        (lambda maps: tuple(maps), "Head.forward() returned a tuple; expected DenseMaps"),
        (lambda maps: DenseMaps(maps.logits, maps.logits, maps.quality), "Head.forward() returned distances of the"),
    ):
        parts("Head", FCOSHead, forward=lambda self, x, result=result: result(FCOSHead.forward(self, x)))
        assert said in error_of(build_model(load(*options)).predict_maps, paddle.zeros([1, 3, 64, 64]))


def test_a_loss_without_normalizers_or_that_is_no_dict(load, parts):
    parts("Loss", nn.Layer, forward=lambda self, *_: paddle.zeros([]))
    options = ["FCOSHead.fcos_loss=Loss", "epoch=1"]
    message = error_of(build_model, load(*options))
    assert message.startswith("FCOSHead.fcos_loss: Loss has no method normalizers(), which a DenseLoss needs")
    parts("Loss", nn.Layer, forward=lambda self, *_: paddle.zeros([]), normalizers=lambda self, batches: ())
    assert "FCOS: the loss of a batch is a Tensor; expected a dict" in error_of(Trainer(load(*options)).train)
    with pytest.raises(ConfigError, match=r"where `loss` has the shape \[2, 3\]; expected"):
        check_losses({"loss": paddle.zeros([2, 3])}, nn.Layer())


def test_layers_without_forward(load, parts):
    parts("Net", nn.Layer, __init__=backbone(SPECS)["__init__"])
    message = error_of(build_model, load("FCOS.backbone=Net"))
    assert message.startswith("FCOS.backbone: Net has no method forward() of its own, which a Backbone needs: Turn")
    parts("Loss", nn.Layer, normalizers=lambda self, batches: ())
    assert "FCOSHead.fcos_loss: Loss has no method forward() of" in error_of(
        build_model, load("FCOSHead.fcos_loss=Loss")
    )


@pytest.mark.parametrize("key", ["FCOS.neck", "FCOS.fcos_head"])
def test_a_part_that_cannot_take_its_input_shape(load, parts, key):
    parts("Part", nn.Layer)
    message = error_of(build_model, load(f"{key}=Part"))
    assert (
        f"{key}: Part has neither a parameter 'input_shape' nor a class method from_config(cls, cfg, input" in message
    )


def test_a_neck_as_the_architecture(load):
    with pytest.raises(ConfigError, match=r"from_config of FPN cannot be called as from_config\(cls, cfg\)"):
        build_model(load("architecture=FPN"))


def test_suggestions_are_of_the_right_kind(load, parts):
    parts("TrNeck", Transform)
    with pytest.raises(ConfigError, match=r"there is no component 'TNeck'; a component of your own needs --import"):
        load("FCOS.neck=TNeck")
    parts("OwnNeck", nn.Layer)
    with pytest.raises(ConfigError, match="there is no component 'OwnNek'; did you mean 'OwnNeck'"):
        load("FCOS.neck=OwnNek")


def test_data_sets_that_lack_something(load, parts):
    parts("Plain", list)
    message = error_of(Evaluator, load("EvalDataset={name: Plain}"))
    assert message.startswith("EvalDataset: Plain has no attribute records, which a DetectionDataset needs: one dict")

    def init(self) -> None:
        self.class_names, self.category_ids, self.records = ["red", "blue"], [1, 2], [record]

    parts("Records", DetectionDataset, __init__=init)
    good = {
        "im_id": np.array([1], np.int64),
        "im_file": "a.png",
        "gt_bbox": np.zeros((2, 4), np.float32),
        "gt_class": np.zeros((2, 1), np.int32),
    }
    for change, said in (
        ({"im_id": 7}, "TrainDataset: record 0 of Records has im_id 7; expected a NumPy array (1,) of int64"),
        ({"im_file": None}, "has im_file None; expected the path of an image, as text"),
        ({"gt_bbox": np.zeros((2, 4))}, "has gt_bbox float64 (2, 4); expected a NumPy array (2, 4) of float32"),
        ({"gt_class": np.zeros(2, np.int32)}, "has gt_class int32 (2,); expected a NumPy array (2, 1) of int32"),
        ({"gt_class": np.full((2, 1), 2, np.int32)}, "has gt_class 2; expected 0 to 1, the places in class_names"),
    ):
        record = {**good, **change}
        assert said in error_of(build_dataset, load("TrainDataset={name: Records}"), "TrainDataset")
    record = good
    assert len(build_dataset(load("TrainDataset={name: Records}"), "TrainDataset")) == 1


def test_a_transform_that_returns_nothing(load, parts):
    parts("Nothing", __call__=lambda self, sample, rng: None)
    trainer = Trainer(load("TrainReader.sample_transforms=[Decode: {}, Nothing: {}]"))
    message = error_of(trainer.train)
    assert message.startswith("Nothing returned NoneType; expected the sample that it was called with, a dict")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({}, "TrainReader: Own has no method __call__() of its own, which a Transform needs: Transform a sample"),
        ({"__call__": lambda self, sample: sample}, "__call__(sample) that cannot be called as __call__(sample, rng)"),
    ],
)
def test_a_transform_that_cannot_be_called(load, parts, members, said):
    parts("Own", Transform, **members)
    assert said in error_of(Trainer, load("TrainReader.sample_transforms=[Decode: {}, Own: {}]"))


def test_schedules_without_a_factor(parts):
    bare = parts("Bare", Warmup, __init__=lambda self: None)()
    assert "LearningRate.schedulers: Bare has no method factor() of its own" in error_of(
        LearningRate, schedulers=[bare]
    )
    other = parts("Other")()
    assert "LearningRate.schedulers: Other has no attribute use_warmup" in error_of(LearningRate, schedulers=[other])


def test_hooks_with_other_methods(load, parts, caplog):
    Typo = parts("Typo", Hook, after_stepp=lambda self, trainer: None)
    configured_hooks(load(), [Typo()])
    assert "Trainer(hooks=...): Typo.after_stepp is no event; did you mean 'after_step'?" in caplog.text
    with pytest.raises(ConfigError, match=r"^Typo.state\(\)\['a'\] is an object: a checkpoint keeps"):
        hook_states([parts("Typo", Hook, state=lambda self: {"a": object()})()])
    parts("Short", Hook, after_step=lambda self: None)
    message = error_of(configured_hooks, load("hooks=[Short]"))
    assert message.startswith(
        "-o: hooks.0: Short has a method after_step() that cannot be called as after_step(trainer)"
    )


def test_hooks_and_metrics_that_are_none(load, parts):
    parts("Nothing")
    assert "Trainer(hooks=...): Nothing is not a Hook" in error_of(Trainer, load(), hooks=[nothing()])
    message = error_of(Evaluator, load("eval_metrics=[Nothing]"))
    assert message.startswith("eval_metrics.0: Nothing is not an EvalMetric: derive the class from ppdet.metrics")
    parts("Half", EvalMetric, begin=lambda self, names: None, update=lambda self, image: None)
    message = error_of(Evaluator, load("eval_metrics=[Half]"))
    assert message.startswith("eval_metrics.0: Half has no method result() of its own, which an EvalMetric needs: Call")


def nothing():
    return registry.get_schema("Nothing").cls()
