"""A worker's process imports the extensions of the process that started the job."""

import shutil

import numpy as np
import pytest
import yaml

from ppdet.deploy.batch.worker import DetectorWorker, WorkerSettings
from ppdet.deploy.preprocess import Preprocess
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
    rows = worker.detect(7, {"root": str(images.folder), "names": names})
    assert [(row["image_id"], row["file_name"], row["error"]) for row in rows] == [
        (7 + i, name, None) for i, name in enumerate(names)
    ]
    height, width = 40 + int(names[0][-7:-4]), 70
    expected = worker.detector.run([Preprocess(settings).prepare(np.zeros((height, width, 3), np.uint8))])[0]
    np.testing.assert_allclose(rows[0]["scores"], expected.scores, atol=1e-6)  # of an image that is black


def test_a_file_does_not_name_other_components_of_ours():
    with pytest.raises(DeployError, match="Preprocess has Decode; expected one of Resize, "):
        Preprocess({"Preprocess": [{"type": "Decode"}, {"type": "Permute"}]})
