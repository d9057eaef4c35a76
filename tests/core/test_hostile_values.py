"""Numbers of a configuration that would need more memory or time than there is: each is one line before any work."""

import pytest

from ppdet.core.show import show
from ppdet.core.workspace import load_config
from ppdet.data.sources import COCODataSet
from ppdet.utils.errors import ConfigError

CONFIG = "fcos_r50_fpn_1x_coco"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epoch=1000000001", "epoch: expected at most 1,000,000, got 1000000001"),
        ("epoch=.inf", "epoch: expected int or null, got inf"),
        ("worker_num=1000000", "worker_num: expected at most 512"),
        ("num_classes=1000000000", "num_classes: expected at most 30,000"),
        ("input_size=1000000000", "input_size: expected at most 268,435,456 pixels"),
        ("input_size=[1000000, 1000000]", "input_size: expected at most 268,435,456 pixels"),
        ("input_size=1000000000000000000000000000000", "is beyond the integers of 64 bits"),
        ("input_size=1e30", "input_size: Resize shares it and takes int or list of int or null, got 1e+30"),
        ("ema_decay=.nan", "ema_decay: expected a finite number, got nan"),
        ("DenseTeacher.train_cfg.sup_weight=.inf", "sup_weight: expected a finite number, got inf"),
        ("LearningRate.base_lr=1e999", "LearningRate.base_lr: expected a finite number, got inf"),
        ("OptimizerBuilder.optimizer.momentum=.nan", "OptimizerBuilder.optimizer.momentum: expected a finite number"),
        ("architecture=[FCOS]", "architecture: expected the name of a component, got ['FCOS'] (list)"),
        ("NormalizeImage.std=[1, .inf, 1]", "NormalizeImage.std.1: expected a finite number"),
    ],
)
def test_values_are_checked_when_the_configuration_is_read(override, message):
    with pytest.raises(ConfigError) as caught:
        load_config(CONFIG, [override])
    assert str(caught.value).startswith("-o: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("component", "override", "message"),
    [
        ("Resize", "target_size=[1000000000, 1000000000]", "target_size is 1e+09 x 1e+09; it must be at most"),
        ("RandomResize", "target_size=[[64, 1000000000]]", "target_size is 64 x 1e+09; it must be at most"),
        ("RandomResize", "{target_size: [64], scale_range: [0.1, 1e9]}", "a size times scale_range is"),
        ("RandomResize", "{input_size: 64, scales: [1e300]}", "input_size times scales is"),
        ("PadBatch", "pad_to_stride=1000000000", "expected 0 or a positive stride of at most 1024"),
        ("PadBatch", "pad_to_size=1000000000", "pad_to_size is 1e+09 x 1e+09"),
        ("RandomCrop", "num_attempts=1000000000", "num_attempts is 1000000000; it must be at least 1 and at most"),
        ("RandomCrop", f"thresholds={[0.5] * 1000}", "the number of thresholds is 1000; it must be at most 200"),
        ("RandomExpand", "ratio=1000000000", "ratio is 1000000000; it must be above 1 and at most 20"),
        ("RandomGaussianBlur", "sigma=[1, 1e9]", "sigma is [1, 1000000000.0]"),
        ("FCOSFeat", "feat_out=1000000000", "feat_out is 1000000000; it must be at least 1 and at most 4096"),
        ("FCOSFeat", "num_convs=1000000000", "num_convs is 1000000000"),
        ("ResNet", "base_width=1000000000", "base_width is 1000000000"),
        ("ResNet", "{groups: 1024, base_width: 64}", "groups times base_width is 65536; it must be at most 1024"),
        ("ResNet", f"return_idx={[1] * 1000}", "return_idx is"),
    ],
)
def test_values_are_checked_before_a_component_is_built(component, override, message):
    """When the configuration is read (ResNet), or when the component is created."""
    form = f"{component}={override}" if override.startswith("{") else f"{component}.{override}"
    with pytest.raises(ConfigError) as caught:
        load_config(CONFIG, [form]).create(component)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["FCOS.fcos_head={name: FCOS}"], "FCOS is inside itself without end"),
        (["StrongAugImage={transforms: [StrongAugImage, StrongAugImage]}"], "StrongAugImage is inside itself"),
        (
            [
                f"LearningRate.schedulers=[{'StrongAugImage, ' * 100}]",
                f"StrongAugImage.transforms=[{'TestReader, ' * 100}]",
                f"TestReader.sample_transforms=[{'RandomFlip, ' * 100}]",
            ],
            "LearningRate: it has more than 1,000 values",
        ),
    ],
)
def test_components_that_multiply_are_not_shown(overrides, message, monkeypatch):
    monkeypatch.setattr("ppdet.core.show.MAX_LINES", 1000)
    config = load_config(CONFIG, overrides)
    with pytest.raises(ConfigError, match=message):
        show(config)


def test_lists_of_components_have_a_bound():
    with pytest.raises(ConfigError, match=r"-o: hooks: expected at most 100 components, got 101"):
        load_config(CONFIG, [f"hooks=[{'FCOS, ' * 101}]"])


def test_repeats_have_a_bound(shared):
    folder = shared / "data" / "bccd"
    with pytest.raises(ValueError, match=r"images x repeat is \d+; it must be at most 1e\+07"):
        COCODataSet(dataset_dir=str(folder), anno_path="annotations/val.json", image_dir="images", repeat=10**9)
