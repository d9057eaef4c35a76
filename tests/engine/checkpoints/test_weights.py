"""Reading and writing weights: round trips, and files that are not what they should be."""

import json
import pickle
import struct

import numpy as np
import paddle
import pytest
import safetensors
import safetensors.numpy
from damage import read_damaged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch_files import tensor, zip_file

from ppdet.core.workspace import load_config
from ppdet.engine.checkpoints.class_names import classes_of_weights
from ppdet.engine.checkpoints.weights import CheckpointError, load_weights, read_arrays, save_weights, start_from
from ppdet.utils.disk import download
from ppdet.utils.disk.download import DownloadError

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def model(tiny):
    return load_config(str(tiny)).create("FCOS")


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


def test_frozen_layers_without_weights_are_told_of(tmp_path, tiny, model, log):
    """The tiny detector is from scratch and trains all its layers; with the defaults of ResNet, some are frozen."""
    assert start_from(model, None) is False and not log.records
    frozen = load_config(str(tiny), ["ResNet.freeze_at=0", "ResNet.freeze_norm=true"]).create("FCOS")
    assert start_from(frozen, None) is False
    [message] = log.messages
    # Weights, scales and biases of the 1 + 5 convolutions of stem and res2; scales and biases of the 5 + 5 after them.
    assert "random weights, which 38 parameters of the backbone keep, as they are frozen (backbone.conv1." in message
    log.clear()
    save_weights(model.state_dict(), tmp_path / "w.pdparams")
    assert start_from(frozen, str(tmp_path / "w.pdparams")) is True
    assert not [record for record in log.records if record.levelname == "WARNING"]


def test_another_number_of_classes(tmp_path, model):
    state = {k: v.numpy() for k, v in model.state_dict().items()}
    state["fcos_head.fcos_head_cls.weight"] = np.zeros((80, 32, 3, 3), np.float32)
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps(state))
    report = load_weights(model, path, strict=False)
    assert report.mismatched == ["fcos_head.fcos_head_cls.weight"] and len(report.loaded) == len(state) - 1
    with pytest.raises(CheckpointError, match=r"\[80, 32, 3, 3\] in the file, \[2, 32, 3, 3\] in the model"):
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


def test_values_that_are_no_numbers(tmp_path, model):
    """They would give results that mean nothing. 1e300 is infinite in float32. Arrays of another use may have them."""
    name = "fcos_head.fcos_head_cls.weight"
    weights = {key: value.numpy() for key, value in model.state_dict().items()}
    before = {**weights}
    path = tmp_path / "w.pdparams"
    for no_number, strict in ((NAN, True), (INF, False), (-INF, True), (1e300, False)):
        changed = weights[name].astype(np.float64)
        changed[0, 0, 0, 0] = no_number
        path.write_bytes(pickle.dumps({**weights, name: changed}))
        with pytest.raises(CheckpointError) as caught:
            load_weights(model, path, strict=strict)
        assert str(caught.value) == (
            f"{path}: 1 of its {len(weights)} arrays have NaN or infinite values ({name}): its training diverged, or "
            "the file is damaged: use weights from before"
        )
    assert all(np.array_equal(before[key], value.numpy()) for key, value in model.state_dict().items())
    path.write_bytes(pickle.dumps({**weights, "another.weight": np.full(3, NAN, np.float32)}))
    load_weights(model, path, strict=True)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_values_that_are_no_numbers_in_other_files(tmp_path, model, suffix):
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        weights = {"conv1.weight": np.full((64, 3, 7, 7), NAN, np.float32), "bn1.weight": np.ones(64, np.float32)}
        path.write_bytes(zip_file({name: tensor(array) for name, array in weights.items()}))
    else:
        weights = model.state_dict()
        weights["backbone.conv1.conv1.norm._variance"] = paddle.full([64], INF).astype("bfloat16")
        save_weights(weights, path)
    with pytest.raises(CheckpointError, match=r"conv1\.(conv\.weight|norm\._variance)\): its training diverged"):
        load_weights(model, path, strict=False)


def test_bfloat16_of_paddle(tmp_path, model):
    """Its files have the bits of bfloat16 as uint16: 0x7F80 is infinity, 0x7F7F the largest number, 0xFFC0 NaN."""
    name = "fcos_head.fcos_head_cls.bias"
    state = {key: value.astype("bfloat16") for key, value in model.state_dict().items()}
    path = tmp_path / "w.pdparams"
    save_weights(state, path)
    load_weights(model, path, strict=True)
    for bits, is_number in ((0x7F7F, True), (0x7F80, False), (0xFFC0, False)):
        path.write_bytes(pickle.dumps({name: np.array([bits, 0], np.uint16)}))
        if is_number:
            assert load_weights(model, path, strict=False).loaded == [name]
        else:
            with pytest.raises(CheckpointError, match="NaN or infinite values"):
                load_weights(model, path, strict=False)


def raw_safetensors(header, data=b"", length=None):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def test_safetensors_round_trip_and_the_library_reads_it(tmp_path, model):
    path = tmp_path / "w.safetensors"
    save_weights(model.state_dict(), path)
    ours, theirs = read_arrays(path), safetensors.numpy.load_file(path)
    assert set(ours) == set(theirs) == set(model.state_dict())
    for name, value in model.state_dict().items():
        assert np.array_equal(ours[name], value.numpy()) and ours[name].dtype == np.float32
        assert np.array_equal(theirs[name], value.numpy())
    for source in (path, tmp_path / "w"):  # with and without the suffix
        assert len(load_weights(model, source, strict=True).loaded) == len(ours)


def test_shapes_of_safetensors(tmp_path):
    state = {
        "scalar": paddle.to_tensor(2.5),
        "none": paddle.zeros([0, 3]),
        "strided": paddle.arange(6.0).reshape([2, 3]).T,
    }
    save_weights(state, tmp_path / "w.safetensors")
    read = read_arrays(tmp_path / "w.safetensors")
    assert read["scalar"].shape == () and read["scalar"] == 2.5 and read["none"].shape == (0, 3)
    assert read["strided"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_bfloat16(tmp_path, model):
    """NumPy has no such type. 0x3FC0 is 1.5, 0xC000 is -2, 0x0001 the smallest of all positive values."""
    path = tmp_path / "w.safetensors"
    header = {"w": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}
    path.write_bytes(raw_safetensors(header, struct.pack("<3H", 0x3FC0, 0xC000, 0x0001)))
    array = read_arrays(path)["w"]
    assert array.dtype == np.float32 and array.tolist() == [1.5, -2.0, 2.0**-133]
    save_weights({"w": paddle.to_tensor([1.5, -2.0]).astype("bfloat16")}, path)
    assert read_arrays(path)["w"].tolist() == [1.5, -2.0]
    save_weights({k: v.astype("bfloat16") for k, v in model.state_dict().items()}, path)
    expected = {k: v.astype("bfloat16").astype("float32").numpy() for k, v in model.state_dict().items()}
    load_weights(model, path, strict=True)
    assert all(np.array_equal(v.numpy(), expected[k]) for k, v in model.state_dict().items())


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated"),
        (b"\x80\x04N.", "truncated"),
        (pickle.dumps({"w": np.zeros(100)}), "safetensors file"),
        (raw_safetensors({"w": ENTRY}, bytes(7)), "truncated"),
        (raw_safetensors({"w": ENTRY}, bytes(8), length=2**63), "safetensors file"),
        (raw_safetensors({"w": ENTRY}, bytes(8), length=2**30), "safetensors file"),
        (raw_safetensors({"w": {**ENTRY, "data_offsets": [0, 2**62]}}, bytes(8)), "safetensors file"),
        (raw_safetensors({"w": {**ENTRY, "shape": [2**62, 2**62]}}, bytes(8)), "safetensors file"),
        (raw_safetensors({"w": ENTRY, "v": ENTRY}, bytes(8)), "safetensors file"),
        (
            raw_safetensors({"w": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}, bytes(2)),
            "w is of type F8_E4M3",
        ),
        (raw_safetensors([1, 2]), "safetensors file"),
    ],
    ids=range(11),
)
def test_safetensors_that_are_none(tmp_path, content, message):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_arrays(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


VALID = safetensors.numpy.save({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([True, False])})


def test_a_header_that_is_too_large(tmp_path):
    """It is refused before it is parsed: as weights, and where the names of the classes are looked for."""
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", 5 * 2**20) + b'{"a": 1}'.ljust(5 * 2**20) + bytes(8))
    with pytest.raises(CheckpointError, match=r"w\.safetensors: refused: its header has 5,242,880 bytes, more than"):
        read_arrays(path)
    assert classes_of_weights(path) is None


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 1), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8))
def test_damaged_safetensors_give_one_error(tmp_path, share, changes):
    read_damaged(tmp_path / "w.safetensors", VALID, share, changes)


@pytest.mark.parametrize("strict", [False, True])
def test_weights_that_cannot_be_had_can_be_done_without_where_they_only_help(tiny, strict, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "RETRY_SECONDS", 0.01)
    model = load_config(str(tiny)).create("FCOS")
    with pytest.raises(DownloadError) as error:
        load_weights(model, "http://127.0.0.1:1/none.pdparams", strict=strict)
    assert ("or train from scratch with -o pretrain_weights=null" in str(error.value)) == (not strict)


@pytest.mark.parametrize("kind", [">f4", ">f8", ">i2", "u4", "u8", "f16"])
def test_numbers_of_another_machine_and_types_without_tensors_are_loaded(tmp_path, kind):
    values = np.arange(12).reshape(4, 3)
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps({"weight": values.astype(kind), "bias": np.zeros(3, "f4")}, protocol=2))
    model = paddle.nn.Linear(4, 3)
    load_weights(model, path, strict=True)
    np.testing.assert_array_equal(model.weight.numpy(), values)
