"""Pickles that make far more data, or far more work, than they hold: by using a part of themselves many times."""

import struct

PROTOCOL = b"\x80\x04"
NUMBERS = b"cnumpy\ndtype\nX\x02\x00\x00\x00u1K\x00K\x01\x87R"


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def integer(value):
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def kept(place, value):
    """A value that `again` can use."""
    return value + b"r" + struct.pack("<I", place)


def again(place):
    return b"j" + struct.pack("<I", place)


def call(function, *arguments):
    return f"c{function.replace(' ', chr(10))}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def repeated(item, count, *parts):
    """A mapping with the parts, and a list of `count` items that use them."""
    held = b"".join(text(str(place)) + kept(place, part) for place, part in enumerate(parts))
    return PROTOCOL + b"}(" + held + text("w") + b"](" + item * count + b"eu."


def array(data, *shape, kind=NUMBERS):
    return call("numpy.core.numeric _frombuffer", data, kind, b"(" + b"".join(map(integer, shape)) + b"t", text("C"))


def content(size):
    return b"B" + struct.pack("<I", size) + bytes(size)


def tuples_in_tuples(depth):
    """A tuple that holds the one before twice, and so on: its hash takes 2**depth steps."""
    return kept(0, b"K\x01") + b"".join(kept(place, again(place - 1) * 2 + b"\x86") for place in range(1, depth))


def copies(count=500, size=100_000):
    """Pickles that have one part copied `count` times, by name."""
    state = b"(K\x01" + again(1) + again(2) + b"\x89" + again(0) + b"t"
    empty = call("numpy.core.multiarray _reconstruct", b"cnumpy\nndarray\n", b"K\x00\x85", text("b"))
    pairs = b"](" + b"".join(text(f"k{i}") + b"N\x86" for i in range(size // 100)) + b"e"
    shape = b"(" + integer(size) + b"t"
    return {
        "bytes as arrays": repeated(array(again(0), size), count, content(size)),
        "text as bytes": repeated(call("_codecs encode", again(0), text("latin1")), count, text("a" * size)),
        "states of arrays": repeated(empty + state + b"b", count, content(size), shape, NUMBERS),
        "one array's state": PROTOCOL
        + b"}("
        + b"".join(
            text(str(place)) + kept(place, part) for place, part in enumerate((content(size), shape, NUMBERS, state))
        )
        + text("w")
        + empty
        + (again(3) + b"b") * count
        + b"u.",
        "lists as tuples": repeated(call("builtins tuple", again(0)), count, b"](" + b"N" * (size // 10) + b"e"),
        "mappings": repeated(call("collections OrderedDict", again(0)), count, pairs),
        "empty lists": PROTOCOL + b"](" + b"]" * 10 * size + b"e.",
        "marks": PROTOCOL + b"(" * 10 * size + b".",
        "tuples in tuples": PROTOCOL + b")" + b"\x85" * 10 * size + b".",
    }


def work():
    """Pickles that keep the processor busy for minutes unless something stops them, by name."""
    shape = b"(" + again(0) * 60_000 + b"t"
    itself = PROTOCOL + b"}" + text("w") + kept(0, b"]") + b"(" + b"N" * 200_000 + again(0) + b"es."
    versions = b"}(" + b"".join(text(f"k{i}") + b"N" for i in range(20_000)) + b"u"
    return {
        "a product of large sizes": repeated(
            call("numpy.core.numeric _frombuffer", content(4), NUMBERS, again(1), text("C")), 1, integer(2**2000), shape
        ),
        "numbers stored in one place": PROTOCOL
        + b"}("
        + b"".join(integer((2**61 - 1) * (i + 1)) + b"N" for i in range(60_000))
        + b"u.",
        "a name with a slow hash": PROTOCOL + b"}" + tuples_in_tuples(60) + b"Ns.",
        "a list that ends with itself": itself,
        "long names of classes": repeated(again(0) * 2 + b"\x93", 20_000, text("mmcv." + "a" * 300_000)),
        "states of a mapping": repeated(again(0) + again(1) + b"b", 20_000, b"}", versions),
        "weights that hold themselves": PROTOCOL + kept(0, b"}") + text("model") + again(0) + b"s.",
        "a name of prefixes": PROTOCOL + b"}" + text("module." * 150_000) + b"Ns.",
    }
