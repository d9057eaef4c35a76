"""The published detectors: every name has a configuration, and loads weights of any code base."""

import re
import sys
from pathlib import Path

import foreign
import numpy as np
import pytest
import safetensors.numpy
from torch_files import tensor, zip_file

import ppdet.zoo
from ppdet.convert.suggest import TABLE
from ppdet.core.workspace import load_config
from ppdet.utils.disk.files import write_json

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import model_zoo  # noqa: E402

# Published AP, from the sources' own pages, in the order of the page.
AP = [39.6, 40.0, 44.3, 41.8, 42.6, None, None, None, 30.6, 35.1, 37.1, 44.2]  # PaddleDetection
AP += [36.6, 38.7, 42.3, 39.1, 38.5, 40.8, 42.6]  # MMDetection
AP += [37.0, 37.8, 38.1, 38.2, 41.4, 42.5]  # FCOS_PLUS
AP += [39.2, 33.6]  # torchvision, FCOS in Pytorch


def test_every_published_detector_has_a_configuration():
    published = ppdet.zoo.published()
    assert ppdet.zoo.list() == [one.name for one in published]
    assert [one.ap for one in published] == AP
    for one in published:
        cfg = load_config(str(one.config))
        assert cfg.name == one.name and cfg["num_classes"] == 80
        assert cfg["weights"] == f"output/{one.name}/model_final"


def test_every_coco_configuration_is_published():
    files = [
        *(ROOT / "configs" / "fcos").glob("*_coco.yml"),
        *(ROOT / "configs" / "semi_det").glob("denseteacher/*_coco*"),
    ]
    assert {path.stem for path in files} == set(ppdet.zoo.list())


def test_the_page_shows_every_row():
    """`make zoo`, which .ci/run calls, compares the figures too."""
    page = (ROOT / "docs" / "MODEL_ZOO.md").read_text()
    assert page.startswith(model_zoo.HEAD)
    for one in ppdet.zoo.published():
        row = re.search(rf"^\| \[{one.name}\]\((.*?)\) \| (.*?) \|", page, re.MULTILINE)
        assert (ROOT / "docs" / row[1]).resolve() == one.config
        assert row[2] == ("not published" if one.ap is None else f"{one.ap:.1f}")


def test_conversion_suggests_published_names():
    suggested = {name for row in TABLE for name in row.configurations}
    assert suggested < set(ppdet.zoo.list())


@pytest.fixture
def small_zoo(tmp_path, monkeypatch):
    """A zoo with one detector, in its own folder."""
    (tmp_path / "fcos").mkdir()
    (tmp_path / "fcos" / "small.yml").write_text(SMALL)
    source = {"page": None, "hardware": "none"}
    detector = {"source": "us", "ap": 1.5, "config": "fcos/small.yml"}
    write_json(tmp_path / "zoo.yml", {"sources": {"us": source}, "detectors": {"small": detector}})
    monkeypatch.setattr(ppdet.zoo, "CONFIGS", tmp_path)
    return tmp_path


SMALL = """
architecture: FCOS
use_gpu: false
worker_num: 0
num_classes: 3
ResNet: {depth: 18, variant: b}
FPN: {out_channel: 32}
FCOSHead: {fcos_feat: {name: FCOSFeat, feat_in: 32, feat_out: 32, conv_bias: false}}
TestDataset: !ImageFolder {dataset_dir: .}
TestReader:
  sample_transforms: [Decode: {}, NormalizeImage: {}, Permute: {}]
  batch_transforms: [PadBatch: {pad_to_stride: 32}]
"""


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_of_another_code_base_are_converted(small_zoo, log, suffix):
    arrays = foreign.arrays(foreign.mmdet(18, channels=32, classes=3), seed=0)
    path = small_zoo / f"w{suffix}"
    if suffix == ".pth":
        weights = {name: tensor(array) for name, array in arrays.items()}
        path.write_bytes(zip_file({"state_dict": weights}))
    else:
        safetensors.numpy.save_file(arrays, path)
    detector = ppdet.zoo.load("small", str(path), ["FCOSHead.nms.keep_top_k=5"])
    assert "mmdet: " in log.text and "0 missing, 0 unexpected" in log.text
    read = detector.model.state_dict()["fcos_head.fcos_head_cls.weight"].numpy()
    assert np.array_equal(read, arrays["bbox_head.conv_cls.weight"])
    assert detector.model.fcos_head.nms.keep_top_k == 5


def test_mistakes_are_told(small_zoo):
    with pytest.raises(ppdet.zoo.ZooError, match=r"no published detector 'smal'; did you mean 'small'\?"):
        ppdet.zoo.load("smal")
    with pytest.raises(ppdet.zoo.ZooError, match=r"us has published no weights for it: pass weights=FILE"):
        ppdet.zoo.load("small")
    with pytest.raises(OSError, match="no such file"):
        ppdet.zoo.load("small", str(small_zoo / "absent.pth"))
