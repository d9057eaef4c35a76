"""All commands, and the graphs that they export, with the GPU kernel's conditions in front of the CPU's NMS."""

from pathlib import Path

import numpy as np
import pytest
from commands import call
from gpu_nms import GPUKernel, check_graph
from noise import noisy
from paddle.static import InputSpec
from tiny import TINY_YAML, write_tiny_coco

from ppdet.core.workspace import load_config
from ppdet.deploy.slicing import Slicing
from ppdet.engine.build import build_trained_model
from ppdet.engine.export.static_graph import ExportedDetector, save_graph
from ppdet.engine.predictor import Predictor

# Of what the noise detects: a lot, or nothing.
THRESHOLDS = {"much": "FCOSHead.nms.score_threshold=0.1", "nothing": "FCOSHead.nms.score_threshold=0.9999"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images, tiny.yml, and weights that detect something everywhere."""
    folder = tmp_path_factory.mktemp("gpu_nms")
    data = write_tiny_coco(folder / "data", images=3)
    (folder / "tiny.yml").write_text(TINY_YAML.format(output=folder / "output", data=data))
    noisy(folder / "tiny.yml")
    return folder


@pytest.fixture
def kernel(monkeypatch):
    return GPUKernel(monkeypatch)


def weights(folder):
    return f"weights={folder}/noise.pdparams"


def test_training_with_evaluation(folder, kernel):
    log = call("tools/train.py", "-c", folder / "tiny.yml", "--eval", "-o", "epoch=1")
    assert "AP by epoch: 1: " in log and kernel.calls == [True, True]  # batches of 2 and of 1 image


@pytest.mark.parametrize("found", THRESHOLDS)
def test_evaluation_and_inference(folder, kernel, tmp_path, found):
    """They finish, and none of their NMS calls falls back to the CPU."""
    start = "-c", folder / "tiny.yml", "-o", weights(folder), THRESHOLDS[found]
    call("tools/eval.py", *start)
    start = *start, "--infer_dir", folder / "data" / "images", "--output_dir", tmp_path
    call("tools/infer.py", *start)
    call("tools/infer.py", *start, "--slice_infer", "--slice_size", "64", "64")
    assert len(kernel.calls) >= 8 and all(kernel.calls)


def test_export(folder, kernel, tmp_path):
    start = "-c", folder / "tiny.yml", "-o", weights(folder), THRESHOLDS["much"]
    call("tools/export_model.py", *start, "--output_dir", tmp_path)
    assert kernel.calls and all(kernel.calls)
    for size, batch in (((32, 32), 1), ((64, 64), 2), ((192, 192), 1), ((800, 1344), 1)):
        check_detections(tmp_path / "tiny", arrays(batch, *size), stays=True)
    check_detections(tmp_path / "tiny", arrays(1, 64, 64, [0]), stays=True, empty=[0])


@pytest.mark.parametrize("slicing", [None, Slicing(size=(64, 64))], ids=["whole", "sliced"])
@pytest.mark.parametrize("options", [[], ["level_top_k=1500", "level_top_k_of=classes", "nms.nms_top_k=-1"]])
def test_the_same_detections(folder, monkeypatch, slicing, options):
    """Also of 4500 candidates, more than a GPU takes of a class, but of fewer locations."""
    paths = sorted(map(str, Path(folder / "data" / "images").iterdir()))
    settings = [f"FCOSHead.{option}" for option in (*options, "nms.score_threshold=0.3")]
    cfg = load_config(folder / "tiny.yml", [weights(folder), *settings])
    expected = dict(Predictor(cfg).detect(paths, slicing))
    kernel = GPUKernel(monkeypatch)
    actual = dict(Predictor(cfg).detect(paths, slicing))
    assert all(kernel.calls) and actual.keys() == expected.keys() == {0, 1, 2}
    for index, rows in expected.items():
        order = np.lexsort((-actual[index][:, 1], actual[index][:, 0]))
        np.testing.assert_array_equal(actual[index][order], rows)
        assert len(rows) > 5


GRAPHS = {
    "a fixed size": ([], (64, 96), True),
    "classes are chosen, with a last pixel": (
        ["level_top_k=500", "level_top_k_of=classes", "last_pixel=true"],
        None,
        True,
    ),
    "all that are chosen enter": (["level_top_k=30", "nms.nms_top_k=-1", "class_threshold=0.4"], None, True),
    "all leave": (["nms.keep_top_k=-1"], None, False),
}


@pytest.mark.parametrize(("options", "size", "computes"), GRAPHS.values(), ids=GRAPHS)
def test_exported_graphs(folder, tmp_path, kernel, options, size, computes):
    """Of each kind a small input, in which not all levels have as many locations as candidates are wanted."""
    settings = [f"FCOSHead.{option}" for option in (*options, "nms.score_threshold=0.3")]
    model = build_trained_model(load_config(folder / "tiny.yml", [weights(folder), *settings]))
    detector = ExportedDetector(model, normalizer=None, output="detections")
    detector.eval()
    spec = {"image": InputSpec([None, 3, *(size or (None, None))], "float32", "image")}
    spec.update((key, InputSpec([None, 2], "float32", key)) for key in ("scale_factor", "im_shape"))
    save_graph(detector, spec, tmp_path)
    check_detections(tmp_path, arrays(2, 64, 96), stays=computes)
    for empty in ([0], [1], [0, 1]):
        check_detections(tmp_path, arrays(2, 64, 96, empty), stays=computes, empty=empty)


def check_detections(folder, arrays, *, stays, empty=()):
    """A GPU's kernel takes what the graph at `folder` gives it of `arrays`, and all images but the empty ones have
    detections."""
    computes, (rows, counts) = check_graph(folder, arrays)
    assert computes == stays and rows.shape == (counts.sum(), 6)
    assert (counts > 0).tolist() == [image not in empty for image in range(len(arrays["image"]))]


def arrays(batch, height, width, empty=()):
    """What a graph takes of noise; images that are `empty` are nothing but padding."""
    image = np.random.default_rng(0).standard_normal((batch, 3, height, width)).astype(np.float32)
    shape = np.array([[height, width]] * batch, np.float32)
    shape[list(empty)] = 0
    return {"image": image, "scale_factor": np.ones((batch, 2), np.float32), "im_shape": shape}
