"""Reading files of torch.save and pickles of arrays."""

import collections
import io
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from torch_files import FORMS, Call, Global, Storage, View, tensor, zip_file

from ppdet.convert.named_arrays import read_checkpoint


def read(tmp_path, content, name="w.pth"):
    path = tmp_path / name
    path.write_bytes(content)
    return read_checkpoint(path)


ARRAYS = {
    "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
    "half": np.array([0.5, -2], np.float16),
    "double": np.array([1e300]),
    "count": np.array(7),
    "byte": np.array([255], np.uint8),
    "int": np.array([-1, 2], np.int32),
    "flag": np.array([True, False]),
    "none": np.zeros((0, 4), np.float32),
}


@pytest.mark.parametrize("form", FORMS)
def test_arrays_of_every_type(tmp_path, form):
    content = OrderedDict((name, tensor(array)) for name, array in ARRAYS.items())
    read_back = read(tmp_path, FORMS[form](content)).arrays
    assert list(read_back) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert np.array_equal(read_back[name], array) and read_back[name].dtype == array.dtype, name


@pytest.mark.parametrize("form", FORMS)
def test_bfloat16(tmp_path, form):
    """0x3FC0 is 1.5, 0xC000 is -2, 0x0001 the smallest of all positive values."""
    storage = Storage("BFloat16Storage", struct.pack("<4H", 0x3FC0, 0xC000, 0x0001, 0), 4)
    array = read(tmp_path, FORMS[form]({"w": View(storage, 0, (3,), (1,))})).arrays["w"]
    assert array.dtype == np.float32 and array.tolist() == [1.5, -2.0, 2.0**-133]


@pytest.mark.parametrize("form", FORMS)
def test_views_of_one_storage(tmp_path, form):
    storage = Storage("FloatStorage", np.arange(12, dtype=np.float32).tobytes(), 12)
    content = {
        "all": View(storage, 0, (3, 4), (4, 1)),
        "transposed": View(storage, 0, (4, 3), (1, 4)),
        "rows": View(storage, 4, (2, 4), (4, 1)),
        "column": View(storage, 3, (3,), (4,)),
        "number": View(storage, 11, (), ()),
        "old": View(storage, 1, (2,), (1,), rebuild="_rebuild_tensor"),
    }
    arrays = read(tmp_path, FORMS[form](content)).arrays
    table = np.arange(12, dtype=np.float32).reshape(3, 4)
    expected = [table, table.T, table[1:], table[:, 3], table[2, 3], table.ravel()[1:3]]
    for name, array in zip(content, expected):
        assert np.array_equal(arrays[name], array), name


@pytest.mark.parametrize("form", FORMS)
def test_what_training_keeps_beside_weights(tmp_path, form):
    """A checkpoint of MMEngine: histories, settings, schedules. They are skipped."""
    history = Global("mmengine.logging.history_buffer", "HistoryBuffer")
    metadata = OrderedDict([("", {"version": 1})])
    weights = Call(Global("collections", "OrderedDict"), state={"_metadata": metadata})
    content = {
        "meta": {"config": "style='caffe'", "CLASSES": ("a", "b"), "epoch": 12},
        "message_hub": {"mean": Call(Global("__builtin__", "getattr"), history, "mean")},
        "param_schedulers": [{"milestones": Call(Global("collections", "Counter"), {8: 1, 11: 1})}],
        "args": Call(Global("argparse", "Namespace"), state={"lr": 0.1}),
        "states": Call(Global("collections", "defaultdict"), Global("__builtin__", "dict")),
        "device": Call(Global("torch", "device"), "cuda", 0),
        "type": Global("torch", "float32"),
        "size": Call(Global("torch", "Size"), (2, 3)),
        "state_dict": OrderedDict(a=tensor(np.ones(2, np.float32)), b="text"),
        "empty": weights,
        "parameter": Call(Global("torch._utils", "_rebuild_parameter"), tensor(np.ones(1)), True, OrderedDict()),
    }
    checkpoint = read(tmp_path, FORMS[form](content))
    assert checkpoint.arrays["a"].tolist() == [1, 1] and checkpoint.others == ["b"]
    assert checkpoint.config_text == "style='caffe'"


def test_instances_are_passed_over(tmp_path):
    """Instances are written by protocol 2 as NEWOBJ, then a state with arrays."""
    made = b"cmmengine.logging.history_buffer\nHistoryBuffer\n)\x81}X\x01\x00\x00\x00nK\x01sb"
    items = b"cyacs.config\nCfgNode\n)\x81(X\x01\x00\x00\x00aK\x01uX\x01\x00\x00\x00bK\x02s"
    content = b"\x80\x02}(X\x01\x00\x00\x00h" + made + b"X\x01\x00\x00\x00c" + items + b"X\x05\x00\x00\x00modelX"
    weights = pickle.dumps({"w": np.ones(2)}, protocol=2)[2:-1]
    content = content[:-1] + weights + b"u."
    assert list(read(tmp_path, content).arrays) == ["w"]


def test_without_byteorder(tmp_path):
    """PyTorch before 2.1 does not write the byte order."""
    assert read(tmp_path, zip_file({"w": tensor(np.ones(2))}, byteorder=None)).arrays["w"].tolist() == [1, 1]


SMALL = {"state_dict": OrderedDict(a=tensor(np.ones((2, 3), np.float32)))}


def test_an_ordinary_unpickler_reads_what_these_tests_write():
    """The files that these tests write are also readable by Python's own unpickler."""

    class Reader(pickle.Unpickler):
        def find_class(self, module, name):
            return collections.OrderedDict if name == "OrderedDict" else lambda *arguments: (name, arguments)

        def persistent_load(self, reference):
            return reference[2:]

    stream = io.BytesIO(zip_file(SMALL))
    with zipfile.ZipFile(stream) as archive:
        content = Reader(io.BytesIO(archive.read("archive/data.pkl"))).load()
    name, (storage, offset, shape, strides, *_) = content["state_dict"]["a"]
    assert (name, storage, offset, shape, strides) == ("_rebuild_tensor_v2", ("0", "cpu", 6), 0, (2, 3), (3, 1))
