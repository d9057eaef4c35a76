"""Bytes of weights files: pickles of Paddle, both forms of torch.save, and .safetensors."""

import io
import json
import pickle
import struct
import zipfile
from functools import cache
from typing import Any

import numpy as np
import safetensors.numpy
import torch_files

from fuzz.draw import Draw, dump
from fuzz.mutate import changed_tree, damaged, slightly_damaged
from fuzz.pickle_bombs import bomb
from fuzz.pickle_texts import call, dumped, opcodes_changed, program, reduced

ENTRIES: list[Any] = ["F64", "BF16", "BOOL", "F8_E4M3", "I4", [2**32, 2**32], [0], [], [0, 2**63], [2**64, 0], [0, 0]]


@cache
def arrays() -> dict[str, np.ndarray]:
    """Weights of the model below, by name."""
    rng = np.random.default_rng(0)
    shapes = {"weight": (4, 3), "bias": (3,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@cache
def foreign() -> dict[str, np.ndarray]:
    """The first layers of a ResNet under torchvision's names."""
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (4, 3, 7, 7)}
    shapes |= {"layer1.0.conv1.weight": (4, 4, 1, 1), "layer1.0.conv2.weight": (4, 4, 3, 3)}
    shapes |= {f"{bn}.{part}": (4,) for bn in ("bn1", "layer1.0.bn1") for part in ("weight", "bias", "running_mean")}
    shapes |= {"bn1.running_var": (4,), "layer1.0.bn1.running_var": (4,), "fc.weight": (10, 8), "fc.bias": (10,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@cache
def honest_pickles() -> list[bytes]:
    pairs = {name: (f"linear_0.{name}", value) for name, value in arrays().items()}
    contents = [arrays(), pairs, {**arrays(), "LR_Scheduler": {"last_epoch": 3, "last_lr": 0.1}}, {"model": foreign()}]
    return [pickle.dumps(content, protocol=protocol) for content in contents for protocol in (2, 3, 4, 5)]


@cache
def honest_torch() -> list[bytes]:
    tensors = {name: torch_files.tensor(value) for name, value in foreign().items()}
    contents = [tensors, {"state_dict": tensors, "meta": {"config": "style='caffe'"}, "epoch": 3}]
    return [form(content) for content in contents for form in torch_files.FORMS.values()]


def changed_arrays(draw: Draw, content: dict[str, np.ndarray]) -> tuple[dict[str, Any], str]:
    """Arrays by name, one of which has other numbers, another type, shape or name, or is left out."""
    arrays: dict[str, Any] = dict(content)
    name = draw.one(list(arrays))
    value = arrays.pop(name)
    ways: dict[str, Any] = {
        "double": value.astype(np.float64), "half": value.astype(np.float16), "integers": value.astype(np.int64),
        "other order": np.asfortranarray(value), "other bytes": value.astype(">f4"), "one more axis": value[None],
        "one less": value[0], "no rows": value[:0], "large": value * np.float32(1e37), "not a number": value * np.nan,
        "turned": value.T, "scalar": np.float32(1), "left out": None, "name": value,
    }  # fmt: skip
    way = draw.one(list(ways))
    if way != "left out":
        arrays[name if way != "name" else draw.one([f"{name}x", f"module.{name}", f"{name}\x1b[31m"])] = ways[way]
    return arrays, f"one array: {way}"


def valid(draw: Draw, suffix: str) -> tuple[bytes, str]:
    """A whole file of weights with one array changed, or with one bit or number in the file changed."""
    content, made = changed_arrays(draw, arrays() if suffix in (".pdparams", ".pdopt") else foreign())
    if suffix in (".pth", ".pt"):
        tensors = {name: torch_files.tensor(np.ascontiguousarray(value)) for name, value in content.items()}
        form = draw.one(list(torch_files.FORMS.values()))
        data = form(draw.one([tensors, {"state_dict": tensors}, {"model": tensors, "epoch": 3}]))
    elif suffix == ".safetensors":
        classes = json.dumps({"names": ["a", "b"], "category_ids": [1, 2]})
        numbers = {name: np.ascontiguousarray(value).astype("<f4") for name, value in content.items()}
        data = safetensors.numpy.save(numbers, draw.one([None, {"classes": classes}]))
    else:
        whole = draw.one(
            [content, {"model": content}] if suffix == ".pkl" else [content, {**content, "LR_Scheduler": {}}]
        )
        data = pickle.dumps(whole, protocol=draw.one([2, 3, 4, 5]))
    if draw.chance(0.2):
        data, made = slightly_damaged(draw, data)
    return data, made


def bomb_file(draw: Draw, suffix: str) -> tuple[bytes, str]:
    """A bomb by itself, or as the pickle inside a file of torch.save."""
    data, made = bomb(draw)
    if suffix not in (".pth", ".pt"):
        return data, made
    form = draw.one(list(torch_files.FORMS.values()))
    return form({"w": torch_files.tensor(np.zeros(4, np.float32))}, pickled=data), f"inside torch: {made}"


def pickled(draw: Draw, content: dict[str, np.ndarray]) -> tuple[bytes, str]:
    """A pickle, more or less hostile."""
    make = draw.one(["damaged", "damaged", "opcodes", "opcodes", "program", "call", "reduced", "dumped", "dumped"])
    if make == "damaged":
        return damaged(draw, draw.one(honest_pickles()), honest_pickles())
    if make == "opcodes":
        return opcodes_changed(draw, pickle.dumps(content, protocol=draw.one([2, 4])))
    if make == "dumped":
        return dumped(draw, content)
    return {"program": program, "call": call, "reduced": reduced}[make](draw)


def torch_file(draw: Draw) -> tuple[bytes, str]:
    """A file of torch.save, more or less hostile."""
    make = draw.one(["damaged", "inside", "inside", "tensors", "tensors", "tensors", "zip", "zip"])
    if make == "damaged":
        return damaged(draw, draw.one(honest_torch()), honest_torch())
    if make == "zip":
        return hostile_zip(draw)
    if make == "inside":
        content, made = draw.one([lambda: pickled(draw, foreign()), lambda: inner_changed(draw)])()
        form = draw.one(list(torch_files.FORMS.values()))
        return form({"w": torch_files.tensor(np.zeros(4, np.float32))}, pickled=content), f"inside torch: {made}"
    views: dict[Any, Any] = {name: torch_files.tensor(value) for name, value in foreign().items()}
    for _ in range(draw.one([1, 1, 2, 3])):
        kind = draw.one([*torch_files.STORAGES.values(), "BFloat16Storage", "ComplexFloatStorage"])
        size, sides = draw.one([0, 1, 4, 100]), [0, 1, 2, 3, 10, 2**20, 2**31, 2**40, -1]
        shape = tuple(draw.one(sides) for _ in range(draw.one([0, 1, 2, 4, 8, 70])))
        strides = tuple(draw.one([0, 0, 1, 2, 10, -1]) for _ in range(len(shape) if draw.chance(0.9) else 1))
        storage = torch_files.Storage(kind, bytes(size * draw.one([1, 2, 4, 8])), draw.one([size, size, -1, 2**40]))
        views[draw.one([*views, draw.text().encode("utf-8", "replace").decode()])] = torch_files.View(
            storage, draw.one([0, 0, 1, -1, 2**40]), shape, strides
        )
    content = draw.one([views, {"state_dict": views}, {"model": {"model": views}}, [views], {1: views}])
    return draw.one(list(torch_files.FORMS.values()))(content), "tensors"


def inner_changed(draw: Draw) -> tuple[bytes, str]:
    """The pickle of an honest file with its opcodes changed."""
    content = {name: torch_files.tensor(value) for name, value in foreign().items()}
    return opcodes_changed(draw, torch_files.Pickle(has_views=draw.chance(0.5)).dump(content))


def hostile_zip(draw: Draw) -> tuple[bytes, str]:
    """A zip archive with records that are missing, repeated, compressed, many, or of odd names."""
    with zipfile.ZipFile(io.BytesIO(honest_torch()[0])) as archive:
        records = [(info.filename, archive.read(info)) for info in archive.infolist()]
    for _ in range(draw.one([1, 2, 4])):
        at = draw.randrange(len(records))
        what = draw.one(["leave out", "repeat", "rename", "longer", "damaged", "many"])
        if what == "leave out" and len(records) > 1:
            del records[at]
        elif what == "repeat":
            records.append(records[at])
        elif what == "rename":
            records[at] = (
                draw.one([draw.text()[:2000], "archive/../x", "/x", "archive/data.pkl", "b/data.pkl"]),
                records[at][1],
            )
        elif what == "longer":
            records[at] = (records[at][0], records[at][1] + bytes(draw.one([1, 100, 10**6])))
        elif what == "damaged":
            records[at] = (records[at][0], damaged(draw, records[at][1])[0])
        else:
            records += [(f"archive/data/{i}", b"") for i in range(1000, 1000 + draw.one([10, 2000]))]
    stream = io.BytesIO()
    compression = draw.one([zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in records:
            try:
                info = zipfile.ZipInfo(name.replace("\0", "_").encode("utf-8", "replace").decode())
                archive.writestr(info, content, compression)
            except (ValueError, UserWarning):
                continue
    content = stream.getvalue()
    return damaged(draw, content) if draw.chance(0.3) else (content, "zip")


def safetensors_file(draw: Draw) -> tuple[bytes, str]:
    """A .safetensors file whose header says something else, or is damaged."""
    header: dict[str, Any] = {}
    offset = 0
    source = draw.one([arrays(), foreign()])
    for name, value in source.items():
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [offset, offset + value.nbytes]}
        offset += value.nbytes
    if draw.chance(0.5):
        header["__metadata__"] = {"classes": json.dumps({"names": ["a", "b"], "category_ids": [1, 2]}), "format": "pd"}
    made = "header"
    change = draw.one(["tree", "tree", "entry", "entry", "names", "metadata", "length", "damage"])
    if change == "tree":
        header, made = changed_tree(draw, header)
    elif change == "entry":
        entry = header[draw.one(list(source))]
        entry[draw.one(list(entry))] = draw.one([draw.value(), *ENTRIES])
    elif change == "names":
        for name in draw.sample(list(source), draw.one([1, 2])):
            header[draw.text()] = header.pop(name)
    elif change == "metadata":
        classes = changed_tree(draw, {"names": ["a", "b"], "category_ids": [1, 2]})[0]
        header["__metadata__"] = {"classes": draw.one([dump(classes), draw.text(), "[" * 100_000])}
    text = dump(header).encode("utf-8", "surrogatepass")
    length = len(text)
    if change == "length":
        length = draw.one([0, 1, 7, length + 1, length * 2, 2**31, 2**63, 2**64 - 1, 100_000_001])
    content = struct.pack("<Q", length) + text + b"".join(value.tobytes() for value in source.values())
    return damaged(draw, content) if change == "damage" else (content, f"{change} {made}")
