"""A finished run that several tests look at."""

import shutil
from pathlib import Path
from typing import NamedTuple

import paddle
import pytest
from tiny import TINY_YAML, write_tiny_coco

from ppdet.core.workspace import load_config
from ppdet.engine import evaluator
from ppdet.engine.hooks import Hook
from ppdet.engine.trainer import Trainer
from ppdet.utils import device


class Witness(Hook):
    """A hook that records a run's events."""

    def __init__(self):
        self.losses, self.rates, self.waits, self.reports, self.evaluations = [], [], [], [], []

    def after_step(self, trainer):
        self.losses.append(float(trainer.losses["loss"]))
        self.rates.append(trainer.learning_rate)
        self.waits.append(trainer.data_seconds)

    def after_report(self, trainer, report):
        self.reports.append((trainer.iteration, report))

    def after_evaluation(self, trainer, numbers):
        self.evaluations.append((trainer.iteration, numbers))


class Finished(NamedTuple):
    """path: the configuration. folder: the run's folder. witness: the hook that recorded its events."""

    path: Path
    folder: Path
    witness: Witness

    def copy_to(self, place):
        """Overrides that continue a run in a copy of the output, and the copy."""
        shutil.copytree(self.folder.parent, place)
        return [f"save_dir={place}", *OPTIONS], place / "tiny"


OPTIONS = ["log_iter=2", "snapshot_iters=3"]
LAUNCHER = ("PADDLE_TRAINERS_NUM", "PADDLE_DISTRI_BACKEND", "PADDLE_XCCL_BACKEND")
TYPES = ("gpu", "xpu", "npu", "iluvatar_gpu")


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Two epochs of four steps, evaluated; checkpoints 0, snapshot_6, model_final."""
    place = tmp_path_factory.mktemp("finished")
    data = write_tiny_coco(place / "data")
    path = place / "tiny.yml"
    path.write_text(TINY_YAML.format(output=place / "output", data=data))
    witness = Witness()
    Trainer(load_config(str(path), OPTIONS), evaluate=True, hooks=[witness]).train()
    return Finished(path, place / "output" / "tiny", witness)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with a configuration named run.yml, whose output is `output`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yml").write_text(TINY_YAML.format(output="output", data="data"))
    return tmp_path


@pytest.fixture
def trained(finished, tmp_path):
    """A copy of a finished run of red and blue: its file, overrides of it, its folder, its data."""
    options, folder = finished.copy_to(tmp_path / "copy")
    data = tmp_path / "data"
    shutil.copytree(finished.path.parent / "data", data)
    options += [f"{slot}.dataset_dir={data}" for slot in ("TrainDataset", "EvalDataset", "TestDataset")]
    return finished.path, [*options, f"weights={folder}/model_final", "use_gpu=false"], folder, data


@pytest.fixture
def answer_for_device(monkeypatch):
    """Call it to select the branches for an asynchronous device such as a GPU; with False, for a CPU."""

    def answer(runs_behind_host=True):
        monkeypatch.setattr(device, "runs_behind_host", lambda: runs_behind_host)
        monkeypatch.setattr(device, "synchronize", lambda: None)

    return answer


@pytest.fixture
def machine(monkeypatch):
    """machine(gpu=2, npu=0): a Paddle built for these types of device, and how many of each there are."""
    for name in (*LAUNCHER, *(f"FLAGS_selected_{kind}s" for kind in TYPES)):
        monkeypatch.setenv(name, "")  # so that what the code sets is undone
        monkeypatch.delenv(name)
    chosen = []
    monkeypatch.setattr(paddle, "set_device", chosen.append)

    def build(**counts):
        monkeypatch.setattr(device, "supported_types", lambda: ["cpu", *counts])
        monkeypatch.setattr(device, "count", {"cpu": 1, **counts}.__getitem__)
        return chosen

    return build


@pytest.fixture
def bars(monkeypatch):
    """The progress bars of evaluations, which are shown as in a terminal."""
    shown = []

    class Bar(evaluator.tqdm):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            shown.append(self)

    monkeypatch.setattr(evaluator, "tqdm", Bar)
    monkeypatch.setattr(evaluator, "is_watched", lambda: True)
    return shown
