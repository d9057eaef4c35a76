"""Pickles, written opcode by opcode, that say more than arrays need: bombs, calls, wrong types, deep nesting."""

import pickle
import pickletools
import struct
from collections import OrderedDict
from typing import Any

import numpy as np
from attacks import Call as RunCall
from attacks import attacks
from torch_files import Call, Global, Pickle

from fuzz.draw import Draw

NAMES = [
    *[("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"), ("numpy", "ndarray")],
    *[("numpy", "dtype"), ("collections", "OrderedDict"), ("_codecs", "encode"), ("builtins", "tuple")],
    *[("numpy.core.multiarray", "scalar"), ("numpy._core.numeric", "_frombuffer"), ("__builtin__", "bytes")],
    *[("builtins", "getattr"), ("torch", "FloatStorage"), ("torch._utils", "_rebuild_tensor_v2"), ("torch", "Size")],
    *[("torch._utils", "_rebuild_parameter"), ("collections", "Counter"), ("argparse", "Namespace"), ("os", "system")],
    *[("builtins", "eval"), ("posix", "system"), ("pathlib", "PosixPath"), ("builtins", "set"), ("numpy", "memmap")],
    *[("mmcv.utils", "Config"), ("builtins", "bytearray"), ("\x1b[31m", "\ud800"), ("functools", "partial")],
]


def number(value: int) -> bytes:
    """An integer of any size."""
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    if len(data) < 256:
        return b"\x8a" + bytes([len(data)]) + data
    return b"\x8b" + struct.pack("<I", len(data)) + data


def text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def data(value: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(value)) + value


def name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + b"\x93"


FLOATS = b"".join(
    [
        name("numpy", "dtype"),
        text("f4"),
        b"\x89\x88\x87R(K\x03",
        text("<"),
        b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
    ]
)


def array(shape: bytes, content: bytes, core: str = "numpy._core", kind: bytes = FLOATS) -> bytes:
    """An array as NumPy writes it, from the opcodes of its shape, its content and its type."""
    start = name(f"{core}.multiarray", "_reconstruct") + name("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"
    return start + b"(K\x01" + shape + kind + b"\x89" + content + b"tb"


def named(*pairs: tuple[str, bytes]) -> bytes:
    """A whole pickle of a mapping from names to values."""
    return b"\x80\x04}(" + b"".join(text(key) + value for key, value in pairs) + b"u."


def bomb(draw: Draw) -> tuple[bytes, str]:
    """A small pickle that asks for much memory, or for much work."""
    count = draw.one([10, 100, 1000, 5000])
    kind = draw.one(list(BOMBS))
    return BOMBS[kind](draw, count), f"bomb: {kind}, {count}"


def _again(draw: Draw, count: int) -> bytes:
    """One value, and many references to it."""
    value = draw.one([data(bytes(10 * count)), text("x" * 10 * count), b"(" + b"K\x01" * count + b"t"])
    return b"\x80\x04](" + value + b"r\x01\0\0\0" + b"j\x01\0\0\0" * count + b"e."


def _doubled(draw: Draw, count: int) -> bytes:
    """Each tuple holds the one before twice."""
    depth = min(count, draw.one([10, 25, 60, 400]))
    ways = draw.one([(b"h\x00h\x00\x86", b"q\x00"), (b"h\x00h\x00h\x00\x87", b"q\x00"), (b"](h\x00h\x00e", b"q\x00")])
    return b"\x80\x04K\x01q\x00" + b"".join(b"0" + ways[0] + ways[1] for _ in range(depth)) + b"."


def _arrays(draw: Draw, count: int) -> bytes:
    """Many arrays of the same bytes, which a reader may copy for each of them."""
    size = draw.one([1000, 100_000])
    shape = number(size // 4) + b"\x85"
    first = data(bytes(size)) + b"r\x01\0\0\0" + b"0"
    pairs = b"".join(text(f"a{i}") + array(shape, b"j\x01\0\0\0") for i in range(min(count, 1000)))
    return b"\x80\x04" + first + b"}(" + pairs + b"u."


def _buffers(draw: Draw, count: int) -> bytes:
    """The same with NumPy's function for buffers, which needs few bytes for each array."""
    size = draw.one([1000, 100_000])
    memo = data(bytes(size)) + b"r\x01\0\0\0" + FLOATS + b"r\x02\0\0\0" + number(size // 4) + b"\x85r\x03\0\0\0"
    memo += name("numpy._core.numeric", "_frombuffer") + b"r\x04\0\0\0" + b"0000"
    one = b"j\x04\0\0\0(j\x01\0\0\0j\x02\0\0\0j\x03\0\0\0" + text("C") + b"tR"
    return b"\x80\x04" + memo + b"](" + one * count + b"e."


def _shape(draw: Draw, count: int) -> bytes:
    """A shape whose product takes long to compute, or is huge."""
    side = draw.one(
        [number(2**2000), number(2**62), number(-1), b"K\x00", b"K\x02", text("3"), b"G" + struct.pack(">d", 1e9)]
    )
    return named(("w", array(b"(" + side * count + b"t", data(b"\0" * draw.one([0, 4, 8])))))


def _dictionaries(draw: Draw, count: int) -> bytes:
    """Ordered dictionaries of the same long list of pairs."""
    pairs = b"](" + b"".join(number(i) + b"K\x01\x86" for i in range(count)) + b"er\x01\0\0\0" + b"0"
    make = name("collections", "OrderedDict") + b"r\x02\0\0\0" + b"0"
    return b"\x80\x04" + pairs + make + b"](" + b"j\x02\0\0\0j\x01\0\0\0\x85R" * count + b"e."


def _tuples(draw: Draw, count: int) -> bytes:
    """Calls of a function that copies its argument."""
    function = draw.one([name("builtins", "tuple"), name("torch", "Size"), name("_codecs", "encode")])
    value = text("x" * 100 * count) if b"encode" in function else b"](" + b"K\x01" * count + b"e"
    call = b"j\x02\0\0\0j\x01\0\0\0" + (text("latin1") + b"\x86" if b"encode" in function else b"\x85") + b"R"
    return b"\x80\x04" + value + b"r\x01\0\0\0" + b"0" + function + b"r\x02\0\0\0" + b"0](" + call * count + b"e."


def _deep(draw: Draw, count: int) -> bytes:
    depth = draw.one([count, 20 * count])
    return (
        b"\x80\x04"
        + draw.one([b"]" * depth + b"a" * (depth - 1), b"K\x01" + b"\x85" * depth, b"(" * depth + b"t" * depth])
        + b"."
    )


def _memo(draw: Draw, count: int) -> bytes:
    return (
        b"\x80\x04K\x01"
        + draw.one([b"r\xff\xff\xff\x7f", b"j\xff\xff\xff\x7f", b"\x94" * count, b"p99999999999999999999\n"])
        + b"."
    )


def _length(draw: Draw, count: int) -> bytes:
    """Data that says it is longer than the file."""
    start = draw.one([b"B", b"X", b"T", b"\x8b", b"\x8e", b"\x8d", b"\x96", b"\x95"])
    return b"\x80\x05" + start + b"\xff\xff\xff\x7f" * (1 + (start[0] > 0x8B)) + bytes(count) + b"."


BOMBS = {
    **{"again": _again, "doubled": _doubled, "arrays": _arrays, "buffers": _buffers, "shape": _shape},
    **{"dictionaries": _dictionaries, "tuples": _tuples, "deep": _deep, "memo": _memo, "length": _length},
}


def program(draw: Draw) -> tuple[bytes, str]:
    """Opcodes in a random order that is likely to make sense."""
    parts = [
        *[
            lambda: b"K\x01",
            lambda: b"N",
            lambda: b"\x88",
            lambda: text(draw.text()[:200]),
            lambda: data(draw.randbytes(8)),
        ],
        *[lambda: number(int(min(max(draw.number(), -1e300), 1e300)) if draw.number() == draw.number() else 0)],
        *[
            lambda: name(*draw.one(NAMES)),
            lambda: name(*draw.one(NAMES)),
            lambda: b")",
            lambda: b"}",
            lambda: b"]",
            lambda: b"(",
        ],
        *[
            lambda: b"t",
            lambda: b"R",
            lambda: b"R",
            lambda: b"b",
            lambda: b"s",
            lambda: b"u",
            lambda: b"a",
            lambda: b"e",
        ],
        *[
            lambda: b"\x85",
            lambda: b"\x86",
            lambda: b"\x87",
            lambda: b"\x81",
            lambda: b"q\x01",
            lambda: b"h\x01",
            lambda: b"\x94",
        ],
        *[
            lambda: FLOATS,
            lambda: array(b"K\x02\x85", data(bytes(8))),
            lambda: b"Q",
            lambda: b"0",
            lambda: b"2",
            lambda: b"1",
        ],
        *[lambda: b"G" + struct.pack(">d", float(draw.one([0, 1.5, float("nan"), float("inf")])))],
    ]
    body = b"".join(draw.one(parts)() for _ in range(draw.one([3, 8, 20, 60])))
    return b"\x80\x04" + draw.one([b"", b"}(", b"](", b"}" + text("w")]) + body + draw.one(
        [b".", b"u.", b"e.", b"s."]
    ), "program"


def opcodes_changed(draw: Draw, content: bytes) -> tuple[bytes, str]:
    """An honest pickle with opcodes left out, repeated, exchanged and replaced."""
    try:
        places = [position for _, _, position in pickletools.genops(content)]
    except Exception:
        return content, "as it is"
    parts = [content[start:stop] for start, stop in zip(places, [*places[1:], len(content)])]
    for _ in range(draw.one([1, 1, 2, 5])):
        at = draw.randrange(len(parts)) if parts else 0
        what = draw.one(["leave out", "repeat", "exchange", "replace", "replace", "replace"])
        if not parts:
            break
        if what == "leave out":
            del parts[at]
        elif what == "repeat":
            parts[at:at] = [parts[at]] * draw.one([1, 10, 1000])
        elif what == "exchange":
            other = draw.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        else:
            values = [
                number(2**70),
                number(-1),
                text(draw.text()),
                b"N",
                b"\x88",
                data(b""),
                b")",
                b"}",
                name(*draw.one(NAMES)),
            ]
            parts[at] = draw.one([*values, draw.one(parts)])
    return b"".join(parts), "opcodes changed"


def call(draw: Draw) -> tuple[bytes, str]:
    """A pickle that tries to run something, which would create the file `canary`."""
    found = attacks("canary")
    kind = draw.one(list(found))
    return found[kind], f"call: {kind}"


def reduced(draw: Draw) -> tuple[bytes, str]:
    """A call of an allowed function with arguments that it does not expect."""
    function = Global(*(part.encode("utf-8", "replace").decode() for part in draw.one(NAMES)))
    arguments = [plain(draw) for _ in range(draw.one([0, 1, 2, 3, 4]))]
    state = plain(draw) if draw.chance(0.4) else None
    value = {draw.one(["w", "state_dict", "model", "conv1.weight"]): Call(function, *arguments, state=state)}
    return Pickle(has_views=False).dump(value), f"{function.module}.{function.name}"


def plain(draw: Draw) -> Any:
    """A value that the writer of torch_files.py knows."""
    return draw.one(
        [
            0,
            1,
            -1,
            2**31,
            2**62,
            2**79 - 1,
            1.5,
            float("nan"),
            None,
            True,
            "",
            "w",
            "latin1",
            "f4",
            "O8",
            "V8",
            "<",
            "C",
            (),
            (1,),
            (2, 3),
            (2**40, 2**40),
            ("x",),
            [],
            [1],
            {},
            {"a": 1},
            (1, (2, 2), None, False, "1234" * 4),
            OrderedDict(),
        ]
    )


def dumped(draw: Draw, arrays: dict[str, np.ndarray]) -> tuple[bytes, str]:
    """Arrays as Paddle stores them, beside values of all kinds."""
    content: dict[Any, Any] = dict(arrays)
    for _ in range(draw.one([0, 1, 3])):
        key = draw.one([draw.text(), draw.one(list(arrays)), 7])
        content[key] = draw.one(
            [
                *[
                    draw.text(),
                    draw.tree(),
                    3,
                    2.5,
                    b"x",
                    (draw.text(), np.zeros(2)),
                    [np.zeros(2), {"a": np.ones(3)}],
                    None,
                ],
                *[
                    np.float64(1.5),
                    np.array(draw.text()),
                    np.array([object, 1], dtype=object),
                    np.zeros((0, 3)),
                    np.array(5),
                ],
                *[
                    np.full(3, np.nan),
                    np.array([1 + 2j]),
                    np.arange(4, dtype=">i2"),
                    np.zeros(2, "M8[s]"),
                    np.zeros(1, "S3"),
                ],
                *[
                    np.zeros(2, [("a", "f4")]),
                    set(),
                    RunCall(len, "x"),
                    {1: {2: {3: np.zeros(1)}}},
                    bytearray(b"x"),
                    2**70,
                ],
            ]
        )
    return pickle.dumps(content, protocol=draw.one([2, 3, 4, 5])), "pickled"
