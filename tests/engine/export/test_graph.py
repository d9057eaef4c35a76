"""infer_cfg.yml says what training's transforms do, and exported graphs detect what the model detects."""

import numpy as np
import pytest
import yaml

from ppdet.core.workspace import load_config
from ppdet.data.transforms import Compose, Decode, NormalizeImage, PadBatch, Permute, Resize
from ppdet.deploy.compare import with_area
from ppdet.deploy.detector import Detector
from ppdet.deploy.preprocess import Preprocess
from ppdet.engine.export.graph import export_model
from ppdet.engine.export.infer_cfg import describe_transforms
from ppdet.engine.predictor import Predictor

RULES = {
    "MMDetection": ["class_threshold=0.4", "level_top_k=20", "clip_boxes=true", "nms.score_threshold=0"],
    "FCOS_PLUS": [
        "class_threshold=0.4",
        "level_top_k=20",
        "level_top_k_of=classes",
        "clip_boxes=true",
        "last_pixel=true",
        "sqrt_score=true",
        "nms.score_threshold=0",
    ],
}


def test_deployment_makes_the_batch_that_evaluation_makes():
    """With every option that the file may have, also after it was written and read."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, size, dtype=np.uint8) for size in ((30, 50, 3), (48, 20, 3))]
    samples = [
        Decode(),
        Resize(target_size=65, interp=2),
        NormalizeImage(mean=[1, 2, 3], std=[4, 5, 6], is_scale=False, channel_order="bgr"),
        Permute(),
    ]
    batches = [PadBatch(pad_to_stride=32, pad_to_size=[65, 100])]
    described = describe_transforms([*samples, *batches])
    deployed = Preprocess(yaml.safe_load(yaml.safe_dump({"Preprocess": described})))
    arrays = deployed.join([deployed.prepare(image) for image in images])
    expected = Compose(batches)([Compose(samples)({"image": image}) for image in images])
    assert arrays["image"].shape == (2, 3, 96, 128)
    for key, array in arrays.items():
        assert np.array_equal(array, np.stack([sample[key] for sample in expected])), key


@pytest.mark.parametrize(("name", "fuse_normalize"), [("MMDetection", False), ("FCOS_PLUS", True)])
def test_exported_detections(folder, tmp_path, name, fuse_normalize):
    options = [f"FCOSHead.{option}" for option in RULES[name]]
    options += [f"weights={folder}/noise.pdparams", f"TestReader.fuse_normalize={str(fuse_normalize).lower()}"]
    cfg = load_config(folder / "padded.yml", options)
    paths = sorted(str(path) for path in (folder / "data" / "images").iterdir())
    expected = dict(Predictor(cfg).detect(paths))
    exported = export_model(cfg, str(tmp_path))
    for onednn in (True, False):
        detector = Detector(exported, onednn=onednn)
        assert sorted(detector.backend.inputs) == ["im_shape", "image", "scale_factor"]
        actual = dict(detector.detect(paths, batch_size=2))
        assert detector.backend.onednn == onednn
        for index, rows in expected.items():
            rows = with_area(rows)
            assert len(rows) > 3 and rows.shape == actual[index].shape
            np.testing.assert_allclose(actual[index], rows, rtol=1e-3, atol=1e-2)
            # Back in the image's pixels: its 101 columns and 77 rows, or just below.
            x, y = rows[:, [2, 4]], rows[:, [3, 5]]
            less = 0.35 if name == "FCOS_PLUS" else 0.0  # a pixel of the resized image, but one of the original
            assert min(x.min(), y.min()) == 0
            assert x.max() == pytest.approx(101 - less, abs=0.2) and y.max() == pytest.approx(77 - less, abs=0.2)


def test_exported_graph_that_detects_nothing(folder, tmp_path):
    options = [*RULES["FCOS_PLUS"][1:], "class_threshold=0.9999"]
    options = [*(f"FCOSHead.{option}" for option in options), f"weights={folder}/noise.pdparams"]
    exported = export_model(load_config(folder / "padded.yml", options), str(tmp_path))
    path = next((folder / "data" / "images").iterdir())
    for onednn in (True, False):
        assert [rows.shape for _, rows in Detector(exported, onednn=onednn).detect([str(path)])] == [(0, 6)]


def test_boxes_are_clipped_without_suppression_too(folder, tmp_path):
    from paddle import inference

    options = [*(f"FCOSHead.{option}" for option in RULES["MMDetection"]), "export.nms=false"]
    cfg = load_config(folder / "padded.yml", [*options, f"weights={folder}/noise.pdparams"])
    exported = export_model(cfg, str(tmp_path))
    graph = next(path for path in exported.iterdir() if path.name in ("model.json", "model.pdmodel"))
    predictor = inference.create_predictor(inference.Config(str(graph), str(exported / "model.pdiparams")))
    arrays = {"image": np.random.default_rng(0).standard_normal((1, 3, 64, 96)), "scale_factor": [[0.5, 2.0]],
              "im_shape": [[60.0, 80.0]]}  # fmt: skip
    for name in predictor.get_input_names():
        predictor.get_input_handle(name).copy_from_cpu(np.array(arrays[name], np.float32))
    predictor.run()
    boxes, scores = (predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names())
    assert boxes.shape == (1, 60, 4) and scores.shape == (1, 2, 60)  # 20 of each of 3 levels
    assert boxes.min() == 0 and boxes[..., ::2].max() == 40 and boxes[..., 1::2].max() == 120
    assert set(scores[scores <= 0.1]) == {0.0}
