"""Scalars as Weights & Biases, MLflow and SwanLab keep them, without a server."""

import json
import logging
import signal
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from ppdet.core.workspace import load_config
from ppdet.engine.hooks import BoardHook, Hook, default_hooks
from ppdet.engine.hooks.boards import Board, settings_of, without_secrets
from ppdet.engine.hooks.trackers import MLflow, SwanLab, Wandb, allowed_name
from ppdet.engine.trainer import Trainer
from ppdet.utils.errors import ConfigError
from ppdet.utils.process.stop import Stopped

SECRET = "b7f1c0ffee5ec2e7"  # a key and a password, which no file of a run may have


def read_wandb(folder):
    """{name: [(step, value)]} of the newest file of a run: records of protobuf in blocks, as LevelDB's log has them.

    And the settings, and how the run has ended: "finished", "stopped" or "failed".
    """
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # waits for the process that writes
    content = sorted(folder.glob("offline-run-*/run-*.wandb"), key=lambda p: p.stat().st_mtime_ns)[-1].read_bytes()
    found, settings, end, place, data = {}, {}, "", 7, b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:  # the rest of a block
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        data += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # the whole record, or its last part
            record, data = Record.FromString(data), b""
            values = {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.history.item}
            for name in values.keys() - {"_step", "_runtime", "_timestamp"}:
                found.setdefault(name, []).append((values["_step"], values[name]))
            settings.update({item.key: json.loads(item.value_json) for item in record.config.update})
            if record.HasField("exit"):
                end = {0: "finished", 1: "failed", 128 + signal.SIGTERM: "stopped"}[record.exit.exit_code]
    return found, settings, end


def read_mlflow(folder):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("ppdet")
    run = client.search_runs([experiment.experiment_id], order_by=["attribute.start_time DESC"])[0]
    assert run.info.run_name == "tiny"
    history = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    found = {name: sorted((metric.step, metric.value) for metric in metrics) for name, metrics in history.items()}
    end = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "stopped"}[run.info.status]
    return found, {name: yaml.safe_load(value) for name, value in run.data.params.items()}, end


def read_swanlab(folder):
    """The same of SwanLab's file, with its own reader."""
    from swanlab.proto.swanlab.record.v1.record_pb2 import Record
    from swanlab.sdk.internal.core_python.store import DataStoreReader

    reader, found, end = DataStoreReader(), {}, ""
    path = sorted(folder.glob("run-*/run-*.swanlab"), key=lambda p: p.stat().st_mtime_ns)[-1]
    reader.open(path)
    for data in reader:
        record = Record.FromString(data)
        if record.HasField("scalar"):
            found.setdefault(record.scalar.key, []).append((record.scalar.step, record.scalar.value.number))
        if record.HasField("finish"):
            end = {1: "finished", 2: "failed", 3: "stopped"}[record.finish.state]
    reader.close()
    settings = yaml.safe_load((path.parent / "files" / "config.yaml").read_text(encoding="utf-8"))
    return found, {name: entry["value"] for name, entry in settings.items()}, end


TRACKERS = [
    pytest.param(Wandb, read_wandb, "use_wandb=true", id="wandb"),
    pytest.param(MLflow, read_mlflow, "use_mlflow=true", id="mlflow"),
    pytest.param(SwanLab, read_swanlab, "use_swanlab=true", id="swanlab"),
]


def need(board):
    pytest.importorskip(board.package, reason=f"{board.package} is not installed: it is large, and no part of dev")
    if board is MLflow:
        pytest.importorskip("sqlalchemy", reason="mlflow-skinny alone writes no database")


@pytest.fixture
def secret(monkeypatch):
    for name in ("WANDB_MODE", "MLFLOW_TRACKING_URI", "SWANLAB_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("WANDB_API_KEY", "SWANLAB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setattr(sys, "argv", ["train.py", "-o", f"pretrain_weights=https://bob:{SECRET}@example.com/w"])


@pytest.mark.parametrize(("board", "read", "option"), TRACKERS)
def test_a_resumed_run_has_all_figures_and_no_secrets(board, read, option, finished, tmp_path, secret, log):
    need(board)
    options, folder = finished.copy_to(tmp_path / "output")
    trainer = Trainer(
        load_config(str(finished.path), [*options, option]), evaluate=True, resume=str(folder / "snapshot_6")
    )
    trainer.train()
    trainer.hooks = [hook for hook in trainer.hooks if isinstance(hook, BoardHook)]
    trainer.call_hooks("before_train")  # as a run that starts again does
    trainer.call_hooks("after_evaluation", {"AP@0.5": 0.75})
    trainer.call_hooks("after_pseudo_labels", {"precision": 0.5}, np.zeros((20, 30, 3), np.uint8))
    trainer.call_hooks("close")
    assert f"{option.partition('=')[0]}: scalars go to {folder / board.name}" in log.text
    for path in (folder / board.name).rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path
    assert SECRET not in log.text
    scalars, settings, end = read(folder / board.name)
    assert end == "finished"
    assert (settings["LearningRate.base_lr"], settings["TrainReader.batch_size"]) == (0.01, 2)
    losses = scalars["train/loss"]
    assert [step for step, _ in losses] == [1, 3, 4, 5, 7, 8]
    expected = [report["losses"]["loss"] for step, report in finished.witness.reports]
    expected[4] = finished.witness.losses[6]  # the seventh step alone is reported after resuming from the sixth
    assert [value for _, value in losses] == pytest.approx(expected, rel=1e-4)
    assert [step for step, _ in scalars["eval/AP"]] == [4, 8]
    assert scalars["eval/AP_0.5" if board is MLflow else "eval/AP@0.5"] == [(8, 0.75)]
    assert scalars["pseudo_labels/precision"] == [(8, 0.5)]
    assert any(path.suffix == ".png" for path in (folder / board.name).rglob("*"))


@pytest.mark.parametrize(("board", "read", "option"), TRACKERS)
def test_a_run_that_fails_or_is_stopped_is_shown_as_such(board, read, option, tiny, tmp_path, secret):
    need(board)
    trainer = Trainer(load_config(str(tiny), [f"save_dir={tmp_path}/output", option]))
    hook = next(hook for hook in trainer.hooks if isinstance(hook, BoardHook))
    for error, expected in ((ValueError(f"https://bob:{SECRET}@x"), "failed"), (Stopped(signal.SIGTERM), "stopped")):
        hook.before_train(trainer)
        with pytest.raises(type(error)):
            try:
                raise error
            finally:
                hook.close(trainer)
        assert read(trainer.output / board.name)[2] == expected
    for path in (trainer.output / board.name).rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(("board", "read", "option"), TRACKERS)
def test_a_missing_package_is_told_before_training(board, read, option, tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, board.package, None)
    with pytest.raises(ConfigError, match=f"{board.setting} needs {board.package} .*: pip install {board.package}, or"):
        default_hooks(load_config(str(tiny), [option]), evaluate=False)


def test_a_server_that_is_gone_does_not_end_the_run(finished, tmp_path, secret, monkeypatch, log):
    need(MLflow)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://bob:{SECRET}@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    options, _ = finished.copy_to(tmp_path / "output")
    trainer = Trainer(load_config(str(finished.path), [*options, "use_mlflow=true"]))
    hook = next(hook for hook in trainer.hooks if isinstance(hook, BoardHook))
    hook.before_train(trainer)
    hook.after_evaluation(trainer, {"AP": 0.5})
    hook.close(trainer)
    assert "http://***@127.0.0.1:9" in log.text and "training continues" in log.text
    assert SECRET not in log.text


class Broken(Wandb):
    """A board whose server goes away after the first figures."""

    calls = 0

    def __init__(self, folder: Path, run: str) -> None:
        self.place = "a server"

    @classmethod
    def errors(cls):
        return (OSError,)

    def add_settings(self, settings):
        assert settings["save_dir"]

    def add(self, scalars, step):
        Broken.calls += 1
        if Broken.calls > 1:
            raise ConnectionError(f"https://bob:{SECRET}@example.com is gone")

    def close(self, error):
        raise ConnectionError("gone")


def test_a_server_that_has_gone_is_asked_once(tiny, monkeypatch, log):
    monkeypatch.setitem(sys.modules, "wandb", logging)  # any module, since Broken needs none
    trainer = Trainer(load_config(str(tiny)))
    hook = BoardHook(Broken)
    hook.before_train(trainer)
    for _ in range(3):
        hook.after_evaluation(trainer, {"AP": 0.5})
    hook.close(trainer)
    assert Broken.calls == 2
    assert log.text.count("https://***@example.com is gone; training continues") == 1
    assert log.text.count("use_wandb: scalars could not be written") == 2  # the second one while closing


class Told(Board):
    """A board that keeps what it is told."""

    setting, package, name, place = "use_told", "logging", "told", "memory"

    def __init__(self, folder: Path, run: str) -> None:
        self.settings, self.ends = {}, []
        Told.last = self

    def add_settings(self, settings):
        self.settings.update(settings)

    def close(self, error):
        self.ends.append(error)


class Fails(Hook):
    def before_step(self, trainer):
        raise ValueError("broken")


def test_a_board_learns_settings_without_passwords_and_what_ended_the_run(tiny, tmp_path):
    address = f"https://bob:{SECRET}@example.com/w.pdparams?signature={SECRET}"
    cfg = load_config(str(tiny), [f"save_dir={tmp_path}"])
    boards = [BoardHook(Told), BoardHook(Told)]
    trainer = Trainer(cfg, hooks=[boards[0], Fails()])
    with pytest.raises(ValueError, match="broken") as caught:
        trainer.train()
    assert Told.last.ends == [caught.value]
    assert Told.last.settings["OptimizerBuilder.optimizer.type"] == cfg.value("OptimizerBuilder.optimizer.type")
    settings = settings_of(load_config(str(tiny), [f"pretrain_weights={address}"]))
    assert settings["pretrain_weights"] == "https://***@example.com/w.pdparams?***"
    try:  # a run that begins while another error is handled does not fail by that one
        raise KeyError
    except KeyError:
        boards[1].before_train(trainer)
        boards[1].close(trainer)
    assert Told.last.ends == [None]


class Refuses(Told):
    def add_settings(self, settings):
        raise OSError(f"https://bob:{SECRET}@example.com refuses")

    def add(self, scalars, step):
        pytest.fail("it is asked again")

    tries_again = False


def test_a_board_that_cannot_begin_is_one_line_of_the_log(tiny, log):
    trainer, hook = Trainer(load_config(str(tiny))), BoardHook(Refuses)
    hook.before_train(trainer)
    hook.after_evaluation(trainer, {"AP": 0.5})
    hook.close(trainer)
    assert "use_told: the run cannot begin there: https://***@example.com refuses; training continues" in log.text


def test_secrets_are_left_out_of_messages(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    monkeypatch.setenv("SHORT_TOKEN", "a")
    text = "POST https://u:p@ss@host/x failed: key 0123456789abcdef is wrong"
    assert without_secrets(text) == "POST https://***@host/x failed: key *** is wrong"


def test_names_of_scalars_that_mlflow_takes():
    assert [allowed_name(name) for name in ("eval/AP@0.5", "train/loss_cls", "eval/größe")] == [
        "eval/AP_0.5",
        "train/loss_cls",
        "eval/gr__e",
    ]
