"""Reading and writing weights: round trips, and files that are not what they should be."""

import os
import pickle

import numpy as np
import paddle
import pytest

from ppdet.core.workspace import load_config
from ppdet.engine.weights import CheckpointError, load_weights, read_arrays, save_weights


@pytest.fixture
def model(tiny):
    return load_config(str(tiny)).create("FCOS")


class Attack:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def test_a_pickle_cannot_run_code(tmp_path, model):
    path, target = tmp_path / "evil.pdparams", tmp_path / "ran"
    path.write_bytes(pickle.dumps({"backbone.conv1.conv1.conv.weight": Attack(target)}))
    with pytest.raises(CheckpointError, match=r"evil\.pdparams: refused: .*system"):
        load_weights(model, path, strict=False)
    assert not target.exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_truncated_file(tmp_path, model, share):
    path = tmp_path / "w.pdparams"
    save_weights(model.state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match="truncated"):
        read_arrays(path)


@pytest.mark.parametrize("content", [b"not a pickle", pickle.dumps([1, 2]), b"\x80"])
def test_foreign_file(tmp_path, content):
    path = tmp_path / "w.pdparams"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"w\.pdparams"):
        read_arrays(path)


def test_round_trip_and_paddle_reads_it(tmp_path, model):
    path = tmp_path / "w.pdparams"
    save_weights(model.state_dict(), path)
    ours, paddles = read_arrays(path), paddle.load(str(path))
    for name, value in model.state_dict().items():
        assert np.array_equal(ours[name], value.numpy())
        assert np.array_equal(paddles[name].numpy(), value.numpy())


def test_backbone_alone(tmp_path, model):
    """An ImageNet classifier: names without `backbone.`, and a classifier that is not wanted."""
    weights = {k[len("backbone.") :]: v.numpy() + 1 for k, v in model.state_dict().items() if k.startswith("backbone.")}
    path = tmp_path / "resnet.pdparams"
    path.write_bytes(pickle.dumps({**weights, "out.weight": np.zeros((512, 1000), np.float32)}))
    report = load_weights(model, path, strict=False)
    assert len(report.loaded) == len(weights) and report.unexpected == ["backbone.out.weight"]
    assert all(name.startswith(("neck.", "fcos_head.")) for name in report.missing)
    state = model.state_dict()
    assert all(np.array_equal(state[f"backbone.{k}"].numpy(), v) for k, v in weights.items())


def test_another_number_of_classes(tmp_path, model):
    state = {k: v.numpy() for k, v in model.state_dict().items()}
    state["fcos_head.fcos_head_cls.weight"] = np.zeros((80, 32, 3, 3), np.float32)
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps(state))
    report = load_weights(model, path, strict=False)
    assert report.mismatched == ["fcos_head.fcos_head_cls.weight"] and len(report.loaded) == len(state) - 1
    with pytest.raises(CheckpointError, match=r"\[80, 32, 3, 3\] in the file, \[2, 32, 3, 3\] here"):
        load_weights(model, path, strict=True)


def test_weights_of_something_else(tmp_path, model):
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps({"conv": np.zeros(3, np.float32)}))
    with pytest.raises(CheckpointError, match="none of its 1 arrays fits"):
        load_weights(model, path, strict=False)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "w.pdparams"
    save_weights({"a": paddle.ones([2])}, path)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(paddle, "save", full)
    with pytest.raises(OSError, match="No space"):
        save_weights({"a": paddle.zeros([2])}, path)
    assert read_arrays(path)["a"].tolist() == [1.0, 1.0]
    assert [p.name for p in tmp_path.iterdir()] == ["w.pdparams"]
