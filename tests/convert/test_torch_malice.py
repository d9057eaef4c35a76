"""Malicious and damaged files, and files with false sizes: nothing runs, and each gives a one-line error."""

import io
import pickletools
import struct
import zipfile
import zlib
from collections import OrderedDict

import numpy as np
import pytest
from attacks import attacks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch_files import FORMS, Call, Global, Pickle, Storage, View, legacy_file, tensor, zip_file

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
