"""Small pickles that ask for much memory, or for much work.

They leave on the stack what they refer to, since readers need not know the opcode that takes it away.
"""

import struct

from fuzz.draw import Draw
from fuzz.pickle_texts import FLOATS, array, data, name, named, number, text

SIZES = [1000, 1_000_000, 1_000_000]  # bytes of what is copied


def bomb(draw: Draw) -> tuple[bytes, str]:
    """A small pickle that asks for much memory, or for much work."""
    count = draw.one([100, 2_000, 20_000])
    # Those that copy are the ones that a limit has to stop.
    kind = draw.one([*BOMBS, "arrays", "buffers", "dictionaries", "tuples"])
    return BOMBS[kind](draw, count), f"bomb: {kind}, {count}"


def _again(draw: Draw, count: int) -> bytes:
    """One value, and many references to it."""
    value = draw.one([data(bytes(50 * count)), text("x" * 50 * count), b"(" + b"K\x01" * count + b"t"])
    return b"\x80\x04](" + value + b"r\x01\0\0\0" + b"j\x01\0\0\0" * count + b"e."


def _doubled(draw: Draw, count: int) -> bytes:
    """Each tuple holds the one before twice."""
    depth = min(count, draw.one([10, 25, 60, 400]))
    ways = draw.one([(b"h\x00h\x00\x86", b"q\x00"), (b"h\x00h\x00h\x00\x87", b"q\x00"), (b"](h\x00h\x00e", b"q\x00")])
    return b"\x80\x04K\x01q\x00" + b"".join(ways[0] + ways[1] for _ in range(depth)) + b"."


def _arrays(draw: Draw, count: int) -> bytes:
    """Many arrays of the same bytes, which a reader may copy for each of them."""
    size = draw.one(SIZES)
    shape = number(size // 4) + b"\x85"
    first = data(bytes(size)) + b"r\x01\0\0\0"
    pairs = b"".join(text(f"a{i}") + array(shape, b"j\x01\0\0\0") for i in range(count))
    return b"\x80\x04" + first + b"}(" + pairs + b"u."


def _buffers(draw: Draw, count: int) -> bytes:
    """The same with NumPy's function for buffers, which needs few bytes for each array."""
    size = draw.one(SIZES)
    memo = data(bytes(size)) + b"r\x01\0\0\0" + FLOATS + b"r\x02\0\0\0" + number(size // 4) + b"\x85r\x03\0\0\0"
    memo += name("numpy._core.numeric", "_frombuffer") + b"r\x04\0\0\0"
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
    pairs = b"](" + b"".join(number(i) + b"K\x01\x86" for i in range(count)) + b"er\x01\0\0\0"
    make = name("collections", "OrderedDict") + b"r\x02\0\0\0"
    return b"\x80\x04" + pairs + make + b"](" + b"j\x02\0\0\0j\x01\0\0\0\x85R" * count + b"e."


def _tuples(draw: Draw, count: int) -> bytes:
    """Calls of a function that copies its argument."""
    function = draw.one([name("builtins", "tuple"), name("torch", "Size"), name("_codecs", "encode")])
    value = text("x" * 50 * count) if b"encode" in function else b"](" + b"K\x01" * count + b"e"
    call = b"j\x02\0\0\0j\x01\0\0\0" + (text("latin1") + b"\x86" if b"encode" in function else b"\x85") + b"R"
    return b"\x80\x04" + value + b"r\x01\0\0\0" + function + b"r\x02\0\0\0" + b"](" + call * count + b"e."


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
