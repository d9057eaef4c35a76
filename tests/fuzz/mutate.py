"""Damage to honest files: bytes, numbers in binary formats, lines of text, and trees of JSON or YAML."""

import copy
import re
from typing import Any

from fuzz.draw import Draw

WORDS = {
    1: [0, 1, 2, 127, 128, 255],
    2: [0, 1, 255, 256, 32767, 32768, 65535],
    4: [0, 1, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**24, 10**6],
    8: [0, 1, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1],
}


def damaged(draw: Draw, data: bytes, others: list[bytes] | None = None) -> tuple[bytes, str]:
    """The data with one to four kinds of damage, and their names."""
    content, names = bytearray(data), []
    for _ in range(draw.one([1, 1, 1, 2, 4])):
        damage = draw.one(DAMAGES)
        content = damage(draw, content, others or [data])
        names.append(damage.__name__.strip("_"))
    return bytes(content), " ".join(names)


def slightly_damaged(draw: Draw, data: bytes) -> tuple[bytes, str]:
    """The data with one bit, byte or number changed, anywhere, so that most of what reads it is reached."""
    content = bytearray(data)
    what = draw.one(["bit", "byte", "number"])
    at = draw.randrange(len(content)) if content else 0
    size = min(draw.one([2, 4]) if what == "number" else 1, len(content) - at)
    if what == "bit" and size:
        content[at] ^= 1 << draw.randrange(8)
    elif size in (1, 2, 4):
        content[at : at + size] = draw.one(WORDS[size]).to_bytes(size, draw.one(["little", "big"]))
    return bytes(content), f"one {what}"


def _place(draw: Draw, content: bytearray) -> int:
    """A position, more often at the beginning, where headers are, than elsewhere."""
    size = len(content) if draw.chance(0.5) else min(len(content), 200)
    return draw.randrange(size) if size else 0


def _bits(draw: Draw, content: bytearray, others: list[bytes]) -> bytearray:
    for _ in range(draw.one([1, 1, 2, 8, 64]) if content else 0):
        content[_place(draw, content)] ^= 1 << draw.randrange(8)
    return content


def _bytes(draw: Draw, content: bytearray, others: list[bytes]) -> bytearray:
    for _ in range(draw.one([1, 1, 2, 8]) if content else 0):
        content[_place(draw, content)] = draw.one([0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)])
    return content


def _word(draw: Draw, content: bytearray, others: list[bytes]) -> bytearray:
    """A number of 1 to 8 bytes is replaced by one that is large, or at a border."""
    size = draw.one([1, 2, 4, 8])
    value = draw.one(WORDS[size]) if draw.chance(0.8) else draw.randrange(256**size)
    place = _place(draw, content)
    if place + size <= len(content):
        content[place : place + size] = value.to_bytes(size, draw.one(["little", "big"]))
    return content


def _cut(draw: Draw, content: bytearray, others: list[bytes]) -> bytearray:
    return content[: _place(draw, content)]


def _remove(draw: Draw, content: bytearray, others: list[bytes]) -> bytearray:
    place = _place(draw, content)
    del content[place : place + draw.one([1, 2, 4, 16, 100, 1000])]
    return content


def _insert(draw: Draw, content: bytearray, others: list[bytes]) -> bytearray:
    place = _place(draw, content)
    content[place:place] = draw.one([b"\0" * 16, b"\xff" * 16, draw.randbytes(draw.one([1, 4, 64])), b"\x1b[31m"])
    return content


def _repeat(draw: Draw, content: bytearray, others: list[bytes]) -> bytearray:
    place = _place(draw, content)
    block = content[place : place + draw.one([1, 8, 64, 500])]
    content[place:place] = block * draw.one([1, 2, 10, 100])
    return content


def _move(draw: Draw, content: bytearray, others: list[bytes]) -> bytearray:
    place = _place(draw, content)
    size = draw.one([1, 8, 64, 500])
    block = content[place : place + size]
    del content[place : place + size]
    place = _place(draw, content)
    content[place:place] = block
    return content


def _splice(draw: Draw, content: bytearray, others: list[bytes]) -> bytearray:
    """The beginning of this file and the end of another one."""
    other = draw.one(others)
    return content[: _place(draw, content)] + other[_place(draw, bytearray(other)) :]


def _append(draw: Draw, content: bytearray, others: list[bytes]) -> bytearray:
    return content + draw.one([*others, b"\0" * 1000, draw.randbytes(100)])


DAMAGES = [_bits, _bits, _bytes, _bytes, _word, _word, _word, _cut, _remove, _insert, _repeat, _move, _splice, _append]


def damaged_text(draw: Draw, text: str) -> tuple[str, str]:
    """Text with lines or words that were changed, and the names of the changes."""
    lines, names = text.split("\n"), []
    for _ in range(draw.one([1, 1, 1, 2, 5])):
        change = draw.one(["word", "word", "word", "delete", "repeat", "swap", "indent", "insert", "many"])
        names.append(change)
        at = draw.randrange(len(lines)) if lines else 0
        if not lines:
            continue
        if change == "word":
            words = list(re.finditer(r"[\w.+-]+", lines[at]))
            if words:
                found = draw.one(words)
                lines[at] = lines[at][: found.start()] + word(draw) + lines[at][found.end() :]
        elif change == "delete":
            del lines[at]
        elif change == "repeat":
            lines[at:at] = [lines[at]] * draw.one([1, 2, 50])
        elif change == "swap":
            other = draw.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif change == "indent":
            lines[at] = draw.one([" ", "  ", "\t", "    "]) + lines[at] if draw.chance(0.5) else lines[at].lstrip()
        elif change == "insert":
            lines.insert(at, word(draw))
        else:
            lines[at] = lines[at] * draw.one([2, 10, 200])
    return "\n".join(lines), " ".join(names)


def word(draw: Draw) -> str:
    """A word of a YAML or JSON text that is unusual there."""
    return draw.one(
        [
            *[
                "[",
                "]",
                "{",
                "}",
                "*x",
                "&x",
                "<<",
                "!!python/object:os.system",
                "!!binary",
                "!Foo",
                "- ",
                "? ",
                "| ",
                "> ",
            ],
            *['"\\ud800"', '"\\0"', '"\\U00110000"', '"\\e[31m"', "'", '"', "#", ":", ": :", "---", "...", "%YAML 9.9"],
            *[
                "1e999",
                "-0",
                "0x" + "f" * 300,
                "1" * 5000,
                "190:20:30",
                "1" + ":59" * 400,
                ".inf",
                ".nan",
                "1_000",
                "0b1",
            ],
            *[
                "2024-01-31",
                "0o9",
                "null",
                "~",
                "true",
                "yes",
                "[]",
                "{}",
                "",
                "\x1b[31m",
                "\0",
                "\x85",
                "\u2028",
                "\ufeff",
            ],
            *[draw.text().replace("\n", " "), str(draw.number())[:400]],
        ]
    )


def changed_tree(draw: Draw, tree: Any, times: int | None = None) -> tuple[Any, str]:
    """A tree of lists and dictionaries with places that were changed, and the names of the changes."""
    tree, names = copy.deepcopy(tree), []
    for _ in range(times or draw.one([1, 1, 1, 2, 4])):
        container, key = _somewhere(draw, tree)
        if container is None:
            return draw.value(), "all"
        change = draw.one(["value", "value", "value", "number", "number", "delete", "add", "key", "twice", "wrap"])
        names.append(change)
        if change == "value":
            container[key] = draw.value()
        elif change == "number":
            container[key] = draw.number()
        elif change == "delete":
            del container[key]
        elif change == "wrap":
            container[key] = draw.one([[container[key]], {"a": container[key]}, [container[key]] * 3])
        elif change == "twice" and isinstance(container, list):
            container.insert(key, copy.deepcopy(container[key]))
        elif isinstance(container, dict):
            new = draw.text() if change == "key" else draw.one([*container, draw.text()])
            container[new] = container.pop(key) if change == "key" else draw.value()
        else:
            container.insert(key, draw.value())
    return tree, " ".join(names)


def one_value(draw: Draw, tree: Any) -> tuple[Any, str]:
    """A tree of lists and dictionaries with one value replaced by one of its type that differs little."""
    tree = copy.deepcopy(tree)
    places = [(part, key) for part, key in _places(tree) if not isinstance(part[key], (dict, list))]
    if not places:
        return tree, "honest"
    container, key = draw.one(places)
    container[key] = similar(draw, container[key])
    return tree, "one value"


def similar(draw: Draw, value: Any) -> Any:
    """Another value that could stand in the place of this one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return draw.one([value + 1, value - 1, 2 * value, 100 * value, 0, 1, -value, value + 0.5, float(value)])
    if isinstance(value, float):
        return draw.one([value / 2, 2 * value, -value, value + 1e-3, 0.0, 1.0, 1e30 * value, int(value)])
    if isinstance(value, str):
        return draw.one([f"{value}x", value[1:], value.upper(), f"{value}\x1b[31m", f"{value}\u202e", f"{value}/../x"])
    return draw.one([0, 1.5, "x", [], {}])


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """All containers of a tree with each of their keys, down to a depth of 100."""
    found: list[tuple[Any, Any]] = []
    waiting = [(tree, 0)]
    while waiting:
        part, depth = waiting.pop()
        keys = list(part) if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
        for key in keys:
            found.append((part, key))
            if depth < 100:
                waiting.append((part[key], depth + 1))
    return found


def _somewhere(draw: Draw, tree: Any) -> tuple[Any, Any]:
    """A random container in the tree and a key of it; None if there is none."""
    found = _places(tree)
    return draw.one(found) if found else (None, None)
