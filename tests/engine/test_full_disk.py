"""A full disk is reported, the last checkpoint stays valid, training continues, and saving is retried."""

import contextlib
import json
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ppdet.core.workspace import load_config
from ppdet.engine.checkpoints.manifest import read_verified
from ppdet.engine.checkpoints.weights import read_arrays
from ppdet.engine.hooks import CheckpointHook, Hook
from ppdet.engine.hooks.checkpointing import SaveError
from ppdet.engine.runs.run_folder import RunFolder
from ppdet.engine.trainer import Trainer

OPTIONS = ["epoch=4", "keep_checkpoints=0", "use_onednn=false"]


class LimitedFiles:
    """No file may become larger than 16 KiB: writing more fails, as on a full disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.error = "File too large"
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def take(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, self.before[1]))

    def give(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


class SmallDisk:
    """A file system of 150 MB, which a large file fills."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.error = "No space left on device"

    def take(self) -> None:
        with contextlib.suppress(OSError), open(self.folder / "filler", "wb", buffering=0) as stream:
            while True:
                stream.write(bytes(4096))

    def give(self) -> None:
        (self.folder / "filler").unlink(missing_ok=True)


@pytest.fixture(params=["limit", "disk"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[object]:
    """Has `folder`, `take()`, `give()`, and the text of the `error` of who writes in between."""
    if request.param == "limit":
        limited = LimitedFiles(tmp_path)
        yield limited
        limited.give()
        return
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=150m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a file system")
    yield SmallDisk(folder)
    subprocess.run(["umount", str(folder)], check=True)


class Room(Hook):
    """Fills the disk in the second epoch, records the existing files in the third, and frees the disk."""

    def __init__(self, room):
        self.room = room
        self.found = None

    def before_step(self, trainer):
        if trainer.iteration == 5:
            self.room.take()
        if trainer.iteration == 10:
            prefix = RunFolder(trainer.output, keep_every=0).newest()
            self.found = prefix.name, read_verified(prefix).state.iteration
            self.names = {path.name for path in trainer.output.iterdir()}
            self.room.give()

    def after_step(self, trainer):
        if trainer.iteration == 11:
            self.retried = {path.name for path in trainer.output.iterdir()}


def test_training_goes_on_and_saves_again(tiny, tmp_path, room, log):
    whole = Trainer(load_config(str(tiny), [*OPTIONS, f"save_dir={tmp_path}/whole"]), evaluate=True)
    whole.train()
    hook = Room(room)
    trainer = Trainer(load_config(str(tiny), [*OPTIONS, f"save_dir={room.folder}"]), evaluate=True, hooks=[hook])
    log.clear()
    trainer.train()
    errors = [r.getMessage() for r in log.records if r.levelname == "ERROR"]
    # The end of the second epoch, and the lines of the log until there is room.
    assert any("/tiny/1 could not be written" in e and room.error in e and "tries again" in e for e in errors)
    assert any("/tiny/snapshot_9 could not be written" in e for e in errors)
    assert hook.found == ("0", 4)
    assert not [name for name in hook.names if name.startswith((".", "1.", "snapshot_"))], "half a checkpoint is left"
    assert "snapshot_11.json" in hook.retried
    states = [json.loads((t.output / "model_final.json").read_text())["state"] for t in (whole, trainer)]
    assert states[0] == states[1]
    for name in ("model_final.pdparams", "best_model.pdparams"):
        one, other = (read_arrays(t.output / name) for t in (whole, trainer))
        assert all(np.array_equal(value, other[key]) for key, value in one.items())


def test_best_weights_are_written_later(tiny, room, log):
    """With the values that they had when they were the best."""
    trainer = Trainer(load_config(str(tiny), [*OPTIONS, f"save_dir={room.folder}"]), evaluate=True)
    hook = next(h for h in trainer.hooks if isinstance(h, CheckpointHook))
    name, parameter = next(iter(trainer.model.state_dict().items()))
    best = parameter.numpy()
    room.take()
    hook.note_evaluation(trainer, 0, "0", {"AP": 0.5})
    assert trainer.best_value is None and room.error in log.text
    parameter.set_value(parameter + 1)
    hook.note_evaluation(trainer, 1, "1", {"AP": 0.4})
    assert trainer.history == [[1, 0.5], [2, 0.4]] and not (trainer.output / "best_model.pdparams").exists()
    room.give()
    hook.after_step(trainer)
    assert trainer.best_value == 0.5 and hook.unsaved is None
    assert np.array_equal(read_arrays(trainer.output / "best_model.pdparams")[name], best)


def test_the_end_of_a_run_waits_for_room(tiny, room, log, monkeypatch):
    """After the last step there are no lines of the log any more."""
    monkeypatch.setattr("ppdet.engine.hooks.checkpointing.SECONDS_BETWEEN", 0.01)
    # The name in that module alone: `time.sleep` itself is also called by other threads, such as the watchdog.
    clock = SimpleNamespace(sleep=lambda seconds: room.give())
    monkeypatch.setattr("ppdet.engine.hooks.checkpointing.time", clock)

    class Take(Hook):
        def after_step(self, trainer):
            if trainer.iteration == 4:
                room.take()

    trainer = Trainer(load_config(str(tiny), ["epoch=1", f"save_dir={room.folder}"]), hooks=[Take()])
    trainer.train()
    assert "model_final could not be written" in log.text and room.error in log.text
    assert read_verified(trainer.output / "model_final").state.iteration == 4


def test_a_request_to_end_is_answered_while_the_end_of_a_run_waits(tiny, tmp_path, monkeypatch):
    limited, slept = LimitedFiles(tmp_path), []

    class Take(Hook):
        def after_step(self, trainer):
            if trainer.iteration == 4:
                limited.take()

    def sleep(seconds):
        slept.append(seconds)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("ppdet.engine.hooks.checkpointing.time", SimpleNamespace(sleep=sleep))
    trainer = Trainer(load_config(str(tiny), ["epoch=1", f"save_dir={tmp_path}"]), hooks=[Take()])
    try:
        with pytest.raises(SaveError, match=r"model_final: the last checkpoint cannot be written .*-r auto"):
            trainer.train()
    finally:
        limited.give()
    assert slept == [1.0], "of 30 s"
    assert "==== error: " in (trainer.output / "train.log").read_text()
