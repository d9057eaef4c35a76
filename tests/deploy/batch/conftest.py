"""A tiny exported detector, images for it, and Ray, which the tests here share."""

import logging
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from noise import noisy
from tiny import TINY_YAML, write_tiny_coco

pytest.importorskip("ray", reason="the extra `batch` is not installed")

from ppdet.deploy.batch import BatchJob, run_batch
from ppdet.deploy.detector import Detector
from ppdet.engine.export.graph import export_model

FOLDER = Path(__file__).parent
IMAGES = 26
# Workers of Ray run it when they start. Files of these names are the death of whoever opens them, or hold him for a day
# together with Python's lock, as decoders and engines can.
DEADLY = """
import ctypes, os, signal, sys

def hook(event, arguments):
    if event == "open" and str(arguments[0]).endswith("deadly.png"):
        os.kill(os.getpid(), signal.SIGKILL)
    if event == "open" and str(arguments[0]).endswith("endless.png"):
        ctypes.PyDLL(None).sleep(86_400)

sys.addaudithook(hook)
"""


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Folder of an exported FCOS whose random weights detect something in any image; categories 3 and 7."""
    folder = tmp_path_factory.mktemp("model")
    data = write_tiny_coco(folder / "data", images=1)
    (folder / "tiny.yml").write_text(TINY_YAML.format(output=folder / "output", data=data))
    options = ["FCOSHead.class_threshold=0.4", "FCOSHead.level_top_k=20", "FCOSHead.nms.score_threshold=0"]
    cfg = noisy(folder / "tiny.yml", [*options, "FCOSHead.clip_boxes=true"])
    # Most jobs here run in ONNX Runtime: a worker starts in half the time that it takes to load Paddle.
    return export_model(cfg, str(folder / "exported"), formats=["onnx"])


@pytest.fixture(scope="session")
def images(tmp_path_factory, model):
    """A folder with images of several sizes, also below it, and two broken ones.

    Attributes:
        folder. names: of all images, sorted, relative to it. broken: of those that cannot be read. expected: by name,
        what Detector finds in the others.
    """
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    (folder / "below" / "more").mkdir(parents=True)
    names = [f"{('', 'below/', 'below/more/')[i % 3]}{i:03d}.png" for i in range(IMAGES)]
    for i, name in enumerate(names):
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (40 + i, 70, 3), dtype=np.uint8))
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "below" / "cut.png").write_bytes((folder / names[0]).read_bytes()[:200])
    (folder / "notes.txt").write_text("not an image")
    detector = Detector(model, "onnxruntime", threads=1)
    expected = {name: detector.predict(str(folder / name)) for name in names}
    assert min(map(len, expected.values())) > 3
    broken = ["below/cut.png", "empty.jpg"]
    return SimpleNamespace(folder=folder, names=sorted(names + broken), broken=broken, expected=expected)


@pytest.fixture(scope="session")
def start_ray(tmp_path_factory):
    """Start Ray with two processors, if it is not running; the function returns its module."""
    import ray

    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(DEADLY)

    def start():
        if not ray.is_initialized():
            before = os.environ.get("PYTHONPATH", "")
            os.environ.update(PYTHONPATH=f"{folder}:{before}", RAY_USAGE_STATS_ENABLED="0")
            options = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
            ray.init(address="local", num_cpus=2, **options)
            os.environ["PYTHONPATH"] = before
        return ray

    return start


@pytest.fixture
def local_ray(start_ray):
    """Ray with two processors, which the tests of this folder share."""
    return start_ray()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Ray's processes compute while they wait for work: the last test of this folder ends them."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized() and (nextitem is None or FOLDER not in nextitem.path.parents):
        ray.shutdown()


@pytest.fixture(scope="session")
def done(start_ray, model, images, tmp_path_factory):
    """A job that has run, in a folder that has the names in deploy/batch/README.md. Tests copy its output to change it.

    Attributes: folder, job, summary.
    """
    start_ray()
    folder = tmp_path_factory.mktemp("done")
    names = ["output_inference/fcos_r18_fpn_shapes", "dataset/shapes/data/images/val", "found"]
    for name, target in zip(names, (model, images.folder)):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).symlink_to(target)
    places = [str(folder / name) for name in names]
    job = BatchJob(*places, workers=2, threshold=0.5, shard_size=10, backend="onnxruntime")
    return SimpleNamespace(folder=folder, job=job, summary=run_batch(job))
