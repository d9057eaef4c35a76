"""Pickles, written opcode by opcode, that say more than arrays need: calls, wrong types, other opcodes."""

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
