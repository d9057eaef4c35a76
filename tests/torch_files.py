"""Files as torch.save writes them, in both of its forms, written without PyTorch."""

import io
import struct
import zipfile
from collections import OrderedDict

import numpy as np

STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}


class Global:
    """A name that a pickle refers to."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    """A call of `function` with `arguments`; if `state` is given, it is set afterwards."""

    def __init__(self, function, *arguments, state=None):
        self.function, self.arguments, self.state = function, arguments, state


class Storage:
    """`count` numbers of a type such as FloatStorage."""

    def __init__(self, kind, data, count):
        self.kind, self.data, self.count = kind, data, count


class View:
    """A tensor: offset, shape and strides, in numbers, in a storage."""

    def __init__(self, storage, offset, shape, strides, rebuild="_rebuild_tensor_v2"):
        self.storage, self.offset, self.shape, self.strides, self.rebuild = storage, offset, shape, strides, rebuild


def tensor(array):
    array = np.ascontiguousarray(array) if np.ndim(array) else np.asarray(array)
    storage = Storage(STORAGES[array.dtype.name], array.tobytes(), array.size)
    return View(storage, 0, array.shape, tuple(stride // array.itemsize for stride in array.strides))


class Pickle:
    """Writes values in protocol 2, and collects the storages that they refer to in `storages`, by key."""

    def __init__(self, *, has_views):
        self.storages, self.has_views = [], has_views

    def dump(self, value):
        return b"\x80\x02" + self.write(value) + b"."

    def write(self, value):
        for kind, write in (
            (bool, lambda v: b"\x88" if v else b"\x89"),
            (str, lambda v: b"X" + struct.pack("<I", len(v.encode())) + v.encode()),
            (OrderedDict, lambda v: self.write(Global("collections", "OrderedDict")) + b")R" + self.items(v)),
            (dict, lambda v: b"}" + self.items(v)),
            (tuple, lambda v: b"(" + b"".join(map(self.write, v)) + b"t"),
            (list, lambda v: b"](" + b"".join(map(self.write, v)) + b"e"),
            (float, lambda v: b"G" + struct.pack(">d", v)),
            (type(None), lambda v: b"N"),
            (Global, lambda v: f"c{v.module}\n{v.name}\n".encode()),
            (Call, self.call),
            (Storage, self.reference),
            (View, self.view),
        ):
            if isinstance(value, kind):
                return write(value)
        assert isinstance(value, int)
        digits = value.to_bytes(10, "little", signed=True)
        return b"\x8a\x0a" + digits

    def items(self, mapping):
        return b"(" + b"".join(self.write(k) + self.write(v) for k, v in mapping.items()) + b"u"

    def call(self, call):
        state = b"" if call.state is None else self.write(call.state) + b"b"
        return self.write(call.function) + self.write(call.arguments) + b"R" + state

    def reference(self, storage):
        if storage not in self.storages:
            self.storages.append(storage)
        view = (None,) if self.has_views else ()
        key = str(self.storages.index(storage))
        return self.write(("storage", Global("torch", storage.kind), key, "cpu", storage.count, *view)) + b"Q"

    def view(self, view):
        more = () if view.rebuild == "_rebuild_tensor" else (False, OrderedDict())
        arguments = (view.storage, view.offset, view.shape, view.strides, *more)
        return self.write(Call(Global("torch._utils", view.rebuild), *arguments))


def zip_file(value, *, root="archive", byteorder=b"little", compression=zipfile.ZIP_STORED, pickled=None):
    """The zip form since PyTorch 1.6. pickled: the pickle to store instead of `value`'s."""
    pickle, stream = Pickle(has_views=False), io.BytesIO()
    content = pickle.dump(value) if pickled is None else pickled
    records = {"data.pkl": content, **({"byteorder": byteorder} if byteorder is not None else {})}
    records |= {f"data/{key}": storage.data for key, storage in enumerate(pickle.storages)}
    records["version"] = b"3\n"
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in records.items():
            # With a fixed date, the same value gives the same bytes.
            archive.writestr(zipfile.ZipInfo(f"{root}/{name}"), data, compression)
    return stream.getvalue()


def legacy_file(value, *, little_endian=True, pickled=None):
    """The form before PyTorch 1.6."""
    pickle = Pickle(has_views=True)
    system = {"protocol_version": 1001, "little_endian": little_endian, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickle.dump(0x1950A86A20F9469CFC6C), pickle.dump(1001), pickle.dump(system)]
    parts.append(pickle.dump(value) if pickled is None else pickled)
    parts.append(pickle.dump([str(key) for key in range(len(pickle.storages))]))
    parts += [struct.pack("<q", storage.count) + storage.data for storage in pickle.storages]
    return b"".join(parts)


FORMS = {"zip": zip_file, "legacy": legacy_file}
