"""A worker's process imports the extensions of the process that started the job."""

import os
import shutil
import socket

import numpy as np
import pytest
import yaml

from ppdet.deploy.batch.read_images import read_items
from ppdet.deploy.batch.worker import DetectorWorker, WorkerSettings
from ppdet.deploy.preprocess import Preprocess
from ppdet.deploy.slicing import Slicing
from ppdet.deploy.tta import TTA
from ppdet.utils.errors import DeployError

BLACKEN = """
from ppdet.core.workspace import register


@register
class Blacken:
    def __init__(self, *, rows: int = 1) -> None:
        self.rows = rows

    def __call__(self, sample, rng=None):
        sample["image"][: self.rows] = 0
        return sample
"""


def test_a_transform_from_outside_needs_its_import_and_workers_import_it(model, images, tmp_path):
    (tmp_path / "blacken.py").write_text(BLACKEN)
    folder = shutil.copytree(model, tmp_path / "model")
    settings = yaml.safe_load((folder / "infer_cfg.yml").read_text())
    settings["Preprocess"].insert(0, {"type": "Blacken", "rows": 1000})
    settings["requires"] = ["blacken"]
    (folder / "infer_cfg.yml").write_text(yaml.safe_dump(settings))
    worker_settings = WorkerSettings(str(folder), "onnxruntime", "cpu", "fp32", threads=1, batch_size=2, threshold=0.0)
    with pytest.raises(DeployError, match="Preprocess has Blacken; give --import blacken"):
        DetectorWorker(worker_settings)

    worker = DetectorWorker(worker_settings._replace(extensions=(str(tmp_path / "blacken.py"),)))
    names = [name for name in images.expected if images.expected[name].scores.size][:2]
    rows = worker.detect(7, {"root": str(images.folder), "names": names, "schemes": ()})
    assert [(row["image_id"], row["file_name"], row["error"]) for row in rows] == [
        (7 + i, name, None) for i, name in enumerate(names)
    ]
    height, width = 40 + int(names[0][-7:-4]), 70
    expected = worker.detector.run([Preprocess(settings).prepare(np.zeros((height, width, 3), np.uint8))])[0]
    np.testing.assert_allclose(rows[0]["scores"], expected.scores, atol=1e-6)  # of an image that is black

    # Without a number, the thresholds of the model count, one for each class.
    settings["class_thresholds"] = {"red": 1.0, "blue": float(np.median(expected.scores))}
    (folder / "infer_cfg.yml").write_text(yaml.safe_dump(settings))
    worker = DetectorWorker(worker.settings._replace(threshold=None))
    (row,) = worker.detect(7, {"root": str(images.folder), "names": names[:1], "schemes": ()})
    kept = (expected.classes == 1) & (expected.scores >= np.median(expected.scores))
    assert 0 < kept.sum() < len(expected) and row["classes"] == [1] * kept.sum()
    np.testing.assert_allclose(row["scores"], expected.scores[kept], atol=1e-6)


def test_views_are_merged(model, images):
    settings = WorkerSettings(str(model), "onnxruntime", "cpu", "fp32", threads=1, batch_size=2, threshold=0.0)
    worker = DetectorWorker(settings._replace(tta=TTA((1.0,))))
    names = list(images.expected)[:3]
    rows = worker.detect(0, {"root": str(images.folder), "names": names, "schemes": ()})
    for name, row in zip(names, rows):
        expected = worker.detector.predict(str(images.folder / name))
        assert expected.scores.size and row["scores"] == pytest.approx(expected.scores.tolist(), abs=1e-4)
        assert len(row["scores"]) != len(images.expected[name])


def test_windows_are_merged(model, images, monkeypatch):
    """As `Detector` does it, in batches whose windows are of several images, of which one cannot be read."""
    slicing = Slicing(size=(32, 40))
    settings = WorkerSettings(str(model), "onnxruntime", "cpu", "fp32", threads=1, batch_size=3, threshold=0.0)
    worker = DetectorWorker(settings._replace(slicing=slicing))
    names = [*list(images.expected)[:2], images.broken[0], *list(images.expected)[2:4]]
    task = {"root": str(images.folder), "names": names, "schemes": ()}
    sizes, run = [], worker.detector.run
    monkeypatch.setattr(worker.detector, "run", lambda samples: sizes.append(len(samples)) or run(samples))
    rows = worker.detect(0, task)
    monkeypatch.undo()
    assert sizes == [3, 3, 3, 3, 3, 1]  # four windows of each image
    for name, row in zip(names, rows):
        if name in images.broken:
            assert row["error"] and row["boxes"] == [] and row["width"] is None
            continue
        expected = worker.detector.predict_sliced(str(images.folder / name), slicing)
        assert (row["error"], row["width"], row["height"]) == (None, 70, 40 + int(name[-7:-4]))
        assert row["scores"] == pytest.approx(expected.scores.tolist(), abs=1e-4) and row["names"] == expected.names
        np.testing.assert_allclose(row["boxes"], expected.boxes, atol=1e-3)
        assert len(row["scores"]) != len(images.expected[name])

    def fail(samples):  # in one window of the second image, alone and in a batch
        if any(sample["image"] is bad for sample in samples):
            raise ValueError("no such luck")
        return run(samples)

    parts = list(worker.prepare(str(images.folder / names[1]), {}))
    bad, prepared = parts[2].sample["image"], worker.detector.prepare_windows
    windows = {str(images.folder / names[1]): [part[2:] for part in parts]}
    monkeypatch.setattr(worker.detector, "prepare_windows", lambda path, cut: windows.get(path) or prepared(path, cut))
    monkeypatch.setattr(worker.detector, "run", fail)
    again = worker.detect(0, task)
    assert again[1]["error"] == "ValueError: no such luck" and again[1]["boxes"] == []
    assert [row["scores"] for row in again[:1] + again[3:]] == [
        pytest.approx(row["scores"], abs=1e-4) for row in rows[:1] + rows[3:]
    ]


def test_whatever_a_list_names_is_a_row(model, images, tmp_path, monkeypatch):
    """Only regular files are opened, and only addresses that the user has allowed; the images between are detected."""
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    os.mkfifo("pipe.png")
    server = socket.socket(socket.AF_UNIX)
    server.bind("socket.png")
    os.symlink("itself.png", "itself.png")
    (tmp_path / "empty.png").touch()
    endless = {"/dev/zero": "not a regular file", "pipe.png": "not a regular file", "socket.png": "not a regular file"}
    expected = {
        **endless,
        **{f"file://{tmp_path}/{name}": reason for name, reason in endless.items() if name[0] != "/"},
        "file:///dev/zero": "not a regular file",
        str(images.folder): "is a directory",
        "itself.png": "too many levels of symbolic links",
        "a" * 5000: "file name too long",
        "nul\0.png": "",
        "half\udc9f.png": "no such file or directory",
        "absent\x1b[31m.png": "no such file or directory",
        "empty.png": "the file is empty",
        "http://169.254.169.254/latest/a.png": "http:// is not read from a list unless --url_schemes names it",
        "HTTPS://10.0.0.1/a.png": "HTTPS:// is not read from a list unless --url_schemes names it",
        "simplecache::http://10.0.0.1/a.png": "a URL with :: is not read from a list",
        "zip://a.png::http://10.0.0.1/a.zip": "a URL with :: is not read from a list",
        "s3://bucket/a::http://10.0.0.1/a.png": "a URL with :: is not read from a list",
        "../x://y.png": "no such file or directory",  # a path
        "nosuch://a.png": "nosuch:// is not read from a list",
    }
    good = str(images.folder / next(iter(images.expected)))
    names = [name for bad in expected for name in (bad, good)]
    settings = WorkerSettings(str(model), "onnxruntime", "cpu", "fp32", threads=1, batch_size=1, threshold=0.0)
    with server:
        rows = DetectorWorker(settings).detect(0, {"root": str(tmp_path), "names": names, "schemes": ()})
    assert [row["file_name"] for row in rows] == names
    for row, (name, reason) in zip(rows[::2], expected.items()):
        assert row["error"] and reason in row["error"] and "\n" not in row["error"], (name, row["error"])
        assert row["boxes"] == [] and row["width"] is None
    assert all(row["error"] is None and row["scores"] == rows[1]["scores"] for row in rows[1::2])


def test_the_user_allows_further_schemes(images):
    from fsspec.implementations.memory import MemoryFileSystem

    content = (images.folder / next(iter(images.expected))).read_bytes()
    MemoryFileSystem().pipe_file("/list/a.png", content)
    task = {"root": "/x", "names": ["memory://list/a.png"], "schemes": ()}
    assert [item.image for item in read_items(task)] == [None]
    assert [item.image for item in read_items({**task, "schemes": ("memory",)})] == [content]
    # Names within the folder that the user gave need no permission.
    task = {"root": "memory://list", "names": ["a.png", "b.png"], "schemes": ()}
    assert [(item.image, item.error) for item in read_items(task)] == [
        (content, None),
        (None, "no such file or directory"),
    ]


def test_a_file_does_not_name_other_components_of_ours():
    with pytest.raises(DeployError, match="Preprocess has Decode; expected one of Resize, "):
        Preprocess({"Preprocess": [{"type": "Decode"}, {"type": "Permute"}]})
