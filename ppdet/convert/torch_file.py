"""Reads files of torch.save without PyTorch, and without running code that a file asks for.

torch.save writes a zip archive with a pickle and one record for each storage (since PyTorch 1.6). Before, it wrote
several pickles, followed by the storages ("legacy form"). Pickles of arrays alone, such as detectron2's .pkl files, are
read too.
"""

import errno
import io
import math
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ppdet.utils.disk.files import open_regular, read_regular
from ppdet.utils.formats.safetensors_file import bfloat16_to_float32
from ppdet.utils.formats.unpickle import (
    LARGEST_WEIGHTS,
    LONGEST_GLOBAL,
    STANDS_FOR,
    Allowance,
    ArrayUnpickler,
    RefusedError,
    check_shape,
    counted,
)
from ppdet.utils.formats.zip_directory import LargeDirectoryError, opened_zip

ZIP_START = b"PK\x03\x04"
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
# Several tensors can share a storage, such as a parameter with two names. A file with more uses per number than this
# is meant to fill the memory.
MOST_USES = 8
BFLOAT16 = "bfloat16"
STORAGE_TYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": BFLOAT16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "?",
}
# Classes of objects that checkpoints hold beside weights: settings, schedules, histories. They are not rebuilt.
FOREIGN = re.compile(
    r"(mmengine|mmcv|mmdet|maskrcnn_benchmark|fcos_core|detectron2|timm|addict|pathlib|datetime)\.[\w.]+"
    r"|yacs\.config\.CfgNode|argparse\.Namespace|collections\.(Counter|defaultdict)"
    r"|(builtins|__builtin__)\.(set|dict|list)|torch\.(device|(b?float|u?int)\d+|bool)"
)


class Foreign:
    """Placeholder for an object that is not rebuilt. It accepts everything that a pickle does to objects."""

    def __call__(self, *arguments: object) -> "Foreign":
        return self

    def append(self, item: object) -> None:
        pass

    def extend(self, items: object) -> None:
        pass


def attribute(value: object, name: object) -> Foreign:
    """Replaces getattr, which pickles of protocol 2 use for methods of classes. Only placeholders are allowed."""
    if not isinstance(value, Foreign):
        raise RefusedError("it asks for an attribute of an object, which weights do not need")
    return value


class StorageType:
    """Replaces torch.FloatStorage and the other storage types. `code` is NumPy's name of the type, or BFLOAT16."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.dtype = np.dtype("<u2" if code == BFLOAT16 else code)


class Storage:
    """A one-dimensional array of `count` numbers. `load` returns its bytes when they are first needed."""

    def __init__(self, kind: StorageType, count: int, load: Callable[[], bytes] | None = None) -> None:
        self.kind, self.count, self.load = kind, count, load
        self.uses = 0
        self.cache: np.ndarray | None = None

    @property
    def bytes_long(self) -> int:
        return self.count * self.kind.dtype.itemsize

    @property
    def numbers(self) -> np.ndarray:
        if self.cache is None:
            if self.load is None:
                raise ValueError("a storage without numbers")
            numbers = np.frombuffer(self.load(), self.kind.dtype, self.count)
            self.cache = bfloat16_to_float32(numbers) if self.kind.code == BFLOAT16 else numbers
        return self.cache


class Tensor:
    """A view of a storage, with offset and strides in numbers, as in PyTorch."""

    def __init__(self, storage: Storage, offset: int, shape: tuple, strides: tuple) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def read(self) -> np.ndarray:
        """Return the tensor as an array, which shares its numbers with other tensors of the storage."""
        numbers = self.storage.numbers[self.offset :]
        if 0 in self.shape:
            return np.zeros(self.shape, numbers.dtype)
        strides = [stride * numbers.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(numbers, self.shape, strides, writeable=False)


def rebuild_tensor(storage: Storage, offset: int, shape: tuple, strides: tuple, *more: object) -> Tensor:
    """Replaces torch._utils._rebuild_tensor_v2; `more` is whether the tensor needs a gradient, and hooks."""
    for sizes in ((offset,), shape, strides):
        check_shape(sizes)
    if type(storage) is not Storage or len(shape) != len(strides):
        raise ValueError("a tensor of something else than a storage, or with other strides than its shape has")
    count = math.prod(shape)
    if count and offset + sum((n - 1) * stride for n, stride in zip(shape, strides)) >= storage.count:
        raise ValueError(f"a tensor of shape {shape} in a storage of {storage.count} numbers")
    storage.uses += count
    if storage.uses > MOST_USES * storage.count:
        raise RefusedError("its tensors claim many times the memory of the numbers in the file")
    return Tensor(storage, offset, shape, strides)


def rebuild_parameter(tensor: Tensor, *more: object) -> Tensor:
    """Replaces torch._utils._rebuild_parameter; `more` is whether it needs a gradient, and hooks."""
    return tensor


class TorchUnpickler(ArrayUnpickler):
    """Unpickles tensors, with placeholders for objects of the classes in `FOREIGN`; refuses all other classes.

    Args:
        stream: the pickle. allowance: what the whole file may make.
        find_storage: (key, type, number of values) -> the storage with this key in the file; None if the file has none.
    """

    stands_for = {
        **STANDS_FOR,
        **{("torch", name): StorageType(code) for name, code in STORAGE_TYPES.items()},
        ("torch", "Size"): tuple,
        ("torch._utils", "_rebuild_tensor"): rebuild_tensor,
        ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
        ("builtins", "getattr"): attribute,
        ("__builtin__", "getattr"): attribute,
    }

    def __init__(
        self,
        stream: io.BytesIO,
        allowance: Allowance,
        find_storage: Callable[[str, StorageType, int], Storage] | None = None,
    ) -> None:
        super().__init__(stream, allowance)
        self.find_storage = find_storage

    def find_class(self, module: str, name: str) -> Any:
        is_long = len(module) + len(name) > LONGEST_GLOBAL
        if not is_long and (module, name) not in self.stands_for and FOREIGN.fullmatch(f"{module}.{name}"):
            return Foreign()
        return super().find_class(module, name)

    def persistent_load(self, reference: Any) -> Storage:
        known = type(reference) is tuple and len(reference) in (5, 6) and reference[0] == "storage"
        if not known or self.find_storage is None or type(reference[1]) is not StorageType:
            raise RefusedError("it refers to an object outside of the file, which weights do not need")
        _, kind, key, _, count, *view = reference
        if view not in ([], [None]):
            raise RefusedError("it shares storages as PyTorch before 0.4 did: save it again with a newer PyTorch")
        if type(key) is not str or type(count) is not int or count < 0:
            raise ValueError("a storage whose key or size has another type")
        return self.find_storage(key, kind, count)

    def load_newobj(self) -> None:
        self.stack.pop()
        if type(self.stack[-1]) is not Foreign:
            raise RefusedError("it makes an object of a class that weights do not need")

    def load_build(self) -> None:
        state, target = self.stack[-1], self.stack[-2]
        # State dicts have an attribute _metadata with the versions of their layers.
        versions = type(target) is dict and type(state) is dict and len(state) == 1 and "_metadata" in state
        if versions or type(target) is Foreign:
            self.stack.pop()
        else:
            super().load_build()

    def set_items(self, items: list) -> None:
        if type(self.stack[-1]) is not Foreign:
            super().set_items(items)

    dispatch = ArrayUnpickler.dispatch | {
        pickle.BINPERSID[0]: counted(pickle._Unpickler.dispatch[pickle.BINPERSID[0]]),
        pickle.NEWOBJ[0]: counted(load_newobj),
        pickle.BUILD[0]: counted(load_build),
    }


@contextmanager
def opened(path: os.PathLike) -> Iterator[object]:
    """Open a file and yield its content: containers, plain values, `NDArray`, and `Tensor`, readable until exit.

    Raises:
        RefusedError: the file asks for something that weights do not need, or has another format.
        OSError: the file cannot be opened, or is too large; it has the file's name.
        Exception: any exception, if the file is damaged or no such file.
    """
    with open_regular(Path(path)) as stream:
        if stream.read(len(ZIP_START)) != ZIP_START:
            yield read_legacy(read_regular(Path(path), LARGEST_WEIGHTS))
            return
        size = os.fstat(stream.fileno()).st_size
        if size > LARGEST_WEIGHTS:
            raise OSError(errno.EFBIG, f"larger than the {LARGEST_WEIGHTS:,} bytes that are read", str(path))
        with _opened_zip(stream) as archive:
            yield Records(archive, size).read()


@contextmanager
def _opened_zip(stream: BinaryIO) -> Iterator[zipfile.ZipFile]:
    try:
        with opened_zip(stream) as archive:
            yield archive
    except LargeDirectoryError as error:
        raise RefusedError(str(error)) from None


class Records:
    """The zip form. `size` is the file's size in bytes; the records cannot hold more."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self.archive, self.left, self.allowance = archive, size, Allowance(size)
        self.storages: dict[str, Storage] = {}
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise RefusedError("it is a zip archive, but torch.save did not write it: it has no data.pkl")
        self.root = pickles[0][: -len("data.pkl")]

    def read(self) -> object:
        if f"{self.root}byteorder" in self.archive.namelist() and self.record("byteorder") != b"little":
            raise RefusedError("it was written on a big-endian machine: save it again on another one")
        return TorchUnpickler(io.BytesIO(self.record("data.pkl")), self.allowance, self.find_storage).load()

    def record(self, name: str) -> bytes:
        info = self.archive.getinfo(self.root + name)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise RefusedError("its records are compressed, as torch.save never does: unpack it and save it again")
        self.left -= info.file_size
        if self.left < 0:
            raise RefusedError("its records are larger than the file")
        return self.archive.read(info)

    def find_storage(self, key: str, kind: StorageType, count: int) -> Storage:
        if key not in self.storages:
            storage = Storage(kind, count, lambda: self.record(f"data/{key}"))
            if self.archive.getinfo(f"{self.root}data/{key}").file_size != storage.bytes_long:
                raise ValueError(f"a record of another size than {storage.bytes_long}")
            self.storages[key] = storage
        return require_same_storage(self.storages[key], kind, count)


def read_legacy(data: bytes) -> object:
    """Read the legacy form, or any other pickle."""
    stream, allowance = io.BytesIO(data), Allowance(len(data))
    first = TorchUnpickler(stream, allowance).load()
    if first != LEGACY_MAGIC:
        return first
    _, system = (TorchUnpickler(stream, allowance).load() for _ in range(2))
    if system["little_endian"] is not True:
        raise RefusedError("it was written on a big-endian machine: save it again on another one")
    storages: dict[str, Storage] = {}

    def find_storage(key: str, kind: StorageType, count: int) -> Storage:
        return require_same_storage(storages.setdefault(key, Storage(kind, count)), kind, count)

    content = TorchUnpickler(stream, allowance, find_storage).load()
    for key in TorchUnpickler(stream, allowance).load():
        if type(key) is not str:
            raise ValueError("a storage whose key has another type")
        storage, count = storages[key], int.from_bytes(stream.read(8), "little")
        start = stream.tell()
        if count != storage.count or start + storage.bytes_long > len(data):
            raise ValueError(f"a storage of {storage.count} numbers that are not there")
        part = memoryview(data)[start : start + storage.bytes_long]
        storage.load = lambda part=part: part
        stream.seek(start + storage.bytes_long)
    return content


def require_same_storage(storage: Storage, kind: StorageType, count: int) -> Storage:
    """Return the storage; raise ValueError if another reference to it names another type or size."""
    if (storage.kind.code, storage.count) != (kind.code, count):
        raise ValueError("two sizes or types of one storage")
    return storage
