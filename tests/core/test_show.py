"""A configuration as text: every value, with the place that it comes from."""

from pathlib import Path

from ppdet.core.config import read_config
from ppdet.core.show import show


def test_show_names_the_place_of_every_value(load):
    config = load(
        """architecture: ToyDetector
num_classes: 3
ToyHead:
  loss: {alpha: 0.5}
ToyReader:
  transforms:
  - ToyFlip:
  - !ToyLoss {quality: iou}
export: {nms: false}
TrainDataset: !ToyDataSet {anno_path: a}
""",
        "ToyHead.nms=ToyFlip",
    )
    text = show(config)
    squeezed = [" ".join(line.split()) for line in text.splitlines()]
    for line in [
        "architecture: ToyDetector # x.yml:1",
        "loss: # x.yml:4",
        "name: ToyLoss # x.yml:4",
        "alpha: 0.5 # x.yml:4",
        "quality: centerness # default",
        "nms: ToyFlip # -o",
        "num_classes: 3 # x.yml:2",
        "# in_channels: list of int, supplied by the program",
        "- ToyFlip: # x.yml:7",
        "prob: 0.5 # default",
        "quality: iou # x.yml:8",
        "nms: false # x.yml:9",
        "benchmark: false # default",
        "anno_path: a # x.yml:10",
        "ToyBackbone: # default",
        "return_idx: [1, 2, 3] # default",
        "log_iter: 20 # default",
    ]:
        assert line in squeezed, line
    Path("shown.yml").write_text(text)
    again = read_config("shown.yml")
    assert show_values(again) == show_values(config)
    assert again.create("ToyDetector").head.__dict__.keys() == config.create("ToyDetector").head.__dict__.keys()


def show_values(config):
    lines = (line.split("#")[0].strip() for line in show(config).splitlines())
    return sorted(line for line in lines if line)
