"""Malicious and damaged pickles: nothing is executed, and each gives one clear error."""

import collections
import pickle
import pickletools
import struct

import numpy as np
import pytest
from attacks import attacks, numpy_array
from bombs import PROTOCOL, copies, integer
from damage import read_damaged
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ppdet.engine.checkpoints.pickles import to_plain
from ppdet.engine.checkpoints.weights import CheckpointError, read_arrays
from ppdet.utils.formats.unpickle import DType, RefusedError


@pytest.mark.parametrize("way", attacks("x"))
def test_nothing_runs(tmp_path, way):
    target, path = tmp_path / "ran", tmp_path / "evil.pdparams"
    path.write_bytes(attacks(target)[way])
    with pytest.raises(CheckpointError) as caught:
        read_arrays(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 400
    assert not target.exists()
    assert np.ndarray.__doc__ and not hasattr(np.ndarray, "value")


REAL = ["os.system", "os.system, protocol 0", "text", "INST", "eval", "exec", "open", "np.savetxt", "np.memmap"]
REAL += ["objects in an array", "pickle.loads", "ndarray.tofile"]


@pytest.mark.parametrize("way", REAL)
def test_the_attack_is_real(tmp_path, way):
    """Python's own unpickler executes the attack."""
    pickle.loads(attacks(tmp_path / "ran")[way])
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        numpy_array(shape=(10**12,)),
        numpy_array(shape=(2**62, 2**62)),
        numpy_array(shape=(-1, -2)),
        numpy_array(shape=(3,)),
        numpy_array(shape="ab"),
        numpy_array(dtype="f9"),
        numpy_array(dtype=["f4"]),
        b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"ab.",  # bytes
        b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"ab.",  # a bytearray
        b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",  # a frame
        b"\x80\x02Nr" + struct.pack("<I", 2**32 - 1) + b"0.",  # a reference of that number
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",  # lists in lists
        b"\x80\x02}" + b")" + b"\x85" * 500_000 + b"K\x01s.",  # tuples in tuples, as a name
        b"\x80\x02cnumpy\nndarray\n.",
        b"\x80\x02}X\x01\x00\x00\x00wcnumpy\nndarray\ns.",
        b"\x80\x02}X\x01\x00\x00\x00wccollections\nOrderedDict\ns.",
    ],
    ids=range(16),
)
def test_bombs(tmp_path, content):
    """Files that claim huge arrays are refused without allocating memory."""
    import resource

    path = tmp_path / "bomb.pdparams"
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=r"bomb\.pdparams: "):
        read_arrays(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


@pytest.mark.parametrize("name", copies())
def test_copies_of_one_part(tmp_path, name):
    """A small file has one of its parts copied until the memory is full."""
    path = tmp_path / "bomb.pdparams"
    path.write_bytes(copies()[name])
    with pytest.raises(CheckpointError, match=r"bomb\.pdparams: refused: it makes many times the data that it holds"):
        read_arrays(path)


def test_numbers_in_place_of_names(tmp_path):
    """Consecutive ones are free, as in the states of PyTorch's optimizers; others can make mappings slow."""
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps({number: 0 for number in range(30_000)}))
    assert len(read_arrays(path)) == 30_000
    stored_in_one_place = b"".join(integer((2**61 - 1) * (number + 1)) + b"N" for number in range(10_001))
    path.write_bytes(PROTOCOL + b"}(" + stored_in_one_place + b"u.")
    with pytest.raises(CheckpointError, match="more than 10,000 numbers in place of names"):
        read_arrays(path)


def test_a_value_that_contains_itself():
    value = [0] * 100
    value.append(value)
    with pytest.raises(ValueError, match="contains itself"):
        to_plain({"w": value}, {})


def test_a_file_that_is_too_large(tmp_path):
    path = tmp_path / "w.pdparams"
    with open(path, "wb") as stream:
        stream.truncate(5 * 2**30)  # no blocks on the disk
    with pytest.raises(OSError, match="larger than the 4,294,967,296 bytes"):
        read_arrays(path)


def test_shared_parts_cost_once(tmp_path):
    """Thirty mappings, each of which holds the one before twice."""
    value = {"w": np.ones(1)}
    for _ in range(60):
        value = {"a": value, "b": value}
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps(value))
    content = read_arrays(path)
    for _ in range(60):
        assert content["a"] is content["b"]
        content = content["a"]
    assert content["w"].tolist() == [1.0]


ARRAYS = {
    "f4": np.arange(6, dtype=np.float32).reshape(2, 3),
    "transposed": np.arange(6, dtype=np.float64).reshape(2, 3).T,
    "scalar array": np.array(1.5),
    "none": np.zeros((0, 4), np.int64),
    "big-endian": np.arange(3, dtype=">i2"),
    "bool": np.array([True, False]),
    "u2": np.array([16256], np.uint16),
    "half": np.array([0.5], np.float16),
}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_what_pickle_writes_is_read(tmp_path, protocol):
    plain = {"step": 3, "rate": 0.1, "name": "x", "flag": True, "no": None, "list": [1, 2.5], "big": 2**70}
    content = collections.OrderedDict({**ARRAYS, **plain, "nested": {"a": ARRAYS["f4"]}, "np": np.float32(2.5)})
    content["pair"] = ("linear_0.w_0", ARRAYS["f4"])
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    read = read_arrays(path)
    for name, array in ARRAYS.items():
        assert np.array_equal(read[name], array) and read[name].dtype == array.dtype and read[name].flags.writeable
    assert {name: read[name] for name in plain} == plain
    assert read["np"] == np.float32(2.5) and read["np"].dtype == np.float32
    assert np.array_equal(read["nested"]["a"], ARRAYS["f4"]) and np.array_equal(read["pair"], ARRAYS["f4"])


def test_pickles_of_python_2(tmp_path):
    """Text and numbers are stored as bytes there."""
    type_ = b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01(K\x01t" + type_
    path = tmp_path / "w.pdparams"
    path.write_bytes(b"\x80\x02}(U\x01w" + array + b"\x89U\x04" + np.float32(1.5).tobytes() + b"tbu.")
    assert read_arrays(path)["w"].tolist() == [1.5]


@pytest.mark.parametrize("place", [2, 3, 4])
def test_types_with_parts_are_refused(place):
    """What NumPy writes of a type: version, byte order, subarray, names, fields, size, alignment, flags."""
    plain = np.dtype(">f4").__reduce__()[2]
    assert plain[:5] == (3, ">", None, None, None)
    kind = DType("f4")
    kind.__setstate__(plain)
    assert kind.dtype == np.dtype(">f4")
    with pytest.raises(RefusedError, match="arrays of structures, which are not numbers"):
        DType("f4").__setstate__((*plain[:place], ("x",), *plain[place + 1 :]))


VALID = {protocol: pickle.dumps({**ARRAYS, "n": {"lr": 0.1}, "f": np.float64(2)}, protocol) for protocol in (2, 4, 5)}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(list(VALID)), st.floats(0, 1), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255))))
@example(4, 1.0, [])
def test_damaged_files_give_one_error(tmp_path, protocol, share, changes):
    read_damaged(tmp_path / "w.pdparams", VALID[protocol], share, changes[:20])


def test_every_opcode_is_real():
    from ppdet.utils.formats.unpickle import OPCODES

    assert len(set(OPCODES)) == len(OPCODES)
    assert set(OPCODES) <= {opcode.name for opcode in pickletools.opcodes}
