"""PaddleDetection's exports run here, and ours contain what its deploy/python/infer.py reads."""

import cv2
import numpy as np
import pytest
import yaml
from noise import noisy
from toy import BOX, write_toy

from ppdet.data.sources.coco_names import COCO_CATEGORIES
from ppdet.deploy.detector import Detector
from ppdet.deploy.preprocess import Preprocess
from ppdet.utils.errors import DataError, DeployError

RESIZE = {"type": "Resize", "interp": 2, "keep_ratio": False, "target_size": [64, 64]}
NORMALIZE = {"type": "NormalizeImage", "is_scale": True, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
PERMUTE = {"type": "Permute"}


def image(height=50, width=70):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def prepared(*entries):
    preprocess = Preprocess({"Preprocess": list(entries)})
    return preprocess.join([preprocess.prepare(image())])


def test_operations_do_what_they_do_there():
    """The formulas of its deploy/python/preprocess.py, written down again."""
    arrays = prepared(RESIZE, {**NORMALIZE, "norm_type": "mean_std", "is_channel_first": False}, PERMUTE)
    pixels = cv2.resize(image(), (64, 64), interpolation=2).astype(np.float32) / 255
    expected = ((pixels - NORMALIZE["mean"]) / NORMALIZE["std"]).transpose(2, 0, 1)
    assert arrays["image"].shape == (1, 3, 64, 64) and np.allclose(arrays["image"][0], expected, atol=1e-5)
    assert np.allclose(arrays["scale_factor"], [[64 / 50, 64 / 70]])
    assert arrays["im_shape"].tolist() == [[64, 64]]

    # As for YOLOX: pixels as they are, in a square with a gray border.
    keep = {**RESIZE, "keep_ratio": True, "interp": 1}
    arrays = prepared(keep, {"type": "Pad", "size": [64, 96], "fill_value": [114.0, 113.5, 1.0]}, PERMUTE)
    pixels = cv2.resize(image(), (64, 46), interpolation=1)  # 50 * 64 / 70 = 45.7
    assert arrays["image"].shape == (1, 3, 64, 96)
    assert (arrays["image"][0, :, :46, :64] == pixels.transpose(2, 0, 1)).all()
    for channel, value in enumerate((114, 113.5, 1)):
        border = arrays["image"][0, channel].copy()
        border[:46, :64] = value
        assert (border == value).all()
    assert arrays["im_shape"].tolist() == [[46, 64]]
    # Normalized after it was padded, the border too.
    arrays = prepared(keep, {"type": "Pad", "size": 64}, NORMALIZE, PERMUTE, {"type": "PadStride", "stride": 128})
    gray = (114 / 255 - np.array(NORMALIZE["mean"])) / NORMALIZE["std"]
    assert np.allclose(arrays["image"][0, :, 63, 63], gray, atol=1e-5) and (arrays["image"][0, :, 64:] == 0).all()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"type": "Pad", "size": [64]}, "Pad: size is"),
        ({"type": "Pad", "size": 64, "fill_value": [1, 2]}, "three numbers"),
        ({"type": "Permute", "to_bgr": True}, "Permute: .*to_bgr"),
        ({"type": "LetterBoxResize", "target_size": [64, 64]}, "LetterBoxResize; expected one of"),
    ],
)
def test_operations_that_are_not_known(entry, message):
    with pytest.raises(DeployError, match=message):
        Preprocess({"Preprocess": [entry]})


def test_image_larger_than_its_padding():
    with pytest.raises(DataError, match="an image of 50 x 70 does not fit into 60 x 60"):
        prepared({"type": "Pad", "size": 60}, PERMUTE)


def test_export_of_other_detectors(tmp_path):
    names = [name for _, name in COCO_CATEGORIES]
    operations = [{**RESIZE, "target_size": [64, 128]}, {**NORMALIZE, "mean": [0, 0, 0], "std": [1, 1, 1]}, PERMUTE]
    folder = write_toy(tmp_path, operations, arch="YOLO", label_list=names, NMS={"nms_threshold": 0.6}, mask=False)
    detector = Detector(folder)
    found = detector.predict(np.full((128, 512, 3), 153, np.uint8))
    x1, y1, x2, y2 = BOX
    assert np.allclose(found.boxes, [[4 * x1, 2 * y1, 4 * x2, 2 * y2]]) and found.names == ["bicycle"]
    assert found.scores == pytest.approx([0.6]) and detector.category_ids[1] == 2
    assert detector.category_ids == [number for number, _ in COCO_CATEGORIES] and detector.category_ids[-1] == 90
    # A row of class -1 says that there is nothing.
    (nothing,) = detector.split_outputs([np.array([[-1, 0, 0, 0, 1, 1]], np.float32), np.array([1])])
    assert len(nothing) == 0


def test_our_export_has_what_its_infer_reads(tiny, tmp_path):
    """PredictConfig of its deploy/python/infer.py reads these keys; its operations take these options and no others."""
    from ppdet.engine.export.graph import export_model

    folder = export_model(noisy(tiny), str(tmp_path / "exported"))
    settings = yaml.safe_load((folder / "infer_cfg.yml").read_text())
    assert "FCOS" in settings["arch"]  # one of its SUPPORT_MODELS
    assert isinstance(settings["min_subgraph_size"], int) and isinstance(settings["use_dynamic_shape"], bool)
    assert settings["label_list"] == ["red", "blue"] and settings["mode"] == "paddle" and settings["metric"] == "COCO"
    assert isinstance(settings["draw_threshold"], float)
    takes = {
        "Resize": {"target_size", "keep_ratio", "interp"},
        "NormalizeImage": {"mean", "std", "is_scale", "norm_type"},
        "Permute": set(),
        "PadStride": {"stride"},
    }
    assert [entry["type"] for entry in settings["Preprocess"]] == ["NormalizeImage", "Permute", "PadStride"]
    for entry in settings["Preprocess"]:
        assert entry.keys() - {"type"} <= takes[entry["type"]]
    assert not settings.keys() & {"mask", "tracker", "NMS", "fpn_stride"}  # each would change what it does
    assert {p.name for p in folder.iterdir()} >= {"model.pdiparams"}
