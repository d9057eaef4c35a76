"""Scalars as VisualDL and TensorBoard read them."""

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from ppdet.core.workspace import load_config
from ppdet.engine.hooks import BoardHook
from ppdet.engine.hooks.boards import TensorBoard, VisualDL
from ppdet.engine.trainer import Trainer
from ppdet.utils.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]


def read_visualdl(folder):
    """{name: [(step, value)]} of the file that VisualDL shows."""
    from visualdl import LogReader

    reader = LogReader(file_path=str(sorted(folder.glob("*vdlrecords*"))[-1]))
    return {
        name: [(record.id, record.value) for record in reader.get_data("scalar", name)]
        for name in reader.get_tags()["scalar"]
    }


def read_tensorboard(folder):
    """{name: [(step, value)]} of the newest event file; its checksums have to be right."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.record_writer import masked_crc32c

    content = sorted(folder.glob("events.out.tfevents.*"), key=lambda p: p.stat().st_mtime_ns)[-1].read_bytes()
    events, found = [], {}
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        data = content[12 : 12 + length]
        assert struct.unpack("<I", content[8:12])[0] == masked_crc32c(content[:8])
        assert struct.unpack("<I", content[12 + length : 16 + length])[0] == masked_crc32c(data)
        events.append(Event.FromString(data))
        content = content[16 + length :]
    assert events[0].file_version == "brain.Event:2"
    assert (events[1].session_log.status, events[1].step) == (SessionLog.START, 0)
    for event in events[2:]:
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


BOARDS = [
    pytest.param(VisualDL, read_visualdl, "use_vdl=true", "vdl", id="visualdl"),
    pytest.param(TensorBoard, read_tensorboard, "use_tensorboard=true", "tensorboard", id="tensorboard"),
]


def need(board):
    pytest.importorskip(board.package, reason=f"{board.package} is not installed")


@pytest.mark.parametrize(("board", "read", "option", "name"), BOARDS)
def test_a_resumed_run_shows_all_of_the_run(board, read, option, name, finished, tmp_path):
    need(board)
    options, folder = finished.copy_to(tmp_path / "output")
    # This one's file, of all eight steps, is not what is shown in the end.
    for resume in ("model_final", "snapshot_6"):
        trainer = Trainer(
            load_config(str(finished.path), [*options, option]), evaluate=True, resume=str(folder / resume)
        )
        trainer.train()
    scalars = read(folder / name)
    witness = finished.witness
    losses, rates = scalars["train/loss"], scalars["train/learning_rate"]
    assert [step for step, _ in losses] == [step for step, _ in rates] == [1, 3, 4, 5, 7, 8]
    expected = [report["losses"]["loss"] for step, report in witness.reports]
    # The seventh step alone is reported after resuming from the sixth.
    expected[4] = witness.losses[6]
    assert [value for _, value in losses] == pytest.approx(expected, rel=1e-4)
    assert [step for step, _ in scalars["eval/AP"]] == [4, 8]
    assert len([tag for tag in scalars if tag.startswith("eval/")]) == 12
    assert {"train/images_per_second", "train/data_share", "train/max_mem_host"} <= set(scalars)


def test_another_folder(finished, tmp_path):
    need(VisualDL)
    options, _ = finished.copy_to(tmp_path / "output")
    trainer = Trainer(load_config(str(finished.path), [*options, "use_vdl=true", f"vdl_log_dir={tmp_path / 'logs'}"]))
    trainer.call_hooks("before_train")
    trainer.call_hooks("after_report", finished.witness.reports[0][1])
    trainer.call_hooks("close")
    assert len(read_visualdl(tmp_path / "logs")["train/loss"]) == 1


@pytest.mark.parametrize(("board", "read", "option", "name"), BOARDS)
def test_a_missing_package_is_told_before_training(board, read, option, name, tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, board.package, None)
    with pytest.raises(ConfigError, match=f"needs {board.package} .*: pip install {board.package}, or set it to false"):
        Trainer(load_config(str(tiny), [option]))


@pytest.mark.parametrize(("board", "read", "option", "name"), BOARDS)
def test_a_full_disk_does_not_end_the_run(board, read, option, name, finished, tmp_path, log):
    need(board)
    options, _ = finished.copy_to(tmp_path / "output")
    trainer = Trainer(load_config(str(finished.path), [*options, option]))
    hook = next(hook for hook in trainer.hooks if isinstance(hook, BoardHook))
    hook.before_train(trainer)
    full = open("/dev/full", "wb")  # noqa: SIM115, the hook closes it
    if board is VisualDL:
        hook.opened.writer._writer = full
    else:
        hook.opened.writer._py_recordio_writer._writer = full
    hook.after_evaluation(trainer, {"AP": 0.5})
    hook.after_evaluation(trainer, {"AP": 0.5})
    assert log.text.count("No space left on device") == 1
    hook.close(trainer)
    assert log.text.count("No space left on device") == 2


def test_the_tool_takes_paddledetections_options(finished, tmp_path):
    need(VisualDL)
    command = [sys.executable, "tools/train.py", "-c", finished.path, "-o", f"save_dir={tmp_path}", "epoch=1"]
    command += ["--vdl_log_dir", tmp_path / "logs", "--use_vdl"]
    result = subprocess.run([*command, "maybe"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2 and "expected true or false, not 'maybe'" in result.stderr
    result = subprocess.run([*command, "true"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert [step for step, _ in read_visualdl(tmp_path / "logs")["train/loss"]] == [1, 2, 3, 4]
