"""Malicious and damaged files, and files with false sizes: nothing runs, and each gives a one-line error."""

import io
import pickletools
import struct
import subprocess
import sys
import zipfile
import zlib
from collections import OrderedDict

import numpy as np
import pytest
from attacks import attacks
from bombs import PROTOCOL, again, array, content, copies, kept, text, tuples_in_tuples, work
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch_files import FORMS, Call, Global, Pickle, Storage, View, legacy_file, tensor, zip_file

from ppdet.convert.conversion import convert_path
from ppdet.convert.named_arrays import ConversionError, read_checkpoint
from ppdet.convert.torch_file import TorchUnpickler


def refused(tmp_path, content):
    """The error message for a file with this content."""
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(ConversionError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 500
    return message


# What an ordinary unpickler would run, as it is and within both of torch.save's forms.
@pytest.mark.parametrize("form", [*FORMS, "bare"])
@pytest.mark.parametrize("way", attacks("x"))
def test_nothing_runs(tmp_path, way, form):
    target = tmp_path / "ran"
    content = attacks(target)[way]
    content = FORMS[form](None, pickled=content) if form in FORMS else content
    refused(tmp_path, content)
    assert not target.exists()
    assert np.ndarray.__doc__ and not hasattr(np.ndarray, "value")


@pytest.mark.parametrize(
    "content",
    [
        Call(Global("torch", "load"), "x"),
        Call(Global("torch.hub", "load"), "x"),
        Call(Global("torch.storage", "_load_from_bytes"), "x"),
        Call(Global("torch", "FloatStorage"), 5),
        Call(Global("builtins", "getattr"), "text", "format"),
        Call(Global("builtins", "getattr"), Global("numpy", "ndarray"), "tofile"),
        Call(Global("torch._utils", "_rebuild_tensor_v2"), "a", 0, (1,), (1,)),
        Call(Global("collections", "OrderedDict"), state={"_metadata": {}, "update": 1}),
        Call(Global("__torch__.Model", "forward"), "x"),
    ],
    ids=range(9),
)
@pytest.mark.parametrize("form", FORMS)
def test_other_calls(tmp_path, form, content):
    refused(tmp_path, FORMS[form]({"w": content, "a": tensor(np.ones(1))}))


def floats(count):
    return Storage("FloatStorage", np.ones(count, np.float32).tobytes(), count)


def bomb(*views):
    return {f"w{i}": view for i, view in enumerate(views)}


SHARED = floats(10)
BOMBS = {
    "repeated numbers": bomb(View(floats(1), 0, (10**6, 10**6), (0, 0))),
    "beyond the end": bomb(View(floats(4), 2, (3,), (1,))),
    "strides beyond the end": bomb(View(floats(4), 0, (2, 2), (3, 1))),
    "negative offset": bomb(View(floats(4), -1, (2,), (1,))),
    "negative stride": bomb(View(floats(4), 3, (2,), (-1,))),
    "negative size": bomb(View(floats(4), 0, (-1, -4), (1, 1))),
    "no integers": bomb(View(floats(4), 0, (1.0,), (1,))),
    "flags": bomb(View(floats(4), 0, (True,), (1,))),
    "strides for other sizes": bomb(View(floats(4), 0, (2, 2), (1,))),
    "forty dimensions": bomb(View(floats(1), 0, (1,) * 70, (1,) * 70)),
    "the same numbers a hundred times": bomb(*[View(SHARED, 0, (10,), (1,))] * 100),
    "more than the file": bomb(View(Storage("FloatStorage", b"", 10**15), 0, (10**15,), (1,))),
    "negative storage": bomb(View(Storage("FloatStorage", b"", -1), 0, (0,), (1,))),
    "an unknown storage": bomb(View(Storage("ComplexFloatStorage", bytes(8), 1), 0, (1,), (1,))),
}
DEEP = b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [*BOMBS, "lists in lists"])
def test_bombs(tmp_path, form, name):
    """Files that claim huge or misplaced arrays are refused without allocating memory."""
    import resource

    content = FORMS[form](BOMBS.get(name), pickled=None if name in BOMBS else DEEP)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(tmp_path, content)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", copies())
def test_copies_of_one_part(tmp_path, form, name):
    """A small file has one of its parts copied until the memory is full."""
    message = refused(tmp_path, FORMS[form](None, pickled=copies()[name]))
    assert "it makes many times the data that it holds" in message


FLOATS = b"cnumpy\ndtype\n" + text("f4") + b"K\x00K\x01\x87R"


def named(array, *names):
    """A mapping that has an array under several names."""
    return PROTOCOL + b"}(" + text("x") + kept(0, array) + b"".join(text(n) + again(0) for n in names) + b"u."


def test_one_array_with_many_names(tmp_path):
    """All of them are names of the network, and each is converted."""
    names = [f"layer{layer}.{block}.conv1.weight" for layer in range(1, 5) for block in range(100)]
    message = refused(tmp_path, named(array(content(400_000), 100, 1000, 1, 1, kind=FLOATS), *names))
    assert "it makes many times the data that it holds" in message
    storage = floats(100_000)
    views = {name: View(storage, 0, (100, 1000, 1, 1), (1000, 1, 1, 1)) for name in names[:8]}
    path = tmp_path / "w.pth"
    path.write_bytes(zip_file(views))
    assert len(read_checkpoint(path).arrays) == 8


@pytest.mark.parametrize("shape", [(30_000, 1, 1, 1), (10**12, 0, 3, 3), (0, 0, 3, 3)])
def test_shapes_that_imply_large_arrays(tmp_path, shape):
    """A shortcut that is the identity, and statistics of as many channels as the weights have rows."""
    path = tmp_path / "w.pkl"
    kernel = array(content(4 * int(np.prod(shape))), *shape, kind=FLOATS)
    path.write_bytes(named(kernel, "conv1.weight", "layer1.0.conv2.weight"))
    with pytest.raises(ConversionError, match=r"30000 outputs, expected as many|is empty: its shape is \["):
        convert_path(path)


READ_ALL = """
import resource, sys
from ppdet.convert import ConversionError, read_checkpoint
resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
for path in sys.argv[1:]:
    try:
        read_checkpoint(path)
    except ConversionError as error:
        print(error, flush=True)
"""


def test_work_is_bounded(tmp_path):
    """Each file is refused at once; the limit of processor time would end the process with one that is not."""
    paths = []
    for number, pickled in enumerate(work().values()):
        for form, bytes_of in (("bare", lambda pickled: pickled), *((f, b) for f, b in FORMS.items())):
            paths.append(tmp_path / f"{number}_{form}.pth")
            paths[-1].write_bytes(bytes_of(pickled) if form == "bare" else bytes_of(None, pickled=pickled))
    # The legacy form ends with a list of storages.
    paths.append(tmp_path / "storages.pth")
    start = legacy_file({"w": 1})
    paths[-1].write_bytes(
        start.removesuffix(Pickle(has_views=True).dump([])) + b"\x80\x02](" + tuples_in_tuples(60) + b"e."
    )
    done = subprocess.run([sys.executable, "-c", READ_ALL, *paths], capture_output=True, text=True)
    assert [line.partition(": ")[0] for line in done.stdout.splitlines()] == list(map(str, paths))


def test_zip_archives_that_torch_does_not_write(tmp_path):
    weights = {"w": tensor(np.zeros(10_000))}
    assert "compressed" in refused(tmp_path, zip_file(weights, compression=zipfile.ZIP_DEFLATED))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a/model.json", "{}")
    assert "no data.pkl" in refused(tmp_path, stream.getvalue())
    # A record that is not there, and one of another size.
    for key, data in (("1", bytes(8)), ("0", bytes(4))):
        stream = io.BytesIO(zip_file({"w": 1}, pickled=pickled_reference()))
        with zipfile.ZipFile(stream, "a") as archive:
            archive.writestr(f"archive/data/{key}", data)
        refused(tmp_path, stream.getvalue())


def many_members(count):
    """An archive of torch.save whose list of members is long. All of them are at the same place."""
    content = zip_file({"w": tensor(np.zeros(2, np.float32))})
    end = content.rindex(b"PK\5\6")
    start = int.from_bytes(content[end + 16 : end + 20], "little")
    entry = b"PK\1\2" + bytes(24) + b"\1" + bytes(17) + b"a"  # a name of one letter
    directory = content[start:end] + entry * count
    return content[:start] + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 9, 9, len(directory), start, 0)


def test_a_long_list_of_members(tmp_path):
    assert "its list of members has more than 8,388,608 bytes" in refused(tmp_path, many_members(180_000))
    path = tmp_path / "w.pth"
    path.write_bytes(many_members(1000))
    assert list(read_checkpoint(path).arrays) == ["w"]


def pickled_reference():
    """The pickle of a tensor of 2 numbers in storage 0."""
    stream = io.BytesIO(zip_file({"w": tensor(np.zeros(2, np.float32))}))
    with zipfile.ZipFile(stream) as archive:
        return archive.read("archive/data.pkl")


def test_records_that_overlap(tmp_path):
    """Each record lies within the one before it, so that together they hold far more than the file."""
    count, size = 200, 4000
    inner = b""
    for key in reversed(range(count)):
        inner = record(f"archive/data/{key}", inner + bytes(size - len(inner) % 4))
    views = {f"w{key}": None for key in range(count)}
    offsets, lengths, place = [], [], 0
    for key in range(count):
        name, length = local_header(inner, place)
        offsets.append(place)
        lengths.append(length)
        place += 30 + len(name)
        storage = Storage("ByteStorage", b"", length)
        views[f"w{key}"] = View(storage, 0, (length,), (1,))
    stream = io.BytesIO(inner)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("archive/data.pkl", Pickle(has_views=False).dump(views))
        for key, (offset, length) in enumerate(zip(offsets, lengths)):
            info = zipfile.ZipInfo(f"archive/data/{key}")
            start = offset + 30 + len(info.filename)
            info.header_offset, info.file_size, info.compress_size = offset, length, length
            info.CRC = zlib.crc32(inner[start : start + length])
            archive.filelist.append(info)
            archive.NameToInfo[info.filename] = info
    message = refused(tmp_path, stream.getvalue())
    # Newer Pythons see it themselves.
    assert "records are larger than the file" in message or "BadZipFile" in message


def record(name, data):
    """A record of a zip archive: its header and its content, not compressed."""
    sizes = struct.pack("<III", zlib.crc32(data), len(data), len(data))
    return b"PK\x03\x04" + bytes(10) + sizes + struct.pack("<HH", len(name), 0) + name.encode() + data


def local_header(data, place):
    length, name_length = struct.unpack_from("<I", data, place + 22)[0], struct.unpack_from("<H", data, place + 26)[0]
    return data[place + 30 : place + 30 + name_length].decode(), length


@pytest.mark.parametrize(
    "content",
    [
        zip_file({"w": tensor(np.ones(2))}, byteorder=b"big"),
        legacy_file({"w": tensor(np.ones(2))}, little_endian=False),
    ],
    ids=list(FORMS),
)
def test_big_endian(tmp_path, content):
    assert "big-endian" in refused(tmp_path, content)


SMALL = {"state_dict": OrderedDict(a=tensor(np.ones((2, 3), np.float32)), b=tensor(np.array(3)), t="x")}


@pytest.mark.parametrize("form", FORMS)
def test_truncation_at_every_offset(tmp_path, form):
    content = FORMS[form](SMALL)
    for length in range(len(content)):
        refused(tmp_path, content[:length])
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    assert list(read_checkpoint(path).arrays) == ["a", "b"]


def test_every_damaged_byte_of_the_directory(tmp_path):
    """Python's reader of zip archives seeks to the places that the directory names."""
    valid = zip_file(SMALL)
    path, messages = tmp_path / "w.pth", []
    for place in range(valid.index(b"PK\x01\x02"), len(valid)):
        for value in (0, 0x7F, 0xFF):
            path.write_bytes(valid[:place] + bytes([value]) + valid[place + 1 :])
            try:
                assert list(read_checkpoint(path).arrays) == ["a", "b"]
            except ConversionError as error:
                messages.append(str(error))
    assert len(messages) > 300
    assert all(message.startswith(f"{path}: ") and "\n" not in message for message in messages)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(list(FORMS)), st.floats(0, 1), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255))))
def test_damaged_files_give_one_line(tmp_path, form, share, changes):
    content = bytearray(FORMS[form](SMALL))
    content = content[: round(max(share, 0.5) * len(content))]
    for place, value in changes[:20]:
        content[int(place * (len(content) - 1))] = value
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    try:
        read_checkpoint(path)
    except ConversionError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)


def test_every_opcode_is_real():
    names = {opcode.code.encode("latin1"): opcode.name for opcode in pickletools.opcodes}
    ours = {names[bytes([code])] for code in TorchUnpickler.dispatch}
    assert {"BINPERSID", "NEWOBJ", "BUILD"} < ours and not ours & {"INST", "OBJ", "NEWOBJ_EX", "EXT1", "PERSID"}
