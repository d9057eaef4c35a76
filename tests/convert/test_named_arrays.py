"""Finding the named weights in a file, and the metadata beside them."""

import json
import pickle
import struct

import numpy as np
import pytest
import safetensors.numpy
from attacks import numpy_array
from torch_files import Call, Global, tensor, zip_file

from ppdet.convert.named_arrays import ConversionError, read_checkpoint


def read(tmp_path, content, name="w.pth"):
    path = tmp_path / name
    path.write_bytes(content)
    return read_checkpoint(path)


def refused(tmp_path, content, name="w.pth"):
    with pytest.raises(ConversionError) as caught:
        read(tmp_path, content, name)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / name}: ") and "\n" not in message and len(message) < 500
    return message


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: w,
        lambda w: {"state_dict": w, "meta": {}},
        lambda w: {"model": w, "optimizer": {"state": {0: {"momentum": tensor(np.ones(3))}}}, "iteration": 3},
        lambda w: {"model": {"state_dict": w}},
        lambda w: {"ema_state_dict": w},
        lambda w: {"state_dict": w, "ema_state_dict": {"a": tensor(np.zeros(1))}},
        lambda w: {f"module.{name}": value for name, value in w.items()},
        lambda w: {"state_dict": {f"module._orig_mod.{name}": value for name, value in w.items()}},
        lambda w: {"state_dict": {f"model.module.{name}": value for name, value in w.items()}},
    ],
    ids=range(9),
)
def test_wrappers(tmp_path, wrap):
    arrays = read(tmp_path, zip_file(wrap({"a.weight": tensor(np.ones(2))}))).arrays
    assert list(arrays) == ["a.weight"] and arrays["a.weight"].tolist() == [1, 1]


def test_pickles_of_arrays(tmp_path):
    """detectron2's files: {"model": …} by one's author, or as Caffe2 wrote them in Python 2, whose text is bytes."""
    content = {"model": {"a": np.ones(2, np.float32)}, "__author__": "torchvision", "matching_heuristics": True}
    checkpoint = read(tmp_path, pickle.dumps(content), "r.pkl")
    assert checkpoint.author == "torchvision" and checkpoint.arrays["a"].tolist() == [1, 1]
    type_ = b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01(K\x01t" + type_
    old = b"\x80\x02}U\x05blobs}(U\x07conv1_w" + array + b"\x89U\x04" + np.float32(1.5).tobytes() + b"tbus."
    checkpoint = read(tmp_path, old, "r.pkl")
    assert checkpoint.author == "" and checkpoint.arrays["conv1_w"].tolist() == [1.5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a complete"),
        (b"not a pickle", "not a complete"),
        (pickle.dumps([1, 2]), "holds a list, not named weights"),
        (pickle.dumps({"epoch": 3}), "holds no named arrays"),
        (pickle.dumps({}), "holds no named arrays"),
        (zip_file({"state_dict": {}}), "holds no named arrays"),
        (zip_file({"model": Call(Global("mmdet.models", "FCOS"))}), "save model.state_dict()"),
        (zip_file(Call(Global("mmdet.models", "FCOS"))), "save model.state_dict()"),
        (zip_file({"module.a": tensor(np.ones(1)), "a": tensor(np.ones(1))}), "two arrays are called 'a'"),
        (numpy_array(shape=(10**12,)), "not a complete"),
    ],
    ids=range(10),
)
def test_files_without_weights(tmp_path, content, message):
    assert message in refused(tmp_path, content)


def test_missing_file(tmp_path):
    with pytest.raises(ConversionError, match=r"nothing\.pth: no such file"):
        read_checkpoint(tmp_path / "nothing.pth")


def test_safetensors(tmp_path):
    arrays = {"module.a": np.arange(6, dtype=np.float16).reshape(2, 3), "b": np.array([1, 2])}
    content = safetensors.numpy.save(arrays)
    read_back = read(tmp_path, content, "w.safetensors").arrays
    assert set(read_back) == {"a", "b"} and np.array_equal(read_back["a"], arrays["module.a"])
    for length in range(len(content)):
        refused(tmp_path, content[:length], "w.safetensors")
    text = json.dumps({"w": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}).encode()
    assert "type F8_E4M3" in refused(tmp_path, struct.pack("<Q", len(text)) + text + bytes(2), "w.safetensors")


def test_safetensors_of_bfloat16(tmp_path):
    text = json.dumps({"w": {"dtype": "BF16", "shape": [], "data_offsets": [0, 2]}}).encode()
    content = struct.pack("<Q", len(text)) + text + struct.pack("<H", 0x3FC0)
    array = read(tmp_path, content, "w.safetensors").arrays["w"]
    assert array == np.float32(1.5) and array.shape == ()


def test_the_configuration_in_the_file(tmp_path):
    weights = {"a": tensor(np.ones(1))}
    for key in ("config", "cfg"):
        checkpoint = read(tmp_path, zip_file({"meta": {key: "style='caffe'", "epoch": 3}, "state_dict": weights}))
        assert checkpoint.config_text == "style='caffe'"
    assert read(tmp_path, zip_file({"meta": {"config": 3}, "state_dict": weights})).config_text == ""
    assert read(tmp_path, zip_file(weights)).config_text == ""
