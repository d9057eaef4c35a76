"""Exported folders from strangers: graphs that are no detector, and self-checks that are too large."""

import re
import zipfile

import numpy as np
import pytest

from ppdet.deploy.backends import load_backend
from ppdet.deploy.backends.base import Backend, Options
from ppdet.deploy.compare import FILE, SelfCheck, require_detections
from ppdet.utils.errors import DeployError

ROWS = np.array([[1, 0.5, 0, 0, 9, 9], [0, 0.4, 1, 1, 5, 5]], np.float32)


def test_outputs_of_a_detector():
    rows, counts = require_detections([ROWS.reshape(-1), np.array([2, 0])])
    assert rows.tolist() == ROWS.tolist() and counts.tolist() == [2, 0]
    rows, counts = require_detections([np.zeros((0, 6), np.float32), np.array([0], np.int32)])
    assert rows.shape == (0, 6) and counts.tolist() == [0]


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ([], "no array"),
        ([ROWS], "[2, 6]"),
        ([ROWS, np.array([1])], "[2, 6], [1]"),
        ([ROWS, np.array([3, -1])], "[2, 6], [2]"),
        ([ROWS, np.array([2.0])], "[2, 6], [1]"),
        ([ROWS, np.array([], int)], "[2, 6], [0]"),
        ([ROWS[:, :5], np.array([2])], "[2, 5], [1]"),
        ([ROWS, np.array([2**62, 2**62, 2**62, 2**62, 2])], "[2, 6], [5]"),
        ([ROWS.astype("U"), np.array([2])], "[2, 6], [1]"),
        ([ROWS * np.float32(np.nan), np.array([2])], "NaN"),
        ([ROWS + np.float32(np.inf), np.array([2])], "NaN or infinite"),
    ],
)
def test_outputs_that_are_no_detections(outputs, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        require_detections(outputs)


@pytest.mark.parametrize("name", ["model.pdiparams", "model.json", "model.onnx", "model.bin"])
def test_a_model_that_is_too_large(tmp_path, name):
    with open(tmp_path / name, "wb") as stream:
        stream.truncate(5 * 2**30)  # no blocks on the disk
    for backend in ("auto", "paddle", "onnxruntime", "openvino"):
        with pytest.raises(DeployError, match=rf"{name}: larger than the 4,294,967,296 bytes"):
            load_backend(tmp_path, backend, Options())


class Other(Backend):
    """A graph with the inputs of something else."""

    name = "other"
    inputs = ["image", "tokens\x1b[31m"]
    find = run = None

    def __init__(self, folder):
        Backend.__init__(self, folder, Options())


Other.__abstractmethods__ = frozenset()


def test_inputs_that_are_not_those_of_a_detector(tmp_path):
    with pytest.raises(DeployError, match=r"needs an input 'tokens\\x1b\[31m'; a detector's inputs are image"):
        Other(tmp_path)({"image": np.zeros((1, 3, 4, 4))})


def test_a_self_check_that_would_fill_the_memory(tmp_path):
    header = {"descr": "<f4", "fortran_order": False, "shape": (160 * 2**20,)}
    with zipfile.ZipFile(tmp_path / FILE, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for _ in range(20):
            stream.write(bytes(2**20))
    content = (tmp_path / FILE).read_bytes()
    size = 20 * 2**20 + 128
    (tmp_path / FILE).write_bytes(content.replace(size.to_bytes(4, "little"), (640 * 2**20).to_bytes(4, "little")))
    with pytest.raises(DeployError, match=r"selfcheck\.npz: damaged \(it unpacks to 671,088,640 bytes\)"):
        SelfCheck.read(tmp_path)


def test_a_self_check_with_too_many_detections(tmp_path):
    arrays = {"image": np.zeros((1, 3, 4, 4), np.float32)}
    SelfCheck(arrays, [np.ones((50_000, 6), np.float32)], 0.0, 0).write(tmp_path)
    assert len(SelfCheck.read(tmp_path).rows[0]) == 50_000
    SelfCheck(arrays, [np.ones((50_001, 6), np.float32)], 0.0, 0).write(tmp_path)
    with pytest.raises(DeployError, match="it has 50,001 detections"):
        SelfCheck.read(tmp_path)
