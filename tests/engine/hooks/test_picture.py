"""Pictures of the first batches."""

import cv2
import pytest

from ppdet.core.workspace import load_config
from ppdet.engine.hooks import Hook
from ppdet.engine.trainer import Trainer


class EndAfter(Hook):
    """Ends the run when its steps are done."""

    def __init__(self, steps):
        self.left = steps

    def after_step(self, trainer):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def train(path, options, steps, **settings):
    with pytest.raises(KeyboardInterrupt):
        Trainer(load_config(str(path), options), hooks=[EndAfter(steps)], **settings).train()


def test_every_start_has_pictures(finished, tmp_path, log):
    assert {p.name for p in finished.folder.glob("*.jpg")} == {"train_batch.jpg", "train_batch_2.jpg"}
    first = [cv2.imread(str(finished.folder / name)) for name in ("train_batch.jpg", "train_batch_2.jpg")]
    assert first[0].shape != first[1].shape or (first[0] != first[1]).any()
    options, folder = finished.copy_to(tmp_path / "output")
    old = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
    log.clear()
    train(finished.path, options, 2, resume=str(folder / "snapshot_6"))
    new = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
    # The seventh and eighth step's pictures show other images than the first and second step's.
    assert len(new) == 2 and new[0] != old[0] and new[1] != old[1]
    assert log.text.count("picture of a training batch") == 2


def test_batches_of_one_step(tiny, tmp_path):
    train(tiny, ["accumulate_steps=2"], 1)
    names = {path.name for path in (tmp_path / "output" / "tiny").glob("*.jpg")}
    assert names == {"train_batch.jpg", "train_batch_2.jpg"}


def test_a_picture_that_cannot_be_written_does_not_end_the_run(tiny, tmp_path, log):
    (tmp_path / "output" / "tiny" / "train_batch.jpg" / "in the way").mkdir(parents=True)
    train(tiny, [], 2)
    assert "train_batch.jpg could not be written" in log.text
    assert (tmp_path / "output" / "tiny" / "train_batch_2.jpg").is_file()
